"""The only writer of the worklist: missed callers as the calls and the steps of staff make them out.

An entry is never counted up. Whenever calls of a number change, its entries are worked out anew from the account's
calls with it and from what staff did (``calls.episodes``), from the last entry before the change on. Calls of one
account close entries of that account only.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from calls import bulk, business_hours
from calls.choices import Direction, Disposition, State
from calls.episodes import Episode, Fact, Happening, episodes
from calls.models import Account, ApiKey, Conversation, MissedCaller, WorklistStep

MISSED = (Disposition.MISSED, Disposition.VOICEMAIL)
"""How an inbound call ended of which the caller is owed a call."""

REASONS = [
    MissedCaller.Closing.ELSEWHERE,
    MissedCaller.Closing.WRONG_NUMBER,
    MissedCaller.Closing.SPAM,
    MissedCaller.Closing.NO_ANSWER,
    MissedCaller.Closing.OTHER,
]
"""Why an entry may be closed by somebody's word; the other reasons are found out from the calls."""

NOTICED = timedelta(microseconds=1)
"""A step of staff comes after all that they could have seen, even where the provider's clock is ahead of ours."""

_DIALLABLE = re.compile(r"\+?[0-9]{3,}")
_KEY = ["customer_number", "did"]
_DERIVED = [
    *("misses", "first_missed_at", "last_missed_at", "attempts", "first_attempt_at", "last_attempt_at", "reached_at"),
    *("closed_at", "closing", "snoozed_until"),
]
_COLUMNS = ["account_id", *_KEY, *_DERIVED, "reached_by_id", "assigned_to_id", "due_at"]
_FIRST, _CLOSED = _COLUMNS.index("first_missed_at"), _COLUMNS.index("closed_at")
_STEPS = {
    WorklistStep.Kind.TAKE: Happening.ASSIGNED,
    WorklistStep.Kind.ASSIGN: Happening.ASSIGNED,
    WorklistStep.Kind.GIVE_BACK: Happening.ASSIGNED,
    WorklistStep.Kind.SNOOZE: Happening.SNOOZED,
    WorklistStep.Kind.WAKE: Happening.SNOOZED,
    WorklistStep.Kind.CLOSE: Happening.CLOSED,
    WorklistStep.Kind.REOPEN: Happening.REOPENED,
}


class Refused(Exception):
    """What staff wanted cannot be done any more; the message says why and what to do."""


def is_diallable(number: str) -> bool:
    """Return whether a number can be called back. A withheld one cannot, and makes no entry."""
    return _DIALLABLE.fullmatch(number) is not None


def follow(account: Account, calls: Iterable[Mapping[str, Any]]) -> None:
    """Bring the worklist up to date with calls of an account that changed: each as it was and as it is now.

    Call it with the account locked, in the transaction that changed them.
    """
    since: dict[str, datetime] = {}
    missed = set()
    for call in calls:
        number, started_at = call["customer_number"], call["started_at"]
        if is_diallable(number):
            since[number] = min(since.get(number, started_at), started_at)
            if call["direction"] == Direction.INBOUND and call["disposition"] in MISSED:
                missed.add(number)
    if since:
        _derive(account, since, missed)


@transaction.atomic
def act(entry: MissedCaller, by: Any, kind: WorklistStep.Kind, **details: Any) -> None:
    """Let ``by``, a member of staff or an API key, do something about an open entry, or open a closed one again.

    ``details`` are columns of the step. Raises ``Refused`` when the entry is not what ``by`` took it for any more: of
    two who take it at once, one wins.
    """
    # All of the number, in the order in which calls lock them, so that none waits for another in a ring. No join: after
    # waiting for a lock, PostgreSQL reads the row anew but not what was joined to it.
    of_number = MissedCaller.objects.filter(account=entry.account, customer_number=entry.customer_number)
    locked = list(of_number.select_for_update().order_by("pk"))
    same = [row for row in locked if row.did == entry.did]
    now = next((row for row in same if row.pk == entry.pk), None)
    if now is None:
        raise Refused("A later report changed the calls of this number: the entry is not there any more.")
    if any(row.first_missed_at > now.first_missed_at for row in same):
        raise Refused("The caller was missed again since then. Work on the newer entry.")
    _check(now, by, kind)
    seen = filter(None, (now.last_missed_at, now.last_attempt_at, now.reached_at, now.closed_at))
    step = WorklistStep.objects.create(
        account=entry.account,
        customer_number=entry.customer_number,
        did=entry.did,
        at=max(timezone.now(), *(at + NOTICED for at in seen)),
        kind=kind,
        **({"api_key": by} if isinstance(by, ApiKey) else {"by": by}),
        **details,
    )
    if step.kind in _STEPS:
        _derive(entry.account, {entry.customer_number: now.first_missed_at + NOTICED}, set())


