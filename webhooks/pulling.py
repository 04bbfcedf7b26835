"""Reading a provider's own lists of calls, for what its deliveries do not say: the price of each call.

Each page goes into the inbox as it came and is understood by the adapter like any other delivery, so that what was
said is kept, explained and can be derived again. A page without a row, and one that is there already, are left out.
Lists are read by windows of a fixed grid that have passed, oldest first: the end of a question is fixed, and a window
that is read again is asked for in the same words, so that the same answer is known again.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from urllib.parse import urlencode

import httpx
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from calls.models import Account
from calls.sealing import SealBroken, unseal
from webhooks import bell
from webhooks.decoding import decode
from webhooks.errors import DeliveryError, Refused
from webhooks.inbox import MOST_BYTES
from webhooks.models import Delivery
from webhooks.providers import PROVIDERS, Pull
from webhooks.providers.telecmi import Edition

logger = logging.getLogger(__name__)

QUARTER = timedelta(minutes=15)
LONG = timedelta(hours=6)
"""Width of a window where a longer time is read at once."""
FIRST_READS = timedelta(days=1)
"""How far back the first reading of an account begins."""
READ_AGAIN = (timedelta(days=1), timedelta(hours=6), 3 * QUARTER, 2 * QUARTER, QUARTER)
"""How long after its first reading a window is read again: calls are listed, and priced, some time after they end."""
TIMEOUT_SECONDS = 10.0
MOST_PAGES = 500
"""Pages of one list in one window: a provider whose pages never end is not followed."""


class PullFailed(Exception):
    """A page could not be had; the message says why, and what to do where something can be done."""


class Window(NamedTuple):
    """A stretch of time in which calls began, its end not included."""

    begin: datetime
    end: datetime


class Pulled(NamedTuple):
    """What one reading came to."""

    windows: int
    requests: int
    stored: int
    """Pages that said something new."""
    error: str
    """Why it ended early; ``""`` when it did not."""


class _Page(NamedTuple):
    query: bytes
    body: bytes
    received_at: datetime


def can_pull(account: Account) -> bool:
    """Return whether the account's provider has lists and we have the account's secret."""
    return bool(account.sealed_secret) and PROVIDERS[account.provider].pull is not None


def turns(read_until: datetime | None, since: datetime | None, now: datetime) -> Iterator[list[Window]]:
    """Yield the windows to read, turn by turn, up to the last full quarter of an hour; each turn ends with a new one.

    Going on from ``read_until``, what had been read before is read again as ``READ_AGAIN`` says. ``since`` reads from
    there on instead, or from ``read_until`` where that is earlier: nothing is left out between the two.
    """
    until = _floor(now, QUARTER)
    begin = _floor(min(filter(None, (since, read_until)), default=until - FIRST_READS), QUARTER)
    known_until = begin if read_until and not since else None
    again: set[Window] = set()
    for new in _cut(begin, until):
        earlier = {Window(new.begin - lag, new.end - lag) for lag in READ_AGAIN if known_until}
        earlier = {window for window in earlier - again if window.end <= (known_until or window.begin)}
        again |= earlier
        yield [*sorted(earlier), new]


def pull(
    account: Account,
    now: datetime,
    *,
    since: datetime | None = None,
    budget: timedelta | None = None,
    address: str | None = None,
    report: Callable[[Window, int], None] = lambda window, stored: None,
) -> Pulled:
    """Read the account's lists up to ``now`` and put what is new in the inbox; note on the account how far that went.

    Pages and the note of how far are one transaction a turn. What fails is noted as ``pull_error`` and tried again by
    the next reading. With a ``budget``, no turn is begun after half of it, and one that is not done by its end has
    failed. ``address`` stands in for the provider's own (tests). ``report`` hears of each turn: its new window, and how
    many pages it stored.
    """
    began = time.monotonic()
    windows = requests = stored = 0
    error = ""
    try:
        reading = _Reading(account, address, None if budget is None else began + budget.total_seconds())
        with reading:
            for turn in turns(account.pulled_until, since, now):
                if budget is not None and time.monotonic() - began > budget.total_seconds() / 2:
                    break
                pages = [page for window in turn for page in reading.pages_of(window)]
                requests = reading.requests
                new = _store(account, pages, turn[-1].end)
                windows, stored = windows + len(turn), stored + new
                report(turn[-1], new)
    except SealBroken as broken:
        error = f"The API secret of “{account}” is of no use. {broken}"
    except PullFailed as failure:
        error = str(failure)
    if error:
        logger.warning("the lists of account %s could not be read: %s", account.slug, error)
    Account.objects.filter(pk=account.pk).update(pull_error=error)
    if stored:
        bell.ring()
    return Pulled(windows, requests, stored, error)


class _Reading:
    """A connection to the provider for one reading of one account. The secret is in it, and in nothing that it says."""

    def __init__(self, account: Account, address: str | None, deadline: float | None) -> None:
        pull = PROVIDERS[account.provider].pull
        if pull is None or not account.sealed_secret:
            raise PullFailed(f"{account} has no API secret, or its provider no lists of calls.")
        if not account.app_id.isdecimal() or not account.app_id.isascii():
            raise PullFailed(f"The app id “{account.app_id}” is not a number. Correct it on the account's page.")
        self.requests = 0
        self._pull: Pull = pull
        self._edition: Edition = pull.editions[account.api_base]
        self._address = (address or self._edition.address).rstrip("/")
        self._app_id = account.app_id
        self._secret = unseal(account.sealed_secret, settings.SECRET_KEY)
        self._deadline = deadline
        self._client = httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False)

    def __enter__(self) -> "_Reading":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def pages_of(self, window: Window) -> Iterator[_Page]:
        """Yield the pages of every list that have a row."""
        for name in self._edition.lists:
            for number in range(1, MOST_PAGES + 1):
                body = self._ask(name, window, number)
                received_at = timezone.now()
                total, rows = self._answer(name, body, received_at)
                if rows:
                    asked = {"list": name, "begin": _text(window.begin), "end": _text(window.end), "page": number}
                    yield _Page(urlencode(asked, safe=":").encode(), body, received_at)
                if rows < self._pull.page_rows or number * self._pull.page_rows >= total:
                    break
            else:
                raise PullFailed(f"The list “{name}” from {_text(window.begin)} on has more than {MOST_PAGES} pages.")

    def _ask(self, name: str, window: Window, number: int) -> bytes:
        """Return the body of an answer of HTTP 200: all of it, within the time limit, and not too long."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise PullFailed("The provider is too slow for one turn. Read its lists with: manage.py pull")
        question = self._pull.question(
            self._edition, app_id=self._app_id, secret=self._secret, begin=window.begin, end=window.end, page=number
        )
        self.requests += 1
        give_up = time.monotonic() + TIMEOUT_SECONDS
        body = b""
        try:
            with self._client.stream("POST", f"{self._address}/{name}", json=question) as response:
                for piece in response.iter_bytes():
                    body += piece
                    if len(body) > MOST_BYTES:
                        raise PullFailed(f"The list “{name}” gave a page of more than {MOST_BYTES} bytes.")
                    if time.monotonic() > give_up:  # the client's own limit is for each piece
                        raise httpx.ReadTimeout("too slow")
        except httpx.TimeoutException:
            raise PullFailed(f"The list “{name}” gave no answer within {TIMEOUT_SECONDS:.0f} s.") from None
        except httpx.HTTPError as error:
            # Without its own text, which may name what was sent.
            raise PullFailed(f"The list “{name}” could not be asked for: {type(error).__name__}.") from None
        if response.status_code == httpx.codes.NOT_FOUND:
            body = b'{"code": 404}'
        elif response.status_code != httpx.codes.OK:
            raise PullFailed(f"The list “{name}” gave HTTP {response.status_code}.")
        return body

    def _answer(self, name: str, body: bytes, received_at: datetime) -> tuple[int, int]:
        try:
            payload = decode(body=body, query=b"", content_type="application/json")[0]
            if isinstance(payload, DeliveryError):
                raise payload
            return self._pull.answer(payload, received_at=received_at)
        except Refused as refusal:
            advice = "Check app id, API secret and which API it is on the account's page."
            raise PullFailed(f"The list “{name}” gave {refusal}. {advice}") from None
        except DeliveryError as problem:
            raise PullFailed(f"The answer of the list “{name}” makes no sense: {problem.message}.") from None


