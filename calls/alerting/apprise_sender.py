"""Sends one message through Apprise, in a process of its own that is kept from everything but the public internet.

Apprise holds some 150 services by as many authors: which hosts one of them connects to, which redirect it follows and
which file it reads cannot be told from its URL. An audit hook, which cannot be taken off again, looks at what it does.
Run as ``python -m calls.alerting.apprise_sender``; it reads an order as JSON and prints what came of it as JSON.
"""

import ipaddress
import json
import logging
import os
import re
import sys
from collections.abc import Sequence

from calls.addresses import Network, may_reach

_PROCESSES = ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.startfile", "pty.")
_READABLE = (sys.prefix, sys.base_prefix, "/etc/ssl/", "/etc/hosts", "/etc/mime.types", "/usr/lib/", "/usr/share/")


class Refused(PermissionError):
    """What Apprise was kept from."""


def guard(allowed: Sequence[Network], refusals: list[str]) -> None:
    """From here on, connect to nothing but public or ``allowed`` addresses, start nothing, read no file of ours.

    What was refused is added to ``refusals``, since a plugin may hide it.
    """

    def look(event: str, arguments: tuple) -> None:
        reason = _objection(event, arguments, allowed)
        if reason:
            refusals.append(reason)
            raise Refused(reason)

    sys.addaudithook(look)


def _objection(event: str, arguments: tuple, allowed: Sequence[Network]) -> str:
    if event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
        target = arguments[1]  # none: the socket is connected, and was looked at then
        host = str(target[0]).partition("%")[0] if isinstance(target, tuple) else ""
        if target is not None and not may_reach(host, allowed):
            return f"It leads to {host or 'this machine'}, which is not on the public internet."
    elif event == "open":
        path = arguments[0]
        if not isinstance(path, int) and not os.path.normpath(os.fsdecode(path)).startswith(_READABLE):
            return "It would read or write a file of this server."
    elif event.startswith(_PROCESSES):
        return "It would start a program on this server."
    return ""


class _Statuses(logging.Handler):
    """Keeps the HTTP statuses that Apprise logs, and nothing else of it: its lines may hold tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found += re.findall(r"\berror=(\d{3})\b", record.getMessage())


def main() -> None:
    """Do what the order on the standard input says."""
    order = json.load(sys.stdin)
    import apprise
    from apprise.plugins import N_MGR

    N_MGR.load_modules()
    logger, statuses, refusals = logging.getLogger("apprise"), _Statuses(), []
    logger.addHandler(statuses)
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    guard([ipaddress.ip_network(text) for text in order["allowed"]], refusals)
    plugin = apprise.Apprise.instantiate(order["url"])
    if plugin:
        plugin.redirects, plugin.service_retry = False, 0
    is_sent = bool(plugin) and plugin.notify(body=order["text"], title=order["subject"])
    answer = {"is_sent": bool(is_sent), "refusals": refusals, "statuses": statuses.found}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