def _check(entry: MissedCaller, by: Any, kind: WorklistStep.Kind) -> None:
    if kind == WorklistStep.Kind.COMMENT:
        return
    if kind == WorklistStep.Kind.REOPEN:
        if entry.closed_at is None:
            raise Refused("It is open already.")
        return
    if entry.closed_at:
        raise Refused(f"It is closed already: {entry.get_closing_display().lower()}.")
    if kind == WorklistStep.Kind.TAKE and entry.assigned_to:
        raise Refused("You have it already." if entry.assigned_to == by else f"{entry.assigned_to} has it already.")
    # A program sees to whose it is for others, so it may give back anybody's.
    is_theirs = entry.assigned_to is not None if isinstance(by, ApiKey) else entry.assigned_to == by
    if kind == WorklistStep.Kind.GIVE_BACK and not is_theirs:
        raise Refused(f"It is not yours to give back: {entry.assigned_to or 'nobody'} has it.")


def steps_of(entry: MissedCaller) -> QuerySet[WorklistStep]:
    """Return what was done about an entry, the oldest first: from its first missed call to that of the next entry."""
    key = {"account": entry.account_id, "customer_number": entry.customer_number, "did": entry.did}
    steps = WorklistStep.objects.filter(**key, at__gte=entry.first_missed_at)
    newer = next_entry(entry)
    return steps.filter(at__lt=newer.first_missed_at) if newer else steps


def next_entry(entry: MissedCaller) -> MissedCaller | None:
    """Return the entry that the same caller made at the same DID after this one, if there is one."""
    key = {"account": entry.account_id, "customer_number": entry.customer_number, "did": entry.did}
    later = MissedCaller.objects.filter(**key, first_missed_at__gt=entry.first_missed_at)
    return later.order_by("first_missed_at").first()


def colleagues() -> QuerySet:
    """Return those who may work on the worklist."""
    people = get_user_model().objects.with_perm(
        "calls.work_missed", backend="django.contrib.auth.backends.ModelBackend"
    )
    return people.filter(is_staff=True).order_by("username")


def renew_promises(account: Account) -> None:
    """Work out anew until when the open entries of an account are due, after its hours or its target changed."""
    with transaction.atomic():
        changed = []
        for entry in MissedCaller.objects.select_for_update().filter(account=account, closed_at=None).order_by("pk"):
            due_at = _due_at(account, entry.first_missed_at)
            if due_at != entry.due_at:
                changed.append((entry.pk, due_at))
        bulk.update(MissedCaller, ["due_at"], changed)


# --- Working out -----------------------------------------------------------------------------------------------------


def _derive(account: Account, since: Mapping[str, datetime], missed: set[str]) -> None:
    """Work out the entries of these numbers anew, as far as calls from ``since`` on can change them.

    ``missed`` are the numbers that may have missed calls and no entry yet.
    """
    entries: dict[tuple[str, str], list[tuple]] = defaultdict(list)
    of_numbers = MissedCaller.objects.filter(account=account, customer_number__among=since)
    for pk, *values in of_numbers.select_for_update().order_by("pk").values_list("pk", *_COLUMNS):
        entries[values[1], values[2]].append((pk, tuple(values)))
    numbers = missed | {number for number, _ in entries}
    if not numbers:
        return
    # Nothing that happens from the beginning of an entry on can change the entries before it.
    starts = {
        key: max((row[_FIRST] for _, row in rows if row[_FIRST] < since[key[0]]), default=since[key[0]])
        for key, rows in entries.items()
    }
    earliest = min([*starts.values(), *(since[number] for number in numbers)])
    facts = _facts_of_calls(account, numbers, earliest, starts.keys())
    for key, fact in _facts_of_steps(account, numbers, earliest):
        if key in facts:
            facts[key].append(fact)
    surplus, closed, opened, new = [], [], [], []
    for key in facts.keys() | starts.keys():
        start = starts.get(key, since[key[0]])
        before = sorted((row for row in entries[key] if row[1][_FIRST] >= start), key=lambda row: row[1][_FIRST])
        found = [_row(account, key, episode) for episode in episodes(fact for fact in facts[key] if fact.at >= start)]
        pairs, gone = _pair(before, found)
        surplus += gone
        for pk, old, row in pairs:
            if pk is None:
                new.append(row)
            elif row != old:
                (closed if row[_CLOSED] else opened).append((pk, *row))
    MissedCaller.objects.filter(pk__in=surplus).delete()
    # One that is closed makes room for one that opens.
    bulk.update(MissedCaller, _COLUMNS, closed)
    bulk.update(MissedCaller, _COLUMNS, opened)
    bulk.insert(MissedCaller, _COLUMNS, new)


