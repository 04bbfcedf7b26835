"""The way into the inbox: one set of rules for every request, whichever shell received it.

``judge`` says what is to be done with a request: refuse it, or keep it. Keeping means committed to the database or,
while that is away, fsynced to the spool; only then may the sender hear 200. Nothing here looks at what a body means.
"""

import contextlib
import hashlib
import ipaddress
import json
import logging
import os
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone

from calls.ids import new_id
from calls.senders import sender_address
from webhooks import bell, spool
from webhooks.errors import clean_text
from webhooks.models import Delivery, Endpoint, digest_of
from webhooks.storing import NewDelivery, insert

logger = logging.getLogger(__name__)

MOST_BYTES = 1024 * 1024
"""A longer body is refused; ``KEPT_OF_TOO_LARGE`` bytes of it are quarantined, so that somebody can see what it was."""
KEPT_OF_TOO_LARGE = 64 * 1024
MOST_DRAINED = 10 * MOST_BYTES
"""How much of a refused body is read before the answer: a sender who is cut off while sending sees no answer at all."""
FRESH_SECONDS = 0.5
"""Age at which the table of webhook URLs is read again."""
STALE_SECONDS = 0.9
"""Age at which no request goes by it without a try to read it first: a revoked URL stops working within a second."""
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
    """Status, JSON body and headers."""

    status: int
    payload: bytes
    # A cached answer to a GET would swallow the next event.
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))

    @property
    def content(self) -> dict[str, str]:
        return json.loads(self.payload)

    def with_header(self, name: str, value: str) -> "Answer":
        return self._replace(headers=(*self.headers, (name, value)))


NOT_FOUND = Answer(404, b'{"status": "not found"}')
NOT_ALLOWED = Answer(405, b'{"status": "method not allowed"}').with_header("Allow", ", ".join(METHODS))
UNAVAILABLE = Answer(503, b'{"status": "unavailable"}').with_header("Retry-After", "5")


class _Way(NamedTuple):
    """Where a webhook URL leads, and from where it may be used."""

    account_id: int
    provider: str
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]


class _Ways:
    """The webhook URLs that are valid now, by the digest of their token; those of before while the database is away.

    A file in DATA_DIR holds the last table, so that a process that starts while the database is away can accept.
    """

    def __init__(self) -> None:
        self._table: dict[str, list] = {}
        """Account, provider and networks by digest, as they are in the file."""
        self._ways: dict[str, _Way] | None = None
        self._by_path: dict[str, _Way] = {}
        """Those that were used since the table was read, so that a token is hashed once."""
        self._read_at = -float("inf")
        self._lock = threading.Lock()

    @property
    def age(self) -> float:
        """Seconds since it was last tried to read the table."""
        return time.monotonic() - self._read_at

    @property
    def are_known(self) -> bool:
        """Whether there is a table."""
        return self._ways is not None

    def read(self) -> None:
        """Read the table, or wait a little for a thread that is at it; keep the last one while the database is away."""
        asked_at = time.monotonic()
        if not self._lock.acquire(timeout=READ_WAIT_SECONDS):
            return
        try:
            if self._read_at > asked_at:
                return  # the other thread has read it
            began = time.monotonic()
            valid = Endpoint.objects.filter(retired_at=None, account__is_active=True).order_by("pk")
            rows = valid.values_list("digest", "account_id", "account__provider", "account__allowed_networks")
            table = {digest: way for digest, *way in rows}
            if table != self._table or not self.are_known:
                _write_to_file(table)
            self._take(table)
            self._read_at = began
        except (DatabaseError, InterfaceError):
            _leave_alone_for_a_while()
            self._read_at = time.monotonic()
        finally:
            self._lock.release()

    def recall(self) -> None:
        """Take the table from the file, unless there is one already."""
        if not self.are_known:
            with contextlib.suppress(FileNotFoundError):
                self._take(json.loads(_file().read_bytes()))

    def _take(self, table: dict[str, list]) -> None:
        self._table = table
        self._ways = {
            digest: _Way(account_id, provider, tuple(map(ipaddress.ip_network, networks.split())))
            for digest, (account_id, provider, networks) in table.items()
        }
        self._by_path = {}

    def find(self, path: str) -> _Way | None:
        """Return where ``path`` leads, if anywhere."""
        if way := self._by_path.get(path):
            return way
        match = PATH.fullmatch(path)
        way = (self._ways or {}).get(digest_of(match[2])) if match else None
        if match is None or way is None or way.provider != match[1]:
            return None
        self._by_path[path] = way
        return way


