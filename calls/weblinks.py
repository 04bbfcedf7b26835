"""Web addresses in what providers say, cut down to their hosts: behind one there may be a recording, for anybody.

Pure.
"""

import re

_HOST = r"(?P<host>\[[0-9a-f:.]{2,40}\]|[\w.-]{1,253})"
_FLAGS = re.ASCII | re.IGNORECASE
# What stands before the host, a login, is bounded: without, a long text of nothing but beginnings would take hours.
_PLAIN = re.compile(rf"https?:(?:\\?/){{2}}(?:[^\s\"'<>/\\@]{{0,200}}@)?{_HOST}[^\s\"'<>]*", _FLAGS)
_IN_A_FORM = re.compile(rf"https?%3A%2F%2F(?:[^\s\"'<>&@]{{0,200}}(?:@|%40))?{_HOST}[^\s\"'<>&]*", _FLAGS)


def shortened(text: str) -> str:
    """Return ``text`` with every web address in it, also one within a form, as its host and dots."""
    for pattern in (_IN_A_FORM, _PLAIN):
        text = pattern.sub(lambda found: f"{found['host']}/…", text)
    return text
