"""Figures of long spans without reading their calls: worked out once per slot of time, and exact at all times.

Whoever changes calls marks their slots stale in the same transaction (``calls.intake`` does). A reader adds up the
stored figures of the other slots and counts all other calls: those of stale slots, of slots that are not worked out
yet, and of what a span cuts off a slot at either end. It does so in one statement, so that it sees one state of the
database, whatever is going on.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from django.db import connection, models

from calls.metrics import MONEY_PLACES, Tally
from calls.models import Account, Conversation, Rollup, RollupProgress, StaleSlot

Kind = Rollup.Kind

SLOT_SECONDS = {Kind.TOTAL: 1800, Kind.AGENT: 86400, Kind.DID: 86400, Kind.CAMPAIGN: 86400}
"""In nearly every zone days and hours begin at a full half hour of UTC. In half an hour, an agent has hardly more calls
than there are figures, so those of agents and the like are kept by the day."""
_LENGTHS = sorted(set(SLOT_SECONDS.values()))
_TOPS = [kind for kind in Kind if kind != Kind.TOTAL]

_EPOCH = datetime(1969, 12, 31, 18, 30, tzinfo=UTC)
"""When slots begin to be counted: at midnight in India, where most viewers are; their days are whole slots."""
_AHEAD = 19800
"""Seconds from there to the beginning of Unix time."""
_UNIX = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

BATCH_SECONDS = 4 * 86400
"""So long a time is worked out at a go: the account's deliveries wait meanwhile."""

# What a group of calls adds up to, by the name of the rollup's column.
_FIGURES = {
    "calls": "COUNT(*)",
    "live": "COUNT(*) FILTER (WHERE c.state = 'live')",
    **{
        word: f"COUNT(*) FILTER (WHERE c.state <> 'live' AND c.disposition = '{word}')"
        for word in ("answered", "missed", "busy", "failed", "cancelled", "voicemail")
    },
    "unknown": "COUNT(*) FILTER (WHERE c.state <> 'live' AND COALESCE(c.disposition, 'unknown') = 'unknown')",
    "inbound_missed": (
        "COUNT(*) FILTER (WHERE c.state <> 'live' AND c.direction = 'inbound'"
        " AND c.disposition IN ('missed', 'voicemail'))"
    ),
    "talk_seconds": "COALESCE(SUM(c.talk_seconds), 0)",
    "answered_talk_seconds": "COALESCE(SUM(c.talk_seconds) FILTER (WHERE c.disposition = 'answered'), 0)",
    "ring_seconds": "COALESCE(SUM(c.ring_seconds), 0)",
    "rung": "COUNT(c.ring_seconds)",
    "paid": "COUNT(c.cost)",
    "cost": "SUM(c.cost)",
}
_NAMES = ", ".join(_FIGURES)
_COUNTED = ", ".join(f"{figure} AS {name}" for name, figure in _FIGURES.items())
_ADDED_UP = ", ".join(f"SUM({name}) AS {name}" for name in _FIGURES)

_KEYS = {
    Kind.TOTAL: "''",
    Kind.AGENT: "CAST(c.agent_id AS TEXT)",
    Kind.DID: "NULLIF(c.did, '')",
    Kind.CAMPAIGN: "NULLIF(SUBSTR(c.extra_params ->> 'campaign', 1, 255), '')",
}
"""What each kind tells apart; a call for which it is null is not counted there."""

# One row for calls with and without a cost. What a call without one is put under does not matter: it adds nothing.
_UNIT = "COALESCE(NULLIF(c.cost_unit, ''), a.unit)"


# --- Writing ---------------------------------------------------------------------------------------------------------


def mark(account: Account, moments: Iterable[datetime]) -> None:
    """Mark the slots of calls that started at ``moments`` stale: call it whenever such a call is written or deleted.

    Call it inside a transaction that holds ``intake.lock_account``. Slots that are not worked out yet need no mark: the
    common case costs one look at a small table.
    """
    until = _done(account)
    if until is None:
        return
    moments, stale = set(moments), set()
    for seconds in _LENGTHS:
        slots = {_slot(moment, seconds) for moment in moments}
        stale |= {(seconds, slot) for slot in slots if slot < _slot(until, seconds)}
    rows = [StaleSlot(account=account, seconds=seconds, slot=slot) for seconds, slot in sorted(stale)]
    StaleSlot.objects.bulk_create(rows, ignore_conflicts=True)


