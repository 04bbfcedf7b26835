"""The figures of the inbox: rate, lag, repeats, quarantine, and when we seem to have been away.

Each query is bounded by a time window that an index serves, and by a number of rows beyond which the window is cut
shorter; ``since`` of a figure says where it begins, so that a list can be filtered to exactly what was counted.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Count, F, Max, Min, Q, QuerySet
from django.db.models.functions import TruncHour, TruncMinute
from django.utils import timezone

from calls.counting import CAP, count_up_to_cap
from calls.models import Account, StoredRecord
from calls.records import LegCdr, load_record
from webhooks import spool
from webhooks.models import Delivery

Status = Delivery.Status
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
MOST_OF_HOUR, MOST_OF_DAY = 50_000, 100_000
"""Deliveries that are counted at most; of more, only the latest minutes or hours are."""
GROUPS = 50
"""Reasons of quarantine at most that are shown."""
MOST_ARRIVALS = 50_000
"""Deliveries that are looked through for outages at most."""
MOST_LATE = 1_000
"""Calls with a late report that are looked at, at most: the latest."""

RESENT_AFTER = (timedelta(0), 5 * MINUTE, 15 * MINUTE, 30 * MINUTE)
"""When PIOPIY sends a CDR, counted from the call's end: doc.telecmi.com/piopiy/docs/webhooks-overview."""
TOLERANCE = MINUTE
"""How far a copy may be from these times: clocks differ, and sending takes a while."""
SHORTEST_GAP = MINUTE
"""With anything received so shortly before and after a missed report we were not away: that one request failed."""


class Rate(NamedTuple):
    """How many deliveries came in, by the beginning of the minute or hour and by status, without gaps."""

    since: datetime
    is_cut: bool
    """Whether there were too many to count the whole window."""
    width: timedelta
    buckets: dict[datetime, Counter[str]]
    accounts: dict[int, Counter[str]]
    """The same deliveries by account and status."""


class Witness(NamedTuple):
    """The first copy of a report that was received, and the end of its call by the provider's clock."""

    delivery: UUID
    received_at: datetime
    ended_at: datetime


class Outage(NamedTuple):
    """A time in which we seem to have been away."""

    heard_until: datetime | None
    """The last delivery before it; ``None`` when none is known."""
    first_missed: datetime
    last_missed: datetime
    heard_again: datetime
    deliveries: tuple[UUID, ...]
    """The reports that arrived only by a retry."""


def rate_of_hour() -> Rate:
    """Return the deliveries of the last 60 minutes, the running one included, by minute."""
    now = timezone.localtime().replace(second=0, microsecond=0)
    return _rate(now - 59 * MINUTE, 60, MINUTE, TruncMinute("received_at"), MOST_OF_HOUR)


def rate_of_day() -> Rate:
    """Return the deliveries of the last 24 hours, the running one included, by hour of the viewer's zone."""
    now = timezone.localtime().replace(minute=0, second=0, microsecond=0)
    return _rate(now - 23 * HOUR, 24, HOUR, TruncHour("received_at"), MOST_OF_DAY)


def _rate(start: datetime, count: int, width: timedelta, bucket: TruncMinute | TruncHour, most: int) -> Rate:
    starts = [start + number * width for number in range(count)]
    received = Delivery.objects.filter(received_at__gte=start)
    too_old = received.order_by("-received_at", "-id").values_list("received_at", flat=True)[most : most + 1].first()
    if too_old:  # a bucket that could be counted in part only is left out, but for the running one
        starts = [begin for begin in starts if begin > too_old] or starts[-1:]
    since = max(starts[0], too_old or start)
    buckets: dict[datetime, Counter[str]] = {begin: Counter() for begin in starts}
    accounts: dict[int, Counter[str]] = defaultdict(Counter)
    rows = received.filter(received_at__gte=since).order_by()
    for begin, account, status, number in rows.values_list(bucket, "account", "status").annotate(Count("pk")):
        accounts[account][status] += number
        if begin in buckets:
            buckets[begin][status] += number
    return Rate(since, too_old is not None, width, buckets, accounts)


def repeats(rate: Rate) -> list[dict[str, Any]]:
    """Return ``account``, its name, ``total`` and ``repeats`` of each account that ``rate`` counts deliveries of."""
    found = [
        {
            "account": account.pk,
            "name": str(account),
            "total": rate.accounts[account.pk].total(),
            "repeats": rate.accounts[account.pk][Status.REPEAT],
        }
        for account in Account.objects.filter(pk__in=list(rate.accounts))
    ]
    return sorted(found, key=lambda row: (-row["repeats"], row["name"]))


def lag() -> dict[str, Any]:
    """Return ``pending`` (capped), the age of the oldest in ``seconds`` or ``None``, and this server's spool."""
    pending = Delivery.objects.filter(status=Status.PENDING)
    oldest = pending.order_by("received_at", "id").values_list("received_at", flat=True).first()
    sizes = []
    for path in spool.waiting_files():
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:  # drained meanwhile
            continue
    return {
        "pending": count_up_to_cap(pending),
        "seconds": None if oldest is None else max(0, round((timezone.now() - oldest).total_seconds())),
        "spool_files": sum(size > 0 for size in sizes),
        "spool_bytes": sum(sizes),
    }