def _store(account: Account, pages: Sequence[_Page], read_until: datetime) -> int:
    """Put the pages that say something new in the inbox and note how far was read; return how many were new.

    Most windows are read several times and say the same each time: those pages would only fill the inbox.
    """
    digests = {page: hashlib.sha256(page.body).hexdigest() for page in pages}
    unread = Q(pulled_until=None) | Q(pulled_until__lt=read_until)
    with transaction.atomic():
        same = Delivery.objects.filter(account=account, digest__in=set(digests.values())).order_by()
        known = {(digest, bytes(query)) for digest, query in same.values_list("digest", "query")}
        new = Delivery.objects.bulk_create(
            Delivery(
                account=account,
                method=Delivery.PULL,
                content_type="application/json",
                query=page.query,
                body=page.body,
                size=len(page.body),
                digest=digest,
                received_at=page.received_at,
            )
            for page, digest in digests.items()
            if (digest, page.query) not in known
        )
        Account.objects.filter(unread, pk=account.pk).update(pulled_until=read_until)
    return len(new)


def _cut(begin: datetime, end: datetime) -> Iterable[Window]:
    """Yield the windows from ``begin``, on the grid, to ``end``: long ones where there is room for them."""
    while begin < end:
        is_long = _floor(begin, LONG) == begin and begin + LONG <= end
        window = Window(begin, begin + (LONG if is_long else QUARTER))
        yield window
        begin = window.end


def _floor(moment: datetime, width: timedelta) -> datetime:
    return moment.astimezone(UTC) - (moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) % width


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
