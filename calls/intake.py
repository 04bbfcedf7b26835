"""The only writer of conversations, legs, events and balance readings: records in, touched conversations out.

Records are kept (``StoredRecord``); conversations are the connected groups of records that share an alias, and each is
worked out anew from its records by ``calls.summary``. Work on one account is done one batch at a time, under the lock
of the account's row, so that any number of workers see each other's records and none deadlocks.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from operator import attrgetter
from typing import NamedTuple
from uuid import UUID

from django.db import models, transaction
from django.db.models import TextChoices

from calls import bulk, changes, ledger, rollups, worklist
from calls.choices import State
from calls.ids import new_id
from calls.models import (
    Account,
    Agent,
    BalanceReading,
    CallNote,
    Change,
    Conversation,
    ConversationAlias,
    ConversationRedirect,
    Event,
    Leg,
    StaffOutcome,
    StoredRecord,
)
from calls.records import AgentRef, Alias, Record, Silence, dump_record, load_record
from calls.summary import CallSummary, Entry, summarize


class Arrival(NamedTuple):
    """What one delivery says. ``source`` is the delivery's id; ``None`` for an inference of our own."""

    source: UUID | None
    received_at: datetime
    records: Sequence[Record]


_RECORD = ("pk", "conversation", "parked_under", "source", "position", "received_at", "body")


class _Kept(NamedTuple):
    """A record with the columns of its row, and whether what it says differs from what the table holds."""

    pk: int | None
    """``None`` when it is not stored yet."""
    conversation_id: UUID | None
    parked_under: str
    source: UUID | None
    position: int
    received_at: datetime
    body: str
    record: Record
    is_changed: bool = False


@dataclass
class _Group:
    """Records that belong together, what they amount to, and the conversations they were in before."""

    kept: list[_Kept]
    former: list[UUID]
    summary: CallSummary | None
    conversation_id: UUID | None = None
    absorbed: list[UUID] = field(default_factory=list)


def lock_account(account_id: int) -> Account:
    """Return the account with its row locked until the transaction ends. Deliveries can still be inserted."""
    return Account.objects.select_for_update(no_key=True).get(pk=account_id)


def take_in(account: Account, arrivals: Sequence[Arrival], *, withdrawn: Iterable[UUID] = ()) -> set[UUID]:
    """Store the records of ``arrivals`` and bring every conversation they touch up to date; return their ids.

    What an earlier reading of the same sources had stored is replaced; sources in ``withdrawn`` lose their records.
    Call it inside a transaction that holds ``lock_account``.
    """
    rows, former, stale = _gather(account, arrivals, withdrawn)
    groups = _group(account, rows)
    _give_ids(groups)
    vanished = former - {group.conversation_id for group in groups}
    _write(account, groups, former, vanished, stale)
    return {group.conversation_id for group in groups if group.conversation_id}


def close_silent(account: Account, now: datetime) -> int:
    """Close the live conversations of which nothing was heard for longer than the account allows; return how many."""
    with transaction.atomic():
        lock_account(account.pk)
        limit = now - timedelta(minutes=account.silence_minutes)
        silent = Conversation.objects.filter(account=account, state="live", last_heard_at__lt=limit)
        aliases = defaultdict(list)
        for alias in ConversationAlias.objects.filter(conversation__in=silent):
            aliases[alias.conversation_id].append(Alias(alias.scheme, alias.value))
        arrivals = [
            Arrival(None, now, [Silence(aliases=tuple(sorted(named)), nothing_since=limit)])
            for named in aliases.values()
        ]
        take_in(account, arrivals)
    return len(arrivals)