def _facts_of_calls(
    account: Account, numbers: set[str], since: datetime, known: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], list[Fact]]:
    """Return by number and DID what the calls say. An attempt, and a call that reached the caller, count for all."""
    facts: dict[tuple[str, str], list[Fact]] = {key: [] for key in known}
    of_number = defaultdict(list)
    calls = Conversation.objects.filter(account=account, customer_number__among=numbers, state=State.ENDED)
    calls = calls.filter(Q(started_at__gte=since) | Q(answered_at__gte=since)).order_by()
    columns = calls.values_list("pk", *_KEY, "direction", "disposition", "started_at", "answered_at")
    for pk, number, did, direction, disposition, started_at, answered_at in columns:
        if what := role_of(direction, disposition):
            at = max(started_at, answered_at or started_at) if what in _REACHED else started_at
            fact = Fact(at, what, pk, started_at)
            if what == Happening.MISSED:
                facts.setdefault((number, did), []).append(fact)
            else:
                of_number[number].append(fact)
    for (number, _), own in facts.items():
        own += of_number[number]
    return facts


_REACHED = {Happening.CALLED_BACK, Happening.GOT_THROUGH}


def role_of(direction: str, disposition: str | None) -> Happening | None:
    """Return what a call of this direction and disposition is to a missed caller; ``None`` for nothing."""
    if disposition == Disposition.ANSWERED:
        return Happening.CALLED_BACK if direction == Direction.OUTBOUND else Happening.GOT_THROUGH
    if direction == Direction.OUTBOUND and disposition:
        return Happening.ATTEMPT
    return Happening.MISSED if direction == Direction.INBOUND and disposition in MISSED else None


def _facts_of_steps(account: Account, numbers: set[str], since: datetime) -> Iterable[tuple[tuple[str, str], Fact]]:
    steps = WorklistStep.objects.filter(account=account, customer_number__among=numbers, at__gte=since)
    for step in steps.exclude(kind=WorklistStep.Kind.COMMENT):
        what = _STEPS[step.kind]
        value = {Happening.ASSIGNED: step.assigned_to_id, Happening.SNOOZED: step.until, Happening.CLOSED: step.closing}
        yield (step.customer_number, step.did), Fact(step.at, what, step.pk, value.get(what))


def _row(account: Account, key: tuple[str, str], episode: Episode) -> tuple:
    derived = [getattr(episode, name) for name in _DERIVED]
    due_at = _due_at(account, episode.first_missed_at)
    return (account.pk, *key, *derived, episode.reached_by, episode.assigned_to, due_at)


def _pair(before: list[tuple], found: list[tuple]) -> tuple[list[tuple], list[int]]:
    """Return each row that is wanted with the key and the values of the one it replaces, and the keys left over.

    Entries keep their row as far as they can: by their first missed call, else by their order.
    """
    by_first = {row[_FIRST]: (pk, row) for pk, row in before}
    same = {row[_FIRST]: by_first.pop(row[_FIRST]) for row in found if row[_FIRST] in by_first}
    others = [(pk, row) for pk, row in before if row[_FIRST] in by_first]
    pairs = []
    for row in reversed(found):
        pk, old = same.get(row[_FIRST]) or (others.pop() if others else (None, None))
        pairs.append((pk, old, row))
    return pairs[::-1], [pk for pk, _ in others]


def _due_at(account: Account, missed_at: datetime) -> datetime | None:
    if account.callback_minutes is None:
        return None
    hours, zone = business_hours.parse(account.business_hours), ZoneInfo(account.time_zone)
    try:
        return business_hours.after(hours, missed_at, timedelta(minutes=account.callback_minutes), zone)
    except OverflowError:  # a provider's clock may say anything
        return None


def due_now(entries: QuerySet[MissedCaller], now: datetime) -> QuerySet[MissedCaller]:
    """Return the open ``entries`` that are not put off beyond ``now``."""
    return entries.filter(closed_at=None).exclude(snoozed_until__gt=now)
