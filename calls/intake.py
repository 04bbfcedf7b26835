"""The only writer of conversations, legs, events and balance readings: records in, touched conversations out.

Records are kept (``StoredRecord``); conversations are the connected groups of records that share an alias, and each is
worked out anew from its records by ``calls.summary``. Work on one account is done one batch at a time, under the lock
of the account's row, so that any number of workers see each other's records and none deadlocks.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.db import models, transaction
from django.db.models import TextChoices

from calls import ledger
from calls.ids import new_id
from calls.models import (
    Account,
    Agent,
    BalanceReading,
    Conversation,
    ConversationAlias,
    ConversationRedirect,
    Event,
    Leg,
    StoredRecord,
)
from calls.records import AgentRef, Alias, Record, Silence, dump_record, load_record
from calls.summary import CallSummary, Entry, EventSummary, LegSummary, summarize


class Arrival(NamedTuple):
    """What one delivery says. ``source`` is the delivery's id; ``None`` for an inference of our own."""

    source: UUID | None
    received_at: datetime
    records: Sequence[Record]


class _Kept(NamedTuple):
    """A stored record with its decoded value, and whether the row differs from what the table holds."""

    row: StoredRecord
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


# --- What belongs together -------------------------------------------------------------------------------------------


def _gather(
    account: Account, arrivals: Sequence[Arrival], withdrawn: Iterable[UUID]
) -> tuple[list[_Kept], set[UUID], list[int]]:
    """Return every record that the arrivals may concern, the conversations these were in, and rows to delete."""
    sources = {arrival.source for arrival in arrivals if arrival.source} | set(withdrawn)
    earlier = {(row.source, row.position): row for row in StoredRecord.objects.filter(source__in=sources)}
    former = {row.conversation_id for row in earlier.values() if row.conversation_id}
    kept = []
    for arrival in arrivals:
        for position, record in enumerate(arrival.records):
            # A delivery that is read again keeps its rows, and through them the conversation its id.
            row = earlier.pop((arrival.source, position), None) or StoredRecord(
                account=account, source=arrival.source, position=position
            )
            told = (dump_record(record), arrival.received_at)
            is_changed = (row.body, row.received_at) != told
            row.body, row.received_at = told
            kept.append(_Kept(row, record, is_changed))
    stale = [row.pk for row in earlier.values()]
    named = {alias for item in kept for alias in item.record.aliases}
    known = ConversationAlias.objects.filter(account=account, value__in={alias.value for alias in named})
    former |= {alias.conversation_id for alias in known if Alias(alias.scheme, alias.value) in named}
    neighbours = models.Q(conversation__in=former) | models.Q(
        account=account, conversation=None, parked_under__in={_text(alias) for alias in named}
    )
    read = {item.row.pk for item in kept if item.row.pk}
    stored = StoredRecord.objects.filter(neighbours).exclude(pk__in=read | set(stale))
    kept += [_Kept(row, load_record(row.body)) for row in stored]
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
    groups = [
        _Group(
            kept=items,
            former=sorted({item.row.conversation_id for item in items if item.row.conversation_id}),
            summary=summarize([Entry(item.record, item.row.received_at) for item in items], account.facts),
        )
        for items in members.values()
    ]
    return sorted(groups, key=lambda group: min((item.row.received_at, item.row.body) for item in group.kept))


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