def waiting(now: datetime) -> list[int]:
    """Return the ids of the accounts for which ``refresh`` has something to do."""
    done = RollupProgress.objects.filter(until__gte=_begin_of_slot(now)).values("account")
    stale = StaleSlot.objects.values("account")
    found = Account.objects.exclude(pk__in=done) | Account.objects.filter(pk__in=stale)
    return list(found.order_by("pk").values_list("pk", flat=True))


def refresh(account: Account, now: datetime) -> bool:
    """Work out slots that are over by ``now`` and new or stale; return whether there is more to do.

    Call it inside a transaction that holds ``intake.lock_account``.
    """
    _go_on(account, _begin_of_slot(now))
    has_more = False
    for seconds in _LENGTHS:
        most = BATCH_SECONDS // seconds
        stale = StaleSlot.objects.filter(account=account, seconds=seconds)
        slots = list(stale.order_by("slot").values_list("slot", flat=True)[:most])
        for kind in Kind if slots else ():
            if SLOT_SECONDS[kind] == seconds:
                Rollup.objects.filter(account=account, kind=kind, slot__in=slots).delete()
                _store(account, kind, slots)
        stale.filter(slot__in=slots).delete()
        has_more = has_more or len(slots) == most
    return has_more


def _go_on(account: Account, until: datetime) -> None:
    """Let the account's slots be worked out up to ``until``: those that come to that are stale at first."""
    since = _done(account)
    if since and since >= until:
        return
    for seconds in _LENGTHS:
        first, last = since and _slot(since, seconds), _slot(until, seconds)
        bounds = [_written(_moment(slot, seconds)) for slot in (first, last) if slot is not None]
        with connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {_table(StaleSlot)} (account_id, seconds, slot)"  # noqa: S608 - no input
                f" SELECT DISTINCT account_id, {seconds}, {_slot_of('started_at', seconds)} FROM {_table(Conversation)}"
                f" WHERE account_id = %s{' AND started_at >= %s' if since else ''} AND started_at < %s"
                " ON CONFLICT DO NOTHING",
                [account.pk, *bounds],
            )
    RollupProgress.objects.update_or_create(account=account, defaults={"until": until})


def _store(account: Account, kind: Kind, slots: Sequence[int]) -> None:
    seconds = SLOT_SECONDS[kind]
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {_table(Rollup)} (account_id, kind, slot, key, cost_unit, {_NAMES})"  # noqa: S608 - no input
            f" SELECT c.account_id, %s, s.slot, {_KEYS[kind]}, {_UNIT}, {_COUNTED}"
            f" FROM {_table(StaleSlot)} s {_join_calls(_begin('s.slot', seconds), _begin('s.slot + 1', seconds))}"
            f" WHERE s.account_id = %s AND s.seconds = %s AND s.slot BETWEEN %s AND %s AND {_KEYS[kind]} IS NOT NULL"
            " GROUP BY 1, 3, 4, 5",
            [kind.value, account.pk, seconds, slots[0], slots[-1]],
        )


# --- Reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Span:
    """The calls of some accounts that started from ``since`` to just before ``until``."""

    since: datetime
    until: datetime
    accounts: Collection[int]


def totals(spans: Sequence[Span], step: timedelta, offset: timedelta) -> list[dict[datetime, Tally]]:
    """Return the tallies of each span by steps, which begin ``offset`` after every full ``step`` of UTC.

    Both are multiples of half an hour. The keys are when the steps begin; those without calls are left out.
    """
    progress = _progress(spans)
    length, shift = int(step.total_seconds()), int(offset.total_seconds())
    seconds = SLOT_SECONDS[Kind.TOTAL]
    stored_step = f"(r.slot * {seconds} - {_AHEAD + shift}) / {length}"
    counted_step = f"({seconds_of('c.started_at')} - {shift}) / {length}"
    parts, parameters = [], []
    for place, span in enumerate(spans):
        cut = _cut(span, seconds, progress)
        parts.append(
            f"SELECT {place}, {stored_step}, cost_unit, {_ADDED_UP} {_stored([Kind.TOTAL], cut)} GROUP BY 2, 3"
            f" UNION ALL SELECT {place}, {counted_step}, {_UNIT}, {_COUNTED} {_calls(cut)} GROUP BY 2, 3"
        )
        parameters += [*cut.stored_values, *cut.counted_values]
    found: list[dict[datetime, Tally]] = [defaultdict(Tally) for _ in spans]
    for place, number, unit, *figures in _rows(" UNION ALL ".join(parts), parameters):
        _add(found[place][_UNIX + timedelta(seconds=int(number) * length + shift)], unit, figures)
    return found