@contextmanager
def editing(conversation_ids: Collection[UUID]) -> Iterator[None]:
    """Keep, in one transaction, what staff or programs say of these conversations, and tell of it as changes."""
    with transaction.atomic():
        of_accounts: dict[int, list[UUID]] = defaultdict(list)
        rows = Conversation.objects.filter(pk__among=conversation_ids).order_by("account", "pk")
        for account_id, pk in rows.values_list("account", "pk"):
            of_accounts[account_id].append(pk)
        for account_id in of_accounts:
            lock_account(account_id)
        yield
        for account_id, pks in of_accounts.items():
            changes.edited(pks, account_id)


# --- What belongs together -------------------------------------------------------------------------------------------


def _gather(
    account: Account, arrivals: Sequence[Arrival], withdrawn: Iterable[UUID]
) -> tuple[list[_Kept], set[UUID], list[int]]:
    """Return every record that the arrivals may concern, the conversations these were in, and rows to delete."""
    sources = {arrival.source for arrival in arrivals if arrival.source} | set(withdrawn)
    read = StoredRecord.objects.filter(source__among=sources).values_list(*_RECORD)
    earlier = {(row[3], row[4]): row for row in read}
    former = {row[1] for row in earlier.values() if row[1]}
    kept = []
    for source, received_at, records in arrivals:
        for position, record in enumerate(records):
            # A delivery that is read again keeps its rows, and through them the conversation its id.
            pk, conversation, parked_under, *told = earlier.pop((source, position), (None, None, ""))
            now_told = [source, position, received_at, dump_record(record)]
            kept.append(_Kept(pk, conversation, parked_under, *now_told, record, told != now_told))
    stale = [row[0] for row in earlier.values()]
    named = {alias for item in kept for alias in item.record.aliases}
    known = ConversationAlias.objects.filter(account=account, value__among={alias.value for alias in named})
    for scheme, value, conversation in known.values_list("scheme", "value", "conversation"):
        if Alias(scheme, value) in named:
            former.add(conversation)
    read_already = {item.pk for item in kept if item.pk} | set(stale)
    places = {_text(alias) for alias in named}
    for neighbours in (
        StoredRecord.objects.filter(conversation__among=former),
        StoredRecord.objects.filter(account=account, conversation=None, parked_under__among=places),
    ):
        for row in neighbours.values_list(*_RECORD):
            if row[0] not in read_already:
                kept.append(_Kept(*row, load_record(row[-1])))
    return kept, former, stale


def _group(account: Account, kept: Sequence[_Kept]) -> list[_Group]:
    """Return the connected groups, the one with the oldest record first."""
    parent: dict[Alias, Alias] = {}

    def root(alias: Alias) -> Alias:
        while parent.setdefault(alias, alias) != alias:
            parent[alias] = parent[parent[alias]]
            alias = parent[alias]
        return alias

    for item in kept:
        for alias in item.record.aliases[1:]:
            parent[root(alias)] = root(item.record.aliases[0])
    members: dict[Alias, list[_Kept]] = defaultdict(list)
    for item in kept:
        members[root(item.record.aliases[0])].append(item)
    facts = account.facts
    groups = [
        _Group(
            kept=items,
            former=sorted({item.conversation_id for item in items if item.conversation_id}),
            summary=summarize([Entry(item.record, item.received_at) for item in items], facts),
        )
        for items in members.values()
    ]
    return sorted(groups, key=lambda group: min((item.received_at, item.body) for item in group.kept))


def _give_ids(groups: Sequence[_Group]) -> None:
    """Let each group keep the oldest id its records had; the others become redirects to it."""
    taken: set[UUID] = set()
    for group in groups:
        if group.summary is None:
            continue
        group.conversation_id = next((former for former in group.former if former not in taken), None) or new_id()
        taken.add(group.conversation_id)
    for group in groups:
        group.absorbed = [former for former in group.former if former not in taken]
        taken.update(group.absorbed)


# --- Rows ------------------------------------------------------------------------------------------------------------