def quarantined() -> tuple[list[dict[str, Any]], datetime | None]:
    """Return the reasons with ``count`` and ``newest``, most frequent first, and where counting begins if not at all.

    Only the newest ``CAP`` are counted.
    """
    rows = Delivery.objects.filter(status=Status.QUARANTINED)
    too_old = rows.order_by("-received_at", "-id").values_list("received_at", flat=True)[CAP : CAP + 1].first()
    since = too_old + timedelta(microseconds=1) if too_old else None
    if since:
        rows = rows.filter(received_at__gte=since)
    groups = rows.order_by().values("error_class", "error_field", "error_value")
    found = groups.annotate(count=Count("pk"), newest=Max("received_at")).order_by("-count", "-newest")
    return list(found[:GROUPS]), since


# --- Our own downtime ------------------------------------------------------------------------------------------------


def outages_of_day() -> tuple[list[Outage], datetime]:
    """Return the outages of the last 24 hours, latest first, and from when on deliveries were looked at."""
    since = timezone.now() - 24 * HOUR
    times = Delivery.objects.order_by("-received_at", "-id").values_list("received_at", flat=True)
    since = times.filter(received_at__gte=since)[MOST_ARRIVALS : MOST_ARRIVALS + 1].first() or since
    reach = since - RESENT_AFTER[-1]  # the earliest that anything was missed of what came since
    before = list(times.filter(received_at__lt=reach)[:1])
    # The first and the last of each minute are enough: what lies between them is no gap of a minute.
    minutes = (
        Delivery.objects.filter(received_at__gte=reach).order_by().values_list(TruncMinute("received_at", tzinfo=UTC))
    )
    bounds = [pair for _, *pair in minutes.annotate(Min("received_at"), Max("received_at"))]
    arrivals = sorted(before + [time for pair in bounds for time in pair])
    heard_again = [later for earlier, later in pairwise(arrivals) if later - earlier >= SHORTEST_GAP]
    if not before:
        heard_again = arrivals[:1] + heard_again
    return outages(arrivals, _witnesses(heard_again, since)), since


def outages(arrivals: Sequence[datetime], witnesses: Iterable[Witness]) -> list[Outage]:
    """Read off retries when nothing reached us: pure.

    ``arrivals`` are the times at which anything was received. A report that was first received about 5, 15 or 30
    minutes after the end of its call was sent before and not taken; where such a moment lies in a gap of the arrivals
    we were away, for the whole gap at most. It cannot know of an outage in which no call ended, nor of one that
    outlasted every retry, and live events are never sent again.
    """
    times = sorted(arrivals)
    gaps: dict[int, list[tuple[datetime, UUID]]] = defaultdict(list)
    for witness in witnesses:
        for missed in _missed(witness):
            gaps[bisect_left(times, missed)].append((missed, witness.delivery))
    found = []
    for after, points in gaps.items():
        before = times[after - 1] if after else None
        heard_again = times[after] if after < len(times) else None
        if heard_again is None or (before and heard_again - before < SHORTEST_GAP):
            continue
        moments = [moment for moment, _ in points]
        late = tuple(dict.fromkeys(delivery for _, delivery in sorted(points)))
        found.append(Outage(before, min(moments), max(moments), heard_again, late))
    return sorted(found, key=lambda outage: outage.first_missed, reverse=True)


def _missed(witness: Witness) -> list[datetime]:
    """Return when the copies before the one that was received must have been sent."""
    offset = witness.received_at - witness.ended_at
    for place, expected in enumerate(RESENT_AFTER):
        if abs(offset - expected) <= TOLERANCE:
            return [witness.received_at - (expected - earlier) for earlier in RESENT_AFTER[:place]]
    return []


def _witnesses(heard_again: Sequence[datetime], since: datetime) -> list[Witness]:
    """Return the first copies of PIOPIY's reports that came late, in time to tell of a gap before ``heard_again``.

    A leg that ends before its call is reported when the call ends: so the end of the call counts.
    """
    after_gap = Q()
    for begin, end in _spans(heard_again):
        after_gap |= Q(received_at__gte=begin, received_at__lte=end)
    if not after_gap:
        return []
    received = Delivery.objects.filter(after_gap, received_at__gte=since)
    recent = received.filter(account__provider="piopiy", status=Status.PROCESSED)
    cdrs = StoredRecord.objects.filter(body__startswith='{"type":"cdr"', source__isnull=False)
    late: QuerySet = cdrs.filter(
        source__in=recent.values("pk"),
        received_at__gte=F("conversation__ended_at") + RESENT_AFTER[1] - TOLERANCE,
        received_at__lte=F("conversation__ended_at") + RESENT_AFTER[-1] + TOLERANCE,
    )
    calls = set(late.order_by("-received_at").values_list("conversation", flat=True)[:MOST_LATE])
    ended: dict[UUID, datetime] = {}
    first: dict[tuple, tuple[datetime, UUID]] = {}
    rows = cdrs.filter(conversation__in=calls).values_list("conversation", "received_at", "source", "body")
    for call, received_at, source, body in rows:
        record = load_record(body)
        if isinstance(record, LegCdr) and record.ended_at:
            ended[call] = max(record.ended_at, ended.get(call, record.ended_at))
            key = call, record.leg_id, record.label
            first[key] = min((received_at, source), first.get(key, (received_at, source)))
    return [Witness(source, received_at, ended[key[0]]) for key, (received_at, source) in first.items()]


def _spans(heard_again: Sequence[datetime]) -> list[tuple[datetime, datetime]]:
    """Return the times in which a report may come that was sent before one of ``heard_again``, none twice."""
    spans: list[tuple[datetime, datetime]] = []
    for begin in heard_again:
        first = spans.pop()[0] if spans and begin <= spans[-1][1] else begin
        spans.append((first, begin + RESENT_AFTER[-1]))
    return spans
