"""Figures of calls by hours or days of a zone's clock, which add up to those of the whole time."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from django.db.models import BigIntegerField, Func, QuerySet

from calls import rollups
from calls.buckets import Buckets
from calls.choices import Direction
from calls.metrics import Tally, tallies
from calls.models import Account, Agent, Conversation

_UNIX = datetime(1970, 1, 1, tzinfo=UTC)
_ROLLED_UP = timedelta(seconds=rollups.SLOT_SECONDS[rollups.Kind.TOTAL])
_MOST_SPANS = 50
"""Accounts that are told apart in one statement on rollups."""


class GroupBy(StrEnum):
    """What calls can be told apart by; the value is the column."""

    ACCOUNT = "account"
    AGENT = "agent"
    DID = "did"
    DIRECTION = "direction"


class Series(NamedTuple):
    """The calls of one group, or all."""

    key: str | None
    """What the filter of the group's name takes; ``None``: all, or those of no agent or DID."""
    name: str
    """For people."""
    tallies: list[Tally]
    """One for each bucket."""


def counted(calls: QuerySet[Conversation], buckets: Buckets, group_by: GroupBy | None) -> list[Series]:
    """Return the figures of ``calls``, a series for each group that has any; without groups, one of all."""

    def found() -> Iterator[tuple[Any, int, Tally]]:
        length = buckets.interval.length
        for run in buckets.runs:
            within = calls.filter(started_at__gte=run.since, started_at__lt=run.until)
            stepped = within.annotate(step=_StepOf("started_at", length, buckets.shift(run)))
            for (*keys, step), tally in tallies(stepped, *([group_by.value] if group_by else []), "step").items():
                begin = _UNIX + step * length + buckets.shift(run)
                yield (keys[0] if keys else None), buckets.place(run, begin), tally

    return _series(found(), buckets, group_by)


def rolled_up(accounts: Collection[int], buckets: Buckets, group_by: GroupBy | None) -> list[Series]:
    """Return the same of all calls of some accounts, without reading them; see ``can_be_rolled_up``."""
    groups = {account: [account] for account in accounts} if group_by else {None: accounts}

    def found() -> Iterator[tuple[Any, int, Tally]]:
        for run in buckets.runs if accounts else ():
            spans = [rollups.Span(run.since, run.until, members) for members in groups.values()]
            answers = rollups.totals(spans, buckets.interval.length, buckets.shift(run))
            for key, steps in zip(groups, answers, strict=True):
                for begin, tally in steps.items():
                    yield key, buckets.place(run, begin), tally

    return _series(found(), buckets, group_by)


def can_be_rolled_up(accounts: Collection[int], buckets: Buckets, group_by: GroupBy | None) -> bool:
    """Return whether ``rolled_up`` can tell: it knows accounts, and half hours of UTC."""
    is_known = group_by is None or (group_by == GroupBy.ACCOUNT and len(accounts) <= _MOST_SPANS)
    return is_known and buckets.is_aligned(_ROLLED_UP)


def groups_of(calls: QuerySet[Conversation], buckets: Buckets, group_by: GroupBy, most: int) -> int:
    """Return how many groups there are; when there are more than ``most``, only that."""
    since, until = buckets.runs[0].since, buckets.runs[-1].until
    within = calls.filter(started_at__gte=since, started_at__lt=until).order_by()
    return len(within.values_list(group_by.value).distinct()[: most + 1])


class _StepOf(Func):
    """The number of the step in which a moment lies; steps begin ``shift`` after every full ``length`` of UTC."""

    output_field = BigIntegerField()

    def __init__(self, field: str, length: timedelta, shift: timedelta) -> None:
        super().__init__(field)
        self._length, self._shift = int(length.total_seconds()), int(shift.total_seconds())

    def as_sql(self, compiler: Any, connection: Any, **context: Any) -> tuple[str, Any]:
        column, parameters = compiler.compile(self.source_expressions[0])
        return f"(({rollups.seconds_of(column)} - {self._shift}) / {self._length})", parameters


def _series(found: Iterable[tuple[Any, int, Tally]], buckets: Buckets, group_by: GroupBy | None) -> list[Series]:
    """Return the series of tallies by group and bucket: those with the most calls first."""
    by_key: dict[Any, list[Tally]] = defaultdict(lambda: [Tally() for _ in range(len(buckets))])
    if group_by is None:
        by_key[None]  # is there also when there are no calls
    for key, place, tally in found:
        by_key[key][place].add_all(tally)
    names = _names(by_key, group_by)
    series = [Series(*names[key], of_buckets) for key, of_buckets in by_key.items()]
    return sorted(series, key=lambda one: (-sum(tally.counts["calls"] for tally in one.tallies), one.key or ""))


def _names(keys: Collection[Any], group_by: GroupBy | None) -> dict[Any, tuple[str | None, str]]:
    """Return the key and the name of each group, by what the database has in the column."""
    if group_by == GroupBy.ACCOUNT:
        return {account.pk: (account.slug, account.name) for account in Account.objects.filter(pk__in=keys)}
    if group_by == GroupBy.AGENT:
        agents = Agent.objects.filter(pk__in=[key for key in keys if key])
        return {None: (None, "No agent")} | {agent.pk: (str(agent.pk), str(agent)) for agent in agents}
    if group_by == GroupBy.DIRECTION:
        return {word: (word, label) for word, label in Direction.choices}
    return {key: (key or None, key or ("No DID" if group_by else "")) for key in keys}