_CALL = [
    *("external_id", "direction", "state", "disposition", "reason", "customer_number", "did", "started_at"),
    *("answered_at", "ended_at", "ring_seconds", "talk_seconds", "duration_seconds", "cost", "recording"),
    *("has_voicemail", "hangup_cause", "request_id", "extra_params", "flags", "last_heard_at"),
]
_LEG = [
    *("role", "direction", "from_number", "to_number", "disposition", "started_at", "answered_at", "ended_at"),
    *("ring_seconds", "talk_seconds", "duration_seconds", "hangup_cause", "cost", "balance_after", "recording"),
    "has_cdr",
]
_EVENT = ["occurred_at", "received_at", "details"]
"""The columns that bear the name of something in the summary of a call, leg or event."""


def _write(
    account: Account, groups: Sequence[_Group], former: set[UUID], vanished: set[UUID], stale: Sequence[int]
) -> None:
    agents = {None: None} | _agents(account, [group.summary for group in groups if group.summary])
    calls = {group.conversation_id: group.summary for group in groups if group.conversation_id and group.summary}
    survivors = {old: group.conversation_id for group in groups for old in group.absorbed if group.conversation_id}
    if stale:
        StoredRecord.objects.filter(pk__in=stale).delete()
    columns = ["id", "account_id", "agent_id", "cost_unit", *_CALL]
    _, touched_calls = _sync(
        Conversation.objects.filter(pk__among=former & calls.keys()),
        columns,
        {
            (pk,): (
                pk,
                account.pk,
                agents[call.agent],
                "" if call.cost is None else account.unit,
                *_values(_CALL, call),
            )
            for pk, call in calls.items()
        },
        lambda row: row[:1],
    )
    _sync(
        ConversationAlias.objects.filter(conversation__among=former),
        ["scheme", "value", "account_id", "conversation_id"],
        {
            (alias.scheme, alias.value): (alias.scheme, alias.value, account.pk, pk)
            for pk, call in calls.items()
            for alias in call.aliases
        },
        lambda row: row[:2],
    )
    _file_records(account, groups)
    _merge(survivors)
    # Read before the legs are written: a leg that goes takes its reading with it.
    of_former = BalanceReading.objects.filter(conversation__among=former)
    read_before = dict(of_former.values_list("leg_id", "occurred_at"))
    legs, touched_legs = _sync(
        Leg.objects.filter(conversation__among=former),
        ["conversation_id", "external_id", "label", "account_id", "agent_id", *_LEG],
        {
            (pk, *leg.key): (pk, *leg.key, account.pk, agents[leg.agent], *_values(_LEG, leg))
            for pk, call in calls.items()
            for leg in call.legs
        },
        lambda row: (survivors.get(row[0], row[0]), *row[1:3]),
    )
    events = {}
    for pk, call in calls.items():
        for event in call.events:
            identity = (pk, str(event.kind), *event.leg_key, event.provider_status)
            leg_id = legs[pk, *event.leg] if event.leg else None
            events[identity] = (*identity, account.pk, leg_id, *_values(_EVENT, event))
    _, touched_events = _sync(
        Event.objects.filter(conversation__among=former),
        [
            *("conversation_id", "kind", "leg_external_id", "leg_label", "provider_status", "account_id", "leg_id"),
            *_EVENT,
        ],
        events,
        lambda row: (survivors.get(row[0], row[0]), *row[1:5]),
    )
    readings, touched_readings = _sync(
        of_former,
        ["leg_id", "occurred_at", "received_at", "account_id", "conversation_id", "balance", "charge"],
        _readings(account, calls, legs),
        lambda row: row[:1],
    )
    gone = {moment for leg_id, moment in read_before.items() if (leg_id,) not in readings}
    ledger.settle(account, gone | {row[1] for row in _rows(touched_readings)})
    if vanished:
        going = Conversation.objects.filter(pk__in=vanished)
        touched_calls += [(row, None) for row in going.values_list(*columns)]
        going.delete()
    rows = [dict(zip(columns, row, strict=True)) for row in _rows(touched_calls)]
    rollups.mark(account, (row["started_at"] for row in rows))
    worklist.follow(account, rows)
    parts = {survivors.get(row[0], row[0]) for row in _rows([*touched_legs, *touched_events])}
    _tell(account, columns, touched_calls, parts | set(survivors.values()), calls, survivors)