def tops(span: Span, most: int) -> dict[Kind, dict[str, Tally]]:
    """Return the ``most`` agents (by id), DIDs and campaigns with the most calls in a span, the busiest first."""
    seconds = SLOT_SECONDS[Kind.AGENT]
    cut = _cut(span, seconds, _progress([span]))
    keys = ", ".join(f"{_KEYS[kind]} AS {kind}" for kind in _TOPS)
    # The calls themselves are gone through once for all kinds.
    sql = (
        f"WITH counted AS (SELECT {keys}, {_COUNTED} {_calls(cut)} GROUP BY 1, 2, 3), together AS ("  # noqa: S608 - no input
        f"SELECT r.kind, r.key, {_ADDED_UP} {_stored(_TOPS, cut)} GROUP BY 1, 2"
        + "".join(
            f" UNION ALL SELECT '{kind}', {kind}, {_ADDED_UP} FROM counted WHERE {kind} IS NOT NULL GROUP BY {kind}"  # noqa: S608 - no input
            for kind in _TOPS
        )
        + f"), ranked AS (SELECT kind, key, {_ADDED_UP}, ROW_NUMBER()"  # noqa: S608 - no input
        " OVER (PARTITION BY kind ORDER BY SUM(calls) DESC, key) AS place FROM together GROUP BY kind, key)"
        f" SELECT kind, key, {_NAMES} FROM ranked WHERE place <= {int(most)} ORDER BY place"
    )
    found: dict[Kind, dict[str, Tally]] = {kind: defaultdict(Tally) for kind in _TOPS}
    for kind, key, *figures in _rows(sql, [*cut.counted_values, *cut.stored_values]):
        # Money of several units may be in it.
        _add(found[Kind(kind)][key], "", [*figures[:-1], None])
    return found


def _rows(sql: str, parameters: list) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


def _add(tally: Tally, unit: str, figures: Sequence) -> None:
    *counts, cost = figures
    # SQLite adds up money as floats.
    amount = None if cost is None else Decimal(str(cost)).quantize(MONEY_PLACES)
    tally.add(dict(zip(_FIGURES, map(int, counts), strict=False)), unit, amount)


class _Cut(NamedTuple):
    """A span taken apart into what is worked out and what has to be counted."""

    seconds: int
    stored: str
    """A condition on account and slot."""
    stored_values: list
    counted: str
    """A table of accounts and spans."""
    counted_values: list


def _cut(span: Span, seconds: int, progress: Mapping[int, datetime]) -> _Cut:
    first, last = -_slot(span.since, -seconds), _slot(span.until, seconds)
    # The accounts that are worked out up to the same slot; nearly always that is all of them.
    by_end: dict[int, list[int]] = defaultdict(list)
    for account in sorted(span.accounts):
        by_end[min(last, _slot(progress[account], seconds)) if account in progress else first].append(account)
    conditions, stored_values, tables, counted_values = [], [], [], []
    for end, accounts in by_end.items():
        between = [(span.since, span.until)]
        if first < end:
            conditions.append(f"(account_id IN ({_places(accounts)}) AND slot >= %s AND slot < %s)")
            stored_values += [*accounts, first, end]
            between = [(span.since, _moment(first, seconds)), (_moment(end, seconds), span.until)]
        for since, until in between:
            if since < until:
                tables.append(
                    f"SELECT id AS account_id, {_as_moment()} AS since, {_as_moment()} AS until"  # noqa: S608 - no input
                    f" FROM {_table(Account)} WHERE id IN ({_places(accounts)})"
                )
                counted_values += [_written(since), _written(until), *accounts]
    stored = " OR ".join(conditions) or "1 = 0"
    stale = (
        f"SELECT account_id, {_begin('slot', seconds)} AS since, {_begin('slot + 1', seconds)} AS until"  # noqa: S608 - no input
        f" FROM {_table(StaleSlot)} WHERE seconds = {seconds} AND ({stored})"
    )
    counted = " UNION ALL ".join([*tables, stale])
    return _Cut(seconds, stored, stored_values, counted, [*counted_values, *stored_values])


