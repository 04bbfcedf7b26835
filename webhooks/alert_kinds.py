"""The kinds of alert that watch deliveries: that they come, are understood and are read in time."""

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from django.db.models import BigIntegerField, Count, F, Func, Min, Q, QuerySet
from django.utils import timezone

from calls.alerting.findings import Clock, Evidence, Finding, Kind
from calls.alerting.kinds.scope import beyond, calls_link, calls_of, figure, moments, plural, span, when, window
from calls.choices import AlertKind, Reason
from calls.models import Account, AlertRule
from webhooks import drift
from webhooks.models import Delivery

Status = Delivery.Status


def deliveries_link(label: str, account: Account, **parameters: str) -> Evidence:
    """Return a link to the deliveries of ``account`` that the list's parameters leave."""
    query = {"account__id__exact": str(account.pk)} | parameters
    return Evidence(label, "admin:webhooks_delivery_changelist", query)


def delivery_page(label: str, pk: object) -> Evidence:
    """Return a link to one delivery."""
    return Evidence(label, "admin:webhooks_delivery_change", args=(str(pk),))


# --- No deliveries ---------------------------------------------------------------------------------------------------

SLOT = timedelta(minutes=10)
HOUR = 6
"""Slots in an hour."""
AT_ONCE = 6 * HOUR
"""Slots that are asked for with one query."""
WEEKS = 8
"""How many weeks back the same hours are looked at."""
FEWEST_WEEKS = 2
"""With less history nothing is said."""
TRIMMED_FROM = 4
"""With so many weeks the busiest and the quietest of each hour are left out: a holiday, a campaign."""
CERTAIN = 8.0
"""An alert opens when the chance of such a silence is below e⁻⁸, about 1 in 3,000."""


def silence(rule: AlertRule, account: Account, at: datetime) -> list[Finding]:
    """Find that nothing has come for longer than the same hours of the weeks before let expect.

    A call brings several deliveries, so not these are counted but the slots of ten minutes in which any came.
    """
    received = _sent(account).filter(received_at__lte=at)
    last = received.order_by("-received_at", "-id").values_list("received_at", "pk").first()
    if last is None or not SLOT <= at - last[0] <= timedelta(weeks=WEEKS):
        return []  # most often something came just now; after so many weeks it is silence that is usual
    heard_at, pk = last
    certainty = 0.0
    for slot, share in _usual_shares(account, _slot(heard_at) + 1, _slot(min(at, heard_at + timedelta(weeks=1)))):
        certainty -= math.log1p(-share)
        if certainty >= CERTAIN:
            return [_silent(account, heard_at, pk, _moment(slot + 1))]
    return []


def _silent(account: Account, heard_at: datetime, pk: object, certain_at: datetime) -> Finding:
    zone = ZoneInfo(account.time_zone)
    week_before = moments("received_at", _weeks_before(heard_at, 1, zone), _weeks_before(certain_at, 1, zone))
    message = (
        f"Nothing has come since {when(heard_at, account)}, although deliveries usually come at this time of the week. "
        "See whether calls are made and whether the provider still has the webhook URL."
    )
    evidence = (
        delivery_page("The last delivery", pk),
        deliveries_link("The same time a week before", account, status__exact="all", **week_before),
    )
    return Finding(message, at=certain_at, evidence=evidence)


def _usual_shares(account: Account, begin: int, end: int) -> Iterator[tuple[int, float]]:
    """Return each slot from ``begin`` to before ``end`` with the share of weeks in which something came then.

    The share is that of its whole hour, so that few weeks suffice, and a little less than what was seen: it is never
    1, and what happened once is nothing to expect. Without enough weeks it is 0.
    """
    zone = ZoneInfo(account.time_zone)
    first = _sent(account).order_by("received_at", "id").values_list("received_at").first()
    oldest = _slot(first[0]) + 1 if first else end
    for start in range(begin, end, AT_ONCE):
        past = {
            hour: [
                before
                for weeks in range(1, WEEKS + 1)
                if (before := _slot(_weeks_before(_moment(hour), weeks, zone))) >= oldest
            ]
            for hour in range(start, min(start + AT_ONCE, end), HOUR)
        }
        active = _active_slots(account, list(past.values()))
        for hour, befores in past.items():
            share = 0.0
            if len(befores) >= FEWEST_WEEKS:
                counts = sorted(sum(before + number in active for number in range(HOUR)) for before in befores)
                if len(counts) >= TRIMMED_FROM:
                    counts = counts[1:-1]
                share = max(0.0, sum(counts) - 0.5) / (HOUR * len(counts))
            yield from ((slot, share) for slot in range(hour, min(hour + HOUR, end)))


def _sent(account: Account) -> QuerySet[Delivery]:
    """Return what the provider sent of its own accord."""
    return Delivery.objects.filter(account=account).exclude(method=Delivery.PULL)


class _SlotOf(Func):
    """The slot of a time, without a function of Python's for each row."""

    output_field = BigIntegerField()

    def as_postgresql(self, compiler, connection, **context):
        return self.as_sql(compiler, connection, template="floor(extract(epoch from %(expressions)s) / 600)", **context)

    def as_sqlite(self, compiler, connection, **context):
        template = "CAST(strftime('%%%%s', %(expressions)s) AS INTEGER) / 600"
        return self.as_sql(compiler, connection, template=template, **context)