_Touched = tuple[tuple | None, tuple | None]
"""A row before and after; ``None``: it was not there, or is gone."""


class _Synced(NamedTuple):
    """The keys of the rows that are there now, and what was touched."""

    keys: dict[tuple, object]
    touched: list[_Touched]


def _rows(touched: Iterable[_Touched]) -> Iterator[tuple]:
    return (row for pair in touched for row in pair if row)


def _sync(
    existing: models.QuerySet,
    names: Sequence[str],
    wanted: dict[tuple, tuple],
    identity: Callable[[tuple], tuple],
) -> _Synced:
    """Make the ``existing`` rows equal to ``wanted``, with no write for a row that is equal already.

    Rows are tuples of the columns ``names``; other columns are left as they are. They are matched by ``identity``; one
    that is wanted no more, or twice, is deleted.
    """
    keys: dict[tuple, object] = {}
    touched: list[_Touched] = []
    changed, surplus = [], []
    for pk, *values in existing.order_by("pk").values_list("pk", *names):
        row = tuple(values)
        key = identity(row)
        target = wanted.get(key)
        if target is None or key in keys:
            surplus.append(pk)
            touched.append((row, None))
            continue
        keys[key] = pk
        if row != target:
            touched.append((row, target))
            changed.append((pk, *target))
    if surplus:
        existing.model._base_manager.filter(pk__in=surplus).delete()
    bulk.update(existing.model, names, changed)
    new = {key: row for key, row in wanted.items() if key not in keys}
    keys.update(zip(new, bulk.insert(existing.model, names, list(new.values())), strict=True))
    return _Synced(keys, touched + [(None, row) for row in new.values()])


def _tell(
    account: Account,
    columns: Sequence[str],
    touched: Iterable[_Touched],
    parts: Container[UUID],
    calls: Mapping[UUID, CallSummary],
    survivors: Mapping[UUID, UUID],
) -> None:
    """Write what became of conversations: ``touched`` are their rows, ``parts`` those of which legs or events are."""
    state, answered_at = columns.index("state"), columns.index("answered_at")
    rows = {after[0]: (before, after) for before, after in touched if after}
    told = []
    for pk, call in calls.items():
        before, after = rows.get(pk, (None, None))
        if after and before is None:
            kind = Change.Kind.CREATED
        elif pk in parts or (after and before[:-1] != after[:-1]):  # the last one is ``last_heard_at``: nobody is shown
            was = before[state] if before else call.state
            kind = Change.Kind.CORRECTED if was == State.ENDED else Change.Kind.UPDATED
        else:
            continue
        steps = {
            "started": after and not before,
            "answered": after and after[answered_at] and not (before and before[answered_at]),
            "ended": after and after[state] == State.ENDED and not (before and before[state] == State.ENDED),
        }
        told.append((pk, kind, ",".join(step for step, has_happened in steps.items() if has_happened), None))
    told += [(old, Change.Kind.MERGED, "", survivor) for old, survivor in survivors.items()]
    gone = (before[0] for before, after in touched if after is None)
    told += [(pk, Change.Kind.ERASED, "", None) for pk in gone if pk not in survivors]
    changes.write(account.pk, told)


def _values(names: Sequence[str], summary: object) -> list[object]:
    """Return these columns of a summary. Words become plain text: the driver would write their names."""
    return [str(value) if isinstance(value, TextChoices) else value for value in attrgetter(*names)(summary)]