def _write(
    account: Account, groups: Sequence[_Group], former: set[UUID], vanished: set[UUID], stale: Sequence[int]
) -> None:
    agents = _agents(account, [group.summary for group in groups if group.summary])
    calls = {group.conversation_id: group.summary for group in groups if group.conversation_id and group.summary}
    survivors = {old: group.conversation_id for group in groups for old in group.absorbed if group.conversation_id}
    StoredRecord.objects.filter(pk__in=stale).delete()
    _sync(
        Conversation.objects.filter(pk__in=former & calls.keys()),
        {
            (conversation_id,): _conversation(account, conversation_id, call, agents)
            for conversation_id, call in calls.items()
        },
        lambda row: (row.pk,),
    )
    _sync(
        ConversationAlias.objects.filter(conversation__in=former),
        {
            (alias.scheme, alias.value): ConversationAlias(
                account=account, scheme=alias.scheme, value=alias.value, conversation_id=conversation_id
            )
            for conversation_id, call in calls.items()
            for alias in call.aliases
        },
        lambda row: (row.scheme, row.value),
    )
    _file_records(groups)
    _merge(survivors)
    # Read before the legs are written: a leg that goes takes its reading with it.
    read_before = dict(BalanceReading.objects.filter(conversation__in=former).values_list("leg_id", "occurred_at"))
    legs, _ = _sync(
        Leg.objects.filter(conversation__in=former),
        {
            (conversation_id, *leg.key): _leg(account, conversation_id, leg, agents)
            for conversation_id, call in calls.items()
            for leg in call.legs
        },
        lambda row: (survivors.get(row.conversation_id, row.conversation_id), row.external_id, row.label),
    )
    _sync(
        Event.objects.filter(conversation__in=former),
        {
            (conversation_id, str(event.kind), *event.leg_key, event.provider_status): _event(
                account, conversation_id, event, legs
            )
            for conversation_id, call in calls.items()
            for event in call.events
        },
        lambda row: (
            survivors.get(row.conversation_id, row.conversation_id),
            row.kind,
            row.leg_external_id,
            row.leg_label,
            row.provider_status,
        ),
    )
    readings = _sync(
        BalanceReading.objects.filter(conversation__in=former),
        _readings(account, calls, legs),
        lambda row: (row.leg_id,),
        keep="gap",
    )
    gone = {moment for leg_id, moment in read_before.items() if (leg_id,) not in readings.rows}
    ledger.settle(account, gone | {row.occurred_at for row in readings.touched})
    Conversation.objects.filter(pk__in=vanished).delete()


class _Synced(NamedTuple):
    """The rows that are there now, by identity, and those that are new, differ, or are gone (as they were)."""

    rows: dict[tuple, models.Model]
    touched: list[models.Model]


def _sync(existing: models.QuerySet, wanted: dict[tuple, models.Model], identity, *, keep: str = "") -> _Synced:
    """Make the ``existing`` rows equal to ``wanted``, with no write for a row that is equal already.

    Rows are matched by ``identity``; a row that is wanted no more, or twice, is deleted. The column ``keep`` of a row
    that exists is left as it is.
    """
    model = existing.model
    names = [column.attname for column in model._meta.concrete_fields if not column.primary_key]
    compared = [name for name in names if name != keep]
    matched: dict[tuple, models.Model] = {}
    touched, changed, surplus = [], [], []
    for row in existing.order_by("pk"):
        key = identity(row)
        target = wanted.get(key)
        if target is None or key in matched:
            surplus.append(row)
            continue
        matched[key] = row
        differing = [name for name in compared if getattr(row, name) != getattr(target, name)]
        if differing:
            touched.append(copy(row))
            changed.append(row)
        for name in differing:
            setattr(row, name, getattr(target, name))
    if surplus:
        model._base_manager.filter(pk__in=[row.pk for row in surplus]).delete()
    if changed:
        # One statement for many rows; bulk_update would spell out a CASE for each row and column.
        model._base_manager.bulk_create(
            changed, batch_size=500, update_conflicts=True, unique_fields=["id"], update_fields=names
        )
    new = {key: row for key, row in wanted.items() if key not in matched}
    model._base_manager.bulk_create(new.values(), batch_size=500)
    return _Synced(matched | new, [*touched, *changed, *surplus, *new.values()])


def _file_records(groups: Sequence[_Group]) -> None:
    """Store the new records, and move those whose conversation changed. What makes no call is parked or dropped."""
    new, changed = [], []
    for group in groups:
        for row, record, is_changed in group.kept:
            place = (group.conversation_id, "" if group.conversation_id else _parking_place(record))
            if row.pk is None:
                new.append(row)
            elif is_changed or (row.conversation_id, row.parked_under) != place:
                changed.append(row)
            row.conversation_id, row.parked_under = place
    StoredRecord.objects.bulk_create(new, batch_size=500)
    StoredRecord.objects.bulk_update(changed, ["conversation", "parked_under", "body", "received_at"], batch_size=200)