def _active_slots(account: Account, past: Sequence[Sequence[int]]) -> set[int]:
    """Return those slots in which anything came, of the hours that begin with the slots ``past``; each element of it
    goes back week by week."""
    spans = Q()
    for weeks in range(max(map(len, past))):
        hours = [befores[weeks] for befores in past if weeks < len(befores)]
        spans |= Q(received_at__gte=_moment(min(hours)), received_at__lt=_moment(max(hours) + HOUR))
    if not spans:
        return set()
    received = _sent(account).filter(spans).order_by()
    return {int(slot) for slot in received.values_list(_SlotOf(F("received_at")), flat=True).distinct()}


def _weeks_before(moment: datetime, weeks: int, zone: ZoneInfo) -> datetime:
    """Return the same time of the same day of the week, as the clock on the wall shows it."""
    local = moment.astimezone(zone)
    return datetime.combine(local.date() - timedelta(weeks=weeks), local.timetz()).astimezone(UTC)


def _slot(moment: datetime) -> int:
    return int(moment.timestamp() // SLOT.total_seconds())


def _moment(slot: int) -> datetime:
    return datetime.fromtimestamp(slot * SLOT.total_seconds(), UTC)


# --- Calls without final reports -------------------------------------------------------------------------------------

UNREPORTED = (Reason.EVENTS_ANSWERED, Reason.EVENTS_UNANSWERED, Reason.SILENCE)
"""Why a call has its outcome when no final report has come."""
LATEST_REPORT = timedelta(minutes=15)
"""How long after its end a call's report is waited for: the providers send one again after 5 and 15 minutes."""
USUAL_CALLS = 500
USUAL_SPAN = timedelta(weeks=4)


def missing_cdrs(rule: AlertRule, account: Account, at: datetime) -> list[Finding]:
    """Find that of the calls that ended in the window more have no final report than is usual for the account."""
    until = at - LATEST_REPORT
    since = until - window(rule)
    longest = timedelta(days=1)  # only to go by the index of starts
    calls = calls_of(rule, account)
    ended = calls.filter(started_at__gte=since - longest, ended_at__gte=since, ended_at__lte=until).order_by()
    total, missing = ended.count(), ended.filter(reason__in=UNREPORTED).count()
    if not missing or total < rule.minimum_calls:
        return []
    share = Decimal(100 * missing) / total
    is_over = beyond(rule, share)
    if is_over is None:
        return []
    before = calls.filter(started_at__gte=since - USUAL_SPAN, started_at__lt=since, ended_at__lt=since)
    reasons = list(before.values_list("reason", flat=True)[:USUAL_CALLS])
    usual = Decimal(100 * sum(reason in UNREPORTED for reason in reasons)) / max(len(reasons), 1)
    if len(reasons) < rule.minimum_calls or usual >= rule.opens_at:
        return []  # an account whose provider sends no reports, or was never told to
    message = (
        f"{missing:,} of {plural(total, 'call')} that ended in {span(rule.window_minutes)} have no final report "
        f"({figure(share)} %; usually {figure(usual)} %; mark {figure(rule.opens_at)} %). Live events still come: see "
        "whether the provider still has the webhook URL for CDRs."
    )
    query = moments("started_at", since - longest, None) | moments("ended_at", since, until)
    query |= {"reason__in": ",".join(UNREPORTED)}
    evidence = (calls_link("The calls without a final report", rule, account, query),)
    return [Finding(message, at=until, value=share, is_over=is_over, evidence=evidence)]


# --- Quarantine and lag ----------------------------------------------------------------------------------------------


def quarantine(rule: AlertRule, account: Account, at: datetime) -> list[Finding]:
    """Find that many of the deliveries that came in the window could not be understood."""
    since = at - window(rule)
    bad = Delivery.objects.filter(
        account=account, status=Status.QUARANTINED, received_at__gte=since, received_at__lte=at
    ).order_by()
    oldest, count = bad.aggregate(oldest=Min("received_at"))["oldest"], bad.count()
    is_over = beyond(rule, Decimal(count)) if count else None
    if is_over is None:
        return []
    message = (
        f"{count:,} of the deliveries that came in {span(rule.window_minutes)} could not be understood "
        f"(mark {figure(rule.opens_at)}). Each says why; after the cause is mended, process them again."
    )
    link = deliveries_link(
        "The deliveries", account, status__exact=Status.QUARANTINED.value, **moments("received_at", since, at)
    )
    return [Finding(message, at=oldest, value=Decimal(count), is_over=is_over, evidence=(link,))]


def inbox_lag(rule: AlertRule, account: Account, at: datetime) -> list[Finding]:
    """Find that a delivery has long waited to be processed for the first time."""
    oldest = _waiting(account, at).order_by("received_at", "id").values_list("received_at", "pk").first()
    if oldest is None:
        return []
    seconds = Decimal(int((at - oldest[0]).total_seconds()))
    is_over = beyond(rule, seconds)
    if is_over is None:
        return []
    message = (
        f"The oldest delivery not yet processed came {when(oldest[0], account)}, {seconds:,} seconds ago "
        f"(mark {figure(rule.opens_at)}). See whether the workers run."
    )
    evidence = (
        delivery_page("The oldest", oldest[1]),
        deliveries_link(
            "All that wait", account, status__exact=Status.PENDING.value, **moments("received_at", None, at)
        ),
    )
    return [Finding(message, at=oldest[0], value=seconds, is_over=is_over, evidence=evidence)]


def _waiting(account: Account, at: datetime) -> QuerySet[Delivery]:
    """Return what was waiting at ``at``. What is only to be processed again has been processed before."""
    received = Delivery.objects.filter(account=account, received_at__lte=at)
    if timezone.now() - at < timedelta(minutes=1):
        return received.filter(status=Status.PENDING, processed_at=None)
    # Of the past: what was processed later, and came in the day before, because there is no index by that time.
    return received.filter(Q(processed_at__gt=at) | Q(processed_at=None), received_at__gte=at - timedelta(days=1))


# --- Payloads that change --------------------------------------------------------------------------------------------


def payload_drift(rule: AlertRule, account: Account, at: datetime) -> list[Finding]:
    """Find what is new or gone in payloads whose form was settled, and words that no table of the adapter lists."""
    return [*_changed_fields(account, at), *_unknown_words(account, at)]


def _changed_fields(account: Account, at: datetime) -> Iterator[Finding]:
    for change in drift.changes(account, at):
        shapes = plural(len(change.shapes), "kind") + " of payload"
        named = f"{shapes}, such as “{change.shapes[0]}”" if len(change.shapes) > 1 else f"“{change.shapes[0]}”"
        evidence = []
        if change.before:
            evidence.append(delivery_page("The last delivery as it was", change.before))
        if change.after:
            evidence.append(delivery_page("A delivery as it is now", change.after))
        yield Finding(
            f"{change.words} In {named}. See whether the calls are still read rightly.",
            at=change.at,
            subject=f"field {change.field}",
            evidence=tuple(evidence),
        )


def _unknown_words(account: Account, at: datetime) -> Iterator[Finding]:
    since = at - drift.NEWS
    bad = Delivery.objects.filter(
        account=account, status=Status.QUARANTINED, error_class="UnknownWord",
        received_at__gte=since, received_at__lte=at,
    )  # fmt: skip
    groups = bad.order_by().values_list("error_field", "error_value").annotate(Count("pk"), Min("received_at"))
    for field, value, count, first_at in groups:
        link = deliveries_link(
            "The deliveries", account, status__exact=Status.QUARANTINED.value, error_class__exact="UnknownWord",
            error_field=field, error_value=value, **moments("received_at", since, at),
        )  # fmt: skip
        yield Finding(
            f"“{value}” in the field “{field}” is a word never seen before: {count:,} deliveries with it wait in "
            "quarantine. The adapter's table needs it; afterwards, process them again.",
            at=first_at,
            value=Decimal(count),
            subject=f"word {field}: {value}",
            evidence=(link,),
        )


# --- Their words -----------------------------------------------------------------------------------------------------

DELIVERY_KINDS = {
    AlertKind.SILENCE: Kind(
        help="Nothing comes although the account usually has deliveries at this hour of the week, going by up to 8 "
        "weeks before; with less than 2 weeks nothing is said. The more usually comes, the sooner it opens: on a busy "
        "account after about half an hour. It clears with the next delivery.",
        evaluate=silence,
        clock=Clock.WALL,
        mark="",
    ),
    AlertKind.MISSING_CDRS: Kind(
        help="Calls come and their final reports do not: opens when the share of the calls ended in the window "
        "without a final report, 15 minutes after their end, reaches the mark, unless that is usual for the account.",
        evaluate=missing_cdrs,
        clock=Clock.DATA,
        mark="Calls without a final report, in per cent",
        fields=frozenset({"clears_at", "window_minutes", "minimum_calls", "did", "agent"}),
        highest=Decimal(100),
    ),
    AlertKind.QUARANTINE: Kind(
        help="Deliveries of the window that could not be understood and wait in quarantine.",
        evaluate=quarantine,
        clock=Clock.WALL,
        mark="Deliveries in quarantine",
        fields=frozenset({"clears_at", "window_minutes"}),
    ),
    AlertKind.INBOX_LAG: Kind(
        help="A delivery waits too long to be processed: the workers are down or cannot keep up.",
        evaluate=inbox_lag,
        clock=Clock.WALL,
        mark="Age of the oldest waiting delivery, in seconds",
        fields=frozenset({"clears_at"}),
    ),
    AlertKind.PAYLOAD_DRIFT: Kind(
        help="What the provider sends changes: a field is new or gone, comes in another unit (seconds, milliseconds) "
        "or type, or a word is one that no table lists. Only payloads of kinds that came 100 times in 7 days or more "
        "are judged. It clears when all is as before, or after a week, when the new form counts as usual.",
        evaluate=payload_drift,
        clock=Clock.WALL,
        mark="",
    ),
}