def _file_records(account: Account, groups: Sequence[_Group]) -> None:
    """Store the new records, and move those whose conversation changed. What makes no call is parked or dropped."""
    names = ["conversation_id", "parked_under", "source", "position", "received_at", "body"]
    new, changed = [], []
    for group in groups:
        for item in group.kept:
            parked_under = "" if group.conversation_id else _parking_place(item.record)
            row = (group.conversation_id, parked_under, item.source, item.position, item.received_at, item.body)
            if item.pk is None:
                new.append((account.pk, *row))
            elif item.is_changed or (item.conversation_id, item.parked_under) != row[:2]:
                changed.append((item.pk, *row))
    bulk.insert(StoredRecord, ["account_id", *names], new)
    bulk.update(StoredRecord, names, changed)


def _parking_place(record: Record) -> str:
    """Return what a record that makes no call of its own waits under: the one alias that it names."""
    if len(record.aliases) != 1 and not isinstance(record, Silence):
        raise ValueError(f"a record that only annotates must name one alias, not {len(record.aliases)}: {record}")
    return _text(record.aliases[0])


def _merge(survivors: dict[UUID, UUID]) -> None:
    """Take over what belongs to absorbed conversations but is not derived.

    That is: redirects from earlier merges, and what staff said of them: tags, notes and the outcome, the last one.
    """
    tagged = Conversation.tags.through
    for old, survivor in survivors.items():
        ConversationRedirect.objects.filter(conversation=old).update(conversation=survivor)
        ConversationRedirect.objects.create(pk=old, conversation_id=survivor)
        tags = tagged.objects.filter(conversation=old).values_list("tag", flat=True)
        tagged.objects.bulk_create(
            [tagged(conversation_id=survivor, tag_id=tag) for tag in tags], ignore_conflicts=True
        )
        CallNote.objects.filter(conversation=old).update(conversation=survivor)
        outcomes = StaffOutcome.objects.filter(conversation__in=[old, survivor])
        last = outcomes.order_by("set_at").last()
        if last and last.conversation_id == old:
            outcomes.filter(conversation=survivor).delete()
            outcomes.update(conversation=survivor)


def _readings(account: Account, calls: dict[UUID, CallSummary], legs: dict[tuple, object]) -> dict[tuple, tuple]:
    readings = {}
    for pk, call in calls.items():
        for leg in call.legs:
            if leg.balance_after is not None:
                leg_id = legs[pk, *leg.key]
                occurred_at = leg.ended_at or leg.started_at or leg.reported_at
                money = (leg.balance_after, leg.cost or Decimal(0))
                readings[(leg_id,)] = (leg_id, occurred_at, leg.reported_at, account.pk, pk, *money)
    return readings


def _agents(account: Account, calls: Iterable[CallSummary]) -> dict[AgentRef, int]:
    """Return the id of the agent for each reference, found by the provider's id or by phone, else made."""
    refs = {leg.agent for call in calls for leg in call.legs if leg.agent} | {
        call.agent for call in calls if call.agent
    }
    if not refs:
        return {}
    keys = {ref.external_id or ref.phone or ref.name for ref in refs}
    phones = {ref.phone for ref in refs if ref.phone}
    known = Agent.objects.filter(account=account).filter(models.Q(external_id__in=keys) | models.Q(phone__in=phones))
    by_key = {agent.external_id: agent for agent in known}
    by_phone = {agent.phone: agent for agent in known if agent.phone}
    found: dict[AgentRef, int] = {}
    for ref in sorted(refs, key=lambda ref: (ref.external_id, ref.phone, ref.name)):
        key = ref.external_id or ref.phone or ref.name
        agent = by_key.get(key) or (by_phone.get(ref.phone) if ref.phone else None)
        if agent is None:
            agent = Agent.objects.create(account=account, external_id=key, name=ref.name[:120], phone=ref.phone)
            by_key[key] = agent
        elif ref.name and not agent.name:
            agent.name = ref.name[:120]
            agent.save(update_fields=["name"])
        found[ref] = agent.pk
    return found


def _text(alias: Alias) -> str:
    return f"{alias.scheme}:{alias.value}"