def _stored(kinds: Sequence[Kind], cut: _Cut) -> str:
    """Return from where the stored figures ``r`` of some kinds are read."""
    names = ", ".join(f"'{kind}'" for kind in kinds)
    return (
        f"FROM {_table(Rollup)} r WHERE r.kind IN ({names}) AND ({cut.stored}) AND (r.account_id, r.slot) NOT IN"  # noqa: S608 - no input
        f" (SELECT account_id, slot FROM {_table(StaleSlot)} WHERE seconds = {cut.seconds})"
    )


def _calls(cut: _Cut) -> str:
    """Return from where the calls ``c`` that have to be counted are read."""
    return f"FROM ({cut.counted}) s {_join_calls('s.since', 's.until')}"


# --- Words of either database ----------------------------------------------------------------------------------------


def _table(model: type[models.Model]) -> str:
    return model._meta.db_table


def _places(values: Collection) -> str:
    return ", ".join(["%s"] * len(values)) or "NULL"


def _join_calls(since: str, until: str) -> str:
    """Return the join of spans ``s`` with their calls ``c`` and account ``a``."""
    calls = (
        f"FROM {_table(Conversation)} c WHERE c.account_id = s.account_id AND c.started_at >= {since}"
        f" AND c.started_at < {until}"
    )
    join_account = f"JOIN {_table(Account)} a ON a.id = s.account_id"
    if _is_postgresql():
        # OFFSET: else the planner, who cannot tell how short the spans are, reads all calls of the account for each.
        return f"CROSS JOIN LATERAL (SELECT c.* {calls} OFFSET 0) c {join_account}"
    return f"JOIN {calls.removeprefix('FROM ').replace(' WHERE ', ' ON ')} {join_account}"


def _is_postgresql() -> bool:
    return connection.vendor == "postgresql"


def seconds_of(column: str) -> str:
    """Return the Unix time of a column in full seconds."""
    if _is_postgresql():
        return f"CAST(FLOOR(EXTRACT(EPOCH FROM {column})) AS BIGINT)"
    # Without the fraction: SQLite would round it up.
    return f"CAST(STRFTIME('%%s', SUBSTR({column}, 1, 19)) AS INTEGER)"


def _slot_of(column: str, seconds: int) -> str:
    return f"CAST(FLOOR(({seconds_of(column)} + {_AHEAD}) / {seconds}.0) AS BIGINT)"


def _begin(slot: str, seconds: int) -> str:
    """Return the moment at which a slot begins, as the column of a moment is written."""
    unix = f"({slot}) * {seconds} - {_AHEAD}"
    return f"TO_TIMESTAMP({unix})" if _is_postgresql() else f"DATETIME({unix}, 'unixepoch')"


def _as_moment() -> str:
    return "CAST(%s AS TIMESTAMPTZ)" if _is_postgresql() else "%s"


def _written(moment: datetime) -> str:
    return str(connection.ops.adapt_datetimefield_value(moment))


def _slot(moment: datetime, seconds: int) -> int:
    """Return the slot of ``moment``; of negative ``seconds``, minus the first slot that begins at it or later."""
    return (moment - _EPOCH) // _MICROSECOND // (seconds * 1_000_000)


def _moment(slot: int, seconds: int) -> datetime:
    return _EPOCH + timedelta(seconds=slot * seconds)


def _progress(spans: Iterable[Span]) -> dict[int, datetime]:
    """Return up to when the slots of the accounts are worked out; those that never were are left out.

    It may be read ahead of the figures: it only ever grows, and what was worked out is kept right ever after.
    """
    accounts = {account for span in spans for account in span.accounts}
    return dict(RollupProgress.objects.filter(account__in=accounts).values_list("account", "until"))


def _done(account: Account) -> datetime | None:
    return RollupProgress.objects.filter(account=account).values_list("until", flat=True).first()


def _begin_of_slot(moment: datetime) -> datetime:
    return _moment(_slot(moment, _LENGTHS[0]), _LENGTHS[0])