def _parking_place(record: Record) -> str:
    """Return what a record that makes no call of its own waits under: the one alias that it names."""
    if len(record.aliases) != 1 and not isinstance(record, Silence):
        raise ValueError(f"a record that only annotates must name one alias, not {len(record.aliases)}: {record}")
    return _text(record.aliases[0])


def _merge(survivors: dict[UUID, UUID]) -> None:
    """Take over what belongs to absorbed conversations but is not derived: tags, and redirects from earlier merges."""
    tagged = Conversation.tags.through
    for old, survivor in survivors.items():
        ConversationRedirect.objects.filter(conversation=old).update(conversation=survivor)
        ConversationRedirect.objects.create(pk=old, conversation_id=survivor)
        tags = tagged.objects.filter(conversation=old).values_list("tag", flat=True)
        tagged.objects.bulk_create(
            [tagged(conversation_id=survivor, tag_id=tag) for tag in tags], ignore_conflicts=True
        )


def _conversation(
    account: Account, conversation_id: UUID, call: CallSummary, agents: dict[AgentRef, Agent]
) -> Conversation:
    return Conversation(
        id=conversation_id,
        account=account,
        agent=agents[call.agent] if call.agent else None,
        cost_unit=account.unit if call.cost is not None else "",
        **_columns(Conversation, call),
    )


def _leg(account: Account, conversation_id: UUID, leg: LegSummary, agents: dict[AgentRef, Agent]) -> Leg:
    return Leg(
        account=account,
        conversation_id=conversation_id,
        external_id=leg.key.external_id,
        label=leg.key.label,
        agent=agents[leg.agent] if leg.agent else None,
        **_columns(Leg, leg),
    )


def _event(account: Account, conversation_id: UUID, event: EventSummary, legs: dict[tuple, Leg]) -> Event:
    return Event(
        account=account,
        conversation_id=conversation_id,
        leg=legs[(conversation_id, *event.leg)] if event.leg else None,
        leg_external_id=event.leg_key.external_id,
        leg_label=event.leg_key.label,
        **_columns(Event, event),
    )


def _columns(model: type[models.Model], summary: CallSummary | LegSummary | EventSummary) -> dict[str, object]:
    """Return the columns that bear the name of something in the summary; those that point to rows are not among them.

    Words become plain text: PostgreSQL's driver would write the name of an enumeration's member, not its value.
    """
    values = {
        column.name: getattr(summary, column.name)
        for column in model._meta.concrete_fields
        if not column.is_relation and hasattr(summary, column.name)
    }
    return {name: str(value) if isinstance(value, TextChoices) else value for name, value in values.items()}


def _readings(account: Account, calls: dict[UUID, CallSummary], legs: dict[tuple, Leg]) -> dict[tuple, BalanceReading]:
    return {
        (legs[(conversation_id, *leg.key)].pk,): BalanceReading(
            account=account,
            conversation_id=conversation_id,
            leg=legs[(conversation_id, *leg.key)],
            occurred_at=leg.ended_at or leg.started_at or leg.reported_at,
            received_at=leg.reported_at,
            balance=leg.balance_after,
            charge=leg.cost or 0,
        )
        for conversation_id, call in calls.items()
        for leg in call.legs
        if leg.balance_after is not None
    }


def _agents(account: Account, calls: Iterable[CallSummary]) -> dict[AgentRef, Agent]:
    """Return the agent for each reference, found by the provider's id or by phone, else made."""
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
    found: dict[AgentRef, Agent] = {}
    for ref in sorted(refs, key=lambda ref: (ref.external_id, ref.phone, ref.name)):
        key = ref.external_id or ref.phone or ref.name
        agent = by_key.get(key) or (by_phone.get(ref.phone) if ref.phone else None)
        if agent is None:
            agent = Agent.objects.create(account=account, external_id=key, name=ref.name[:120], phone=ref.phone)
            by_key[key] = agent
        elif ref.name and not agent.name:
            agent.name = ref.name[:120]
            agent.save(update_fields=["name"])
        found[ref] = agent
    return found


def _text(alias: Alias) -> str:
    return f"{alias.scheme}:{alias.value}"
