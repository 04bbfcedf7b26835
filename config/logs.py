"""One line a log record, and no secrets in it."""

import logging
import re

_SECRETS = re.compile(r"(/webhooks/[^/\s\"']+/)[^\s\"'?]+|\brl_[A-Za-z0-9_-]{20,}")


class HideSecrets(logging.Filter):
    """Masks webhook tokens and API keys wherever they turn up in a message or its arguments."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        masked = _mask(message)
        if masked != message:
            record.msg, record.args = masked, None
        return True


class OneLine(logging.Formatter):
    """``time level logger message``; line breaks and control characters escaped, so that nobody can forge a line."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        text = _mask(super().format(record))
        return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _mask(text: str) -> str:
    return _SECRETS.sub(lambda match: (match[1] or "") + "[hidden]", text)