ways = _Ways()


def _file() -> Path:
    return settings.DATA_DIR / "webhook-urls.json"


def _write_to_file(table: dict[str, list]) -> None:
    """Keep the table for a process to come. There are digests in it, no tokens."""
    try:
        with tempfile.NamedTemporaryFile("w", dir=settings.DATA_DIR, delete=False) as new:  # only its owner may read it
            json.dump(table, new)
        os.replace(new.name, _file())
    except OSError as error:
        logger.warning("the table of webhook URLs could not be kept in DATA_DIR: %s", error.strerror)


def needs_reading(path: str) -> bool:
    """Return whether the table of URLs is to be read again, on account of its age or of ``path``, which it lacks."""
    age = ways.age
    if age > FRESH_SECONDS:
        return PATH.fullmatch(path) is not None
    return age > REFRESH_PAUSE_SECONDS and ways.find(path) is None and PATH.fullmatch(path) is not None


def judge(request: Request) -> NewDelivery | Answer:
    """Return the delivery to keep, or the answer that refuses the request. Touches no database."""
    path = request.path
    way = ways.find(path)
    if request.method not in METHODS and PATH.fullmatch(path):
        return _refuse(NOT_ALLOWED, "not_allowed")
    if way is None:
        is_known_to_be_none = ways.are_known or not PATH.fullmatch(path)
        return _refuse(NOT_FOUND, "not_found") if is_known_to_be_none else unavailable()
    address = sender_address(request.peer, request.forwarded_for)
    if way.networks and not _is_within(address, way.networks):
        return _refuse(NOT_FOUND, "not_found")
    body = request.body
    delivery = NewDelivery(
        id=new_id(),
        account_id=way.account_id,
        received_at=timezone.now(),
        method=request.method,
        content_type=clean_text(request.content_type)[:255],
        remote_address=address[:45],
        query=request.query,
        body=body.content,
        size=body.size,
        digest=body.digest if body.size else hashlib.sha256(request.query).hexdigest(),
    )
    if not body.is_too_large:
        return delivery
    return delivery._replace(
        status=Delivery.Status.QUARANTINED.value,
        processed_at=delivery.received_at,
        error_class="TooLarge",
        error_field="body",
        error_value=f"{body.size} bytes" if body.size <= MOST_DRAINED else f"over {MOST_DRAINED} bytes",
        error_message=f"A body may have {MOST_BYTES} bytes; the first {KEPT_OF_TOO_LARGE} were kept.",
    )


def answer_for(delivery: NewDelivery) -> Answer:
    """Return the answer for a delivery that is kept."""
    name = str(delivery.id).encode()
    if delivery.error_class:
        return _refuse(Answer(413, b'{"status": "too large", "delivery": "%b"}' % name), "too_large")
    counters["accepted"] += 1
    return Answer(200, b'{"status": "accepted", "delivery": "%b"}' % name)


def unavailable() -> Answer:
    """Return the answer when neither database nor spool could keep the delivery."""
    return _refuse(UNAVAILABLE, "unavailable")


def accept(request: Request) -> Answer:
    """Judge and keep a request in the calling thread: for WSGI, the development server, and our own test button."""
    if needs_reading(request.path):
        if _may_be_asked():
            ways.read()
        ways.recall()
    verdict = judge(request)
    if isinstance(verdict, Answer):
        return verdict
    if not (_may_be_asked() and _commit(verdict)) and not keep_in_spool([verdict]):
        return unavailable()
    bell.ring()
    return answer_for(verdict)


def _commit(delivery: NewDelivery) -> bool:
    try:
        return not insert([delivery])
    except (DatabaseError, InterfaceError):
        _leave_alone_for_a_while()
        return False


_asked_again_at = 0.0


def _may_be_asked() -> bool:
    return time.monotonic() >= _asked_again_at


def _leave_alone_for_a_while() -> None:
    """Note that the database failed: each further try may take as long as it takes to find out."""
    global _asked_again_at
    connection.close()
    _asked_again_at = time.monotonic() + AWAY_SECONDS


def keep_in_spool(deliveries: Sequence[NewDelivery]) -> bool:
    """Write deliveries to the spool; return whether they are safe there: all of them or none."""
    try:
        spool.append(deliveries)
    except OSError as error:
        logger.error("deliveries could be kept neither in the database nor in the spool: %s", error.strerror)
        return False
    counters["spooled"] += len(deliveries)
    return True


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
