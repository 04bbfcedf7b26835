"""The way into the inbox: one set of rules for every request, whichever shell received it.

``judge`` says what is to be done with a request: refuse it, or keep it. Keeping means committed to the database or,
while that is away, fsynced to the spool; only then may the sender hear 200. Nothing here looks at what a body means.
"""

import hashlib
import ipaddress
import json
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone

from webhooks import bell, spool
from webhooks.errors import clean_text
from webhooks.models import Delivery, Endpoint, digest_of

logger = logging.getLogger(__name__)

MOST_BYTES = 1024 * 1024
"""A longer body is refused; ``KEPT_OF_TOO_LARGE`` bytes of it are quarantined, so that somebody can see what it was."""
KEPT_OF_TOO_LARGE = 64 * 1024
MOST_DRAINED = 10 * MOST_BYTES
"""How much of a refused body is read before the answer: a sender who is cut off while sending sees no answer at all."""
FRESH_SECONDS = 0.5
"""Age at which the table of webhook URLs is read again: a revoked one stops working within a second."""
REFRESH_PAUSE_SECONDS = 0.1
"""The table is read no more often than this, however many unknown tokens are tried."""
READ_WAIT_SECONDS = 0.3
"""How long one thread waits for another that is reading the table."""
AWAY_SECONDS = 2.0
"""How long a database that failed is not tried again by ``accept``."""
METHODS = ("GET", "POST")

PATH = re.compile(r"/webhooks/([^/]+)/([^/]+)/?")

counters: Counter[str] = Counter()
"""What this process has answered since it started, by kind."""


class Body:
    """Reads a body in pieces and keeps no more of it than is needed."""

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[bytes] = []
        self._kept = 0
        self._digest = hashlib.sha256()

    def feed(self, piece: bytes) -> bool:
        """Take the next piece; return whether more should be read."""
        self.size += len(piece)
        self._digest.update(piece)
        if self._kept <= MOST_BYTES:
            self._pieces.append(piece)
            self._kept += len(piece)
        return self.size <= MOST_DRAINED

    @property
    def is_too_large(self) -> bool:
        return self.size > MOST_BYTES

    @property
    def content(self) -> bytes:
        """The whole body, or the beginning of one that is too large."""
        content = b"".join(self._pieces)
        return content[:KEPT_OF_TOO_LARGE] if self.is_too_large else content

    @property
    def digest(self) -> str:
        """SHA-256 of all that was read."""
        return self._digest.hexdigest()


class Request(NamedTuple):
    """What the rules need to know of a request. ``path`` is percent-decoded, ``query`` is raw."""

    method: str
    path: str
    query: bytes
    content_type: str
    peer: str
    forwarded_for: str
    body: Body


class Answer(NamedTuple):
    """Status and JSON body; headers beside the content type."""

    status: int
    content: dict[str, str]
    headers: Mapping[str, str] = {}

    @property
    def all_headers(self) -> dict[str, str]:
        # A cached answer to a GET would swallow the next event.
        return {"Content-Type": "application/json", "Cache-Control": "no-store", **self.headers}

    @property
    def payload(self) -> bytes:
        return json.dumps(self.content).encode()


NOT_FOUND = Answer(404, {"status": "not found"})
NOT_ALLOWED = Answer(405, {"status": "method not allowed"}, {"Allow": ", ".join(METHODS)})
UNAVAILABLE = Answer(503, {"status": "unavailable"}, {"Retry-After": "5"})


class _Way(NamedTuple):
    """Where a webhook URL leads, and from where it may be used."""

    account_id: int
    provider: str
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]


class _Ways:
    """The webhook URLs that are valid now, by the digest of their token; those of before while the database is away."""

    def __init__(self) -> None:
        self._ways: dict[str, _Way] | None = None
        self._read_at = -FRESH_SECONDS
        self._lock = threading.Lock()

    @property
    def is_stale(self) -> bool:
        return time.monotonic() - self._read_at > FRESH_SECONDS

    @property
    def are_known(self) -> bool:
        """Whether the table was ever read."""
        return self._ways is not None

    def knows(self, token: str) -> bool:
        return self._ways is not None and digest_of(token) in self._ways

    @property
    def may_be_read(self) -> bool:
        return time.monotonic() - self._read_at > REFRESH_PAUSE_SECONDS

    def read(self) -> None:
        """Read the table, or wait a little for a thread that is at it; keep the last one while the database is away."""
        asked_at = time.monotonic()
        if not self._lock.acquire(timeout=READ_WAIT_SECONDS):
            return
        try:
            if self._read_at > asked_at:
                return  # the other thread has read it
            began = time.monotonic()
            valid = Endpoint.objects.filter(retired_at=None, account__is_active=True)
            rows = valid.values_list("digest", "account_id", "account__provider", "account__allowed_networks")
            self._ways = {
                digest: _Way(account_id, provider, tuple(map(ipaddress.ip_network, networks.split())))
                for digest, account_id, provider, networks in rows
            }
            self._read_at = began
        except (DatabaseError, InterfaceError):
            _leave_alone_for_a_while()
            self._read_at = time.monotonic()
        finally:
            self._lock.release()

    def find(self, provider: str, token: str, address: str) -> int | None:
        """Return the account that the URL belongs to, or ``None``. Raises ``LookupError`` when nothing is known yet."""
        if self._ways is None:
            raise LookupError
        way = self._ways.get(digest_of(token))
        if way is None or way.provider != provider:
            return None
        if way.networks and not _is_within(address, way.networks):
            return None
        return way.account_id


ways = _Ways()


def needs_reading(path: str) -> bool:
    """Return whether the table of URLs is to be read before ``path`` is judged."""
    match = PATH.fullmatch(path)
    return bool(match) and (ways.is_stale or (not ways.knows(match[2]) and ways.may_be_read))


def judge(request: Request) -> Delivery | Answer:
    """Return the delivery to keep, or the answer that refuses the request. Touches no database."""
    match = PATH.fullmatch(request.path)
    if match is None:
        return _refuse(NOT_FOUND, "not_found")
    if request.method not in METHODS:
        return _refuse(NOT_ALLOWED, "not_allowed")
    address = sender_address(request.peer, request.forwarded_for)
    try:
        account_id = ways.find(match[1], match[2], address)
    except LookupError:
        return _refuse(UNAVAILABLE, "unavailable")
    if account_id is None:
        return _refuse(NOT_FOUND, "not_found")
    body = request.body
    delivery = Delivery(
        account_id=account_id,
        received_at=timezone.now(),
        method=request.method,
        content_type=clean_text(request.content_type)[:255],
        remote_address=address[:45],
        query=request.query,
        body=body.content,
        size=body.size,
        digest=body.digest if body.size else hashlib.sha256(request.query).hexdigest(),
    )
    if body.is_too_large:
        delivery.status = Delivery.Status.QUARANTINED
        delivery.processed_at = delivery.received_at
        delivery.error_class = "TooLarge"
        delivery.error_field = "body"
        delivery.error_value = f"{body.size} bytes" if body.size <= MOST_DRAINED else f"over {MOST_DRAINED} bytes"
        delivery.error_message = f"A body may have {MOST_BYTES} bytes; the first {KEPT_OF_TOO_LARGE} were kept."
    return delivery


def answer_for(delivery: Delivery) -> Answer:
    """Return the answer for a delivery that is kept."""
    if delivery.error_class:
        return _refuse(Answer(413, {"status": "too large", "delivery": str(delivery.pk)}), "too_large")
    counters["accepted"] += 1
    return Answer(200, {"status": "accepted", "delivery": str(delivery.pk)})


def unavailable() -> Answer:
    """Return the answer when neither database nor spool could keep the delivery."""
    return _refuse(UNAVAILABLE, "unavailable")


def accept(request: Request) -> Answer:
    """Judge and keep a request in the calling thread: for WSGI, the development server, and our own test button."""
    if needs_reading(request.path) and (_may_be_asked() or not ways.are_known):
        ways.read()
    verdict = judge(request)
    if isinstance(verdict, Answer):
        return verdict
    if not (_may_be_asked() and _commit(verdict)) and not keep_in_spool(verdict):
        return unavailable()
    bell.ring()
    return answer_for(verdict)


def _commit(delivery: Delivery) -> bool:
    try:
        delivery.save(force_insert=True)
    except (DatabaseError, InterfaceError):
        _leave_alone_for_a_while()
        return False
    return True


_asked_again_at = 0.0


def _may_be_asked() -> bool:
    return time.monotonic() >= _asked_again_at


def _leave_alone_for_a_while() -> None:
    """Note that the database failed: each further try may take as long as it takes to find out."""
    global _asked_again_at
    connection.close()
    _asked_again_at = time.monotonic() + AWAY_SECONDS


def keep_in_spool(delivery: Delivery) -> bool:
    """Write the delivery to the spool; return whether it is safe there."""
    try:
        spool.append(delivery)
    except OSError as error:
        logger.error("a delivery could be kept neither in the database nor in the spool: %s", error.strerror)
        return False
    counters["spooled"] += 1
    return True


def sender_address(peer: str, forwarded_for: str) -> str:
    """Return the address that the request came from.

    Each proxy of ours adds to X-Forwarded-For the address that it saw, so the one to trust stands as far from the right
    as there are proxies; what stands left of it was made up by whoever likes to.
    """
    hops = [hop.strip() for hop in forwarded_for.split(",")]
    if settings.TRUSTED_PROXIES and len(hops) >= settings.TRUSTED_PROXIES:
        try:
            return str(ipaddress.ip_address(hops[-settings.TRUSTED_PROXIES]))
        except ValueError:
            pass
    return peer


def _is_within(address: str, networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]) -> bool:
    try:
        sender = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(sender, ipaddress.IPv6Address) and sender.ipv4_mapped:
        sender = sender.ipv4_mapped
    return any(sender in network for network in networks)


def _refuse(answer: Answer, kind: str) -> Answer:
    counters[kind] += 1
    return answer
