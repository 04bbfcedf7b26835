"""One batch of a rebuild: read deliveries again, or put back what was there, and note what differs afterwards.

A batch is one transaction under the account's lock: it reads some deliveries again in order of arrival, together with
all others of their calls, so that each call is derived once from everything the rebuild reads. Because of this a dry
run, which rolls the calls back batch by batch and keeps only its findings, says what applying it does.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import QuerySet

from calls.intake import Arrival, lock_account, take_in
from calls.models import Account, ConversationRedirect, StoredRecord
from calls.records import load_record
from webhooks.differences import Difference, Snapshot, combine, compare, snapshots
from webhooks.errors import shorten
from webhooks.models import Delivery, Rebuild, RebuildAhead, RebuildChange, RebuildSource
from webhooks.processing import Understood, understand, write

logger = logging.getLogger(__name__)

BATCH = 100
"""Deliveries of one batch; the others of their calls come on top. Live traffic of the account waits for one batch."""

Kind = RebuildChange.Kind
_NEVER_READ = [Delivery.Status.PENDING, Delivery.Status.REPEAT]
_ERROR_FIELDS = ("error_class", "error_field", "error_value", "error_message")


# --- Reading deliveries again ----------------------------------------------------------------------------------------


def scope(rebuild: Rebuild) -> QuerySet[Delivery]:
    """Return the deliveries to read: no repeats, none that is still pending, none cut off, none newer than the rebuild.

    What arrives while it runs is read by the same adapter anyway.
    """
    chosen = Delivery.objects.exclude(error_class="TooLarge").exclude(status__in=_NEVER_READ)
    chosen = chosen.filter(received_at__lt=min(rebuild.until or rebuild.created_at, rebuild.created_at))
    if rebuild.account_id:
        chosen = chosen.filter(account=rebuild.account_id)
    if rebuild.conversation_id:
        of_call = StoredRecord.objects.filter(conversation=rebuild.conversation_id, source__isnull=False)
        chosen = chosen.filter(pk__in=of_call.values("source"))
    if rebuild.since:
        chosen = chosen.filter(received_at__gte=rebuild.since)
    return chosen


def read_batch(rebuild: Rebuild) -> bool:
    """Read the next deliveries again; return whether there were any."""
    batch = _next(rebuild)
    if not batch:
        return False
    account = lock_account(batch[0].account_id)
    ids = {delivery.pk for delivery in batch}
    ahead = RebuildAhead.objects.filter(rebuild=rebuild, delivery__in=ids)
    todo = ids - set(ahead.values_list("delivery", flat=True))
    chosen = scope(rebuild).filter(account=account)
    known: dict[UUID, Understood] = {}

    def widen(sources: set[UUID]) -> set[UUID]:
        for delivery in chosen.filter(pk__in=sources):
            delivery.account = account
            known[delivery.pk] = understand(delivery)
        return sources & known.keys()

    def read(sources: set[UUID]) -> set[UUID]:
        return write(account, [known[source] for source in sorted(sources)])[1]

    done = _attempt(rebuild, sorted(widen(todo)), widen, read)
    last = batch[-1]
    rebuild.cursor = [account.pk, last.received_at.isoformat(), str(last.pk)]
    new = {pk for pk in done - ids if (known[pk].delivery.received_at, pk) > (last.received_at, last.pk)}
    already = set(RebuildAhead.objects.filter(rebuild=rebuild, delivery__in=new).values_list("delivery", flat=True))
    RebuildAhead.objects.bulk_create([RebuildAhead(rebuild=rebuild, delivery_id=pk) for pk in new - already])
    ahead.delete()
    rebuild.deliveries_done += len(todo) + len(new - already)
    return True


def _next(rebuild: Rebuild) -> list[Delivery]:
    """Return the next deliveries after the cursor, all of one account; none at the end."""
    account_id, received_at, pk = rebuild.cursor or (0, None, None)
    deliveries = scope(rebuild).order_by("received_at", "id").only("received_at", "account_id")
    accounts = (
        [rebuild.account_id] if rebuild.account_id else Account.objects.order_by("pk").values_list("pk", flat=True)
    )
    for account in accounts:
        if account < account_id:
            continue
        chosen = deliveries.filter(account=account)
        if account == account_id:
            moment = datetime.fromisoformat(received_at)
            chosen = chosen.filter(received_at__gte=moment).exclude(received_at=moment, pk__lte=UUID(pk))
        if batch := list(chosen[:BATCH]):
            return batch
    return []


# --- Putting back what was there -------------------------------------------------------------------------------------


def undo_batch(rebuild: Rebuild) -> bool:
    """Put the next deliveries back to what they were; return whether there were any."""
    rows = list(RebuildSource.objects.filter(rebuild=rebuild.undoes_id, pk__gt=rebuild.cursor or 0)[:BATCH])
    if not rows:
        return False
    deliveries = Delivery.objects.in_bulk([row.delivery_id for row in rows])
    accounts = sorted({delivery.account_id for delivery in deliveries.values()})
    for account_id in accounts:
        account = lock_account(account_id)
        mine = [row for row in rows if row.delivery_id in deliveries]
        mine = [row for row in mine if deliveries[row.delivery_id].account_id == account_id and not row.problem]
        now = _states([row.delivery_id for row in mine])
        former = {}
        for row in mine:
            is_as_left = now[row.delivery_id] == (row.status_after, row.after)
            if is_as_left and row.status_after != Delivery.Status.REPEAT:
                former[row.delivery_id] = row
            else:
                _note_problem(rebuild, row.delivery_id, "It was read differently again since, so it is left as it is.")

        def put_back(sources: set[UUID], account: Account = account, former: dict = former) -> set[UUID]:
            return _restore(account, [(deliveries[source], former[source]) for source in sorted(sources)])

        _attempt(rebuild, sorted(former), lambda sources: set(), put_back)
    rebuild.cursor = rows[-1].pk
    rebuild.deliveries_done += len(rows)
    return True


def _restore(account: Account, items: Sequence[tuple[Delivery, RebuildSource]]) -> set[UUID]:
    touched = take_in(
        account,
        [
            Arrival(delivery.pk, delivery.received_at, [load_record(body) for body in row.before["records"]])
            for delivery, row in items
        ],
    )
    for delivery, row in items:
        Delivery.objects.filter(pk=delivery.pk).update(status=row.status_before, **row.before["error"])
    return touched


# --- What both have in common ----------------------------------------------------------------------------------------


class _State(NamedTuple):
    """What was made of a delivery: its status, and its stored records and error as JSON values."""

    status: str
    rest: dict[str, object]


def _attempt(
    rebuild: Rebuild, sources: Sequence[UUID], widen: Callable[[set[UUID]], set[UUID]], act: Callable
) -> set[UUID]:
    """Change the sources and keep what came of it; halve a group that fails, and list a culprit that is alone.

    Returns all sources that were changed together with them.
    """
    try:
        with transaction.atomic():
            return _change(rebuild, set(sources), widen, act)
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the others must go on
        failure = error
    if len(sources) > 1:
        middle = len(sources) // 2
        return _attempt(rebuild, sources[:middle], widen, act) | _attempt(rebuild, sources[middle:], widen, act)
    logger.error("delivery %s could not be rebuilt", sources[0], exc_info=failure)
    _note_problem(rebuild, sources[0], shorten(f"It is left as it is: {type(failure).__name__}: {failure}", 1000))
    return set()


def _change(
    rebuild: Rebuild, sources: set[UUID], widen: Callable[[set[UUID]], set[UUID]], act: Callable[[set[UUID]], set[UUID]]
) -> set[UUID]:
    """Let ``act`` change the sources and note what differs after it; a dry run takes the calls back.

    ``widen`` says which others of the same calls are to be changed along. When ``act`` joins calls that were not looked
    at before, it is taken back and done again with these.
    """
    if not sources:
        return set()
    beside: set[UUID] = set()
    while True:
        while others := _sources_of(_conversations_of(sources | beside)) - sources - beside:
            along = widen(others)
            sources |= along
            beside |= others - along
        before = snapshots(_conversations_of(sources | beside))
        states = _states(sources)
        with transaction.atomic():
            touched = act(sources)
            strangers = _sources_of(touched) - sources - beside
            if not strangers:
                after = snapshots(touched | before.keys())
                joined = dict(ConversationRedirect.objects.filter(pk__in=before).values_list("pk", "conversation"))
                states_after = _states(sources)
            transaction.set_rollback(rebuild.is_dry_run or bool(strangers))
        if not strangers:
            break
        beside |= strangers
        along = widen(strangers)
        sources |= along
        beside -= along
    _note_changes(rebuild, before, after, joined)
    _note_sources(rebuild, states, states_after)
    return sources


def _conversations_of(sources: set[UUID]) -> set[UUID]:
    records = StoredRecord.objects.filter(source__in=sources, conversation__isnull=False)
    return set(records.values_list("conversation", flat=True))


def _sources_of(conversations: set[UUID]) -> set[UUID]:
    records = StoredRecord.objects.filter(conversation__in=conversations, source__isnull=False)
    return set(records.values_list("source", flat=True))


def _states(sources: Sequence[UUID] | set[UUID]) -> dict[UUID, _State]:
    states = {
        row["pk"]: _State(row.pop("status"), {"records": [], "error": {name: row[name] for name in _ERROR_FIELDS}})
        for row in Delivery.objects.filter(pk__in=sources).values("pk", "status", *_ERROR_FIELDS)
    }
    records = StoredRecord.objects.filter(source__in=sources).order_by("source", "position")
    for source, body in records.values_list("source", "body"):
        states[source].rest["records"].append(body)
    return states


def _note_changes(
    rebuild: Rebuild, before: dict[UUID, Snapshot], after: dict[UUID, Snapshot], joined: dict[UUID, UUID]
) -> None:
    """Keep the calls that differ, each once: a change of one that is noted already is added to that."""
    noted = {
        change.conversation_id: change
        for change in rebuild.changes.filter(conversation__in=before.keys() | after.keys())
    }
    rows, undone = [], []
    for pk in sorted(before.keys() | after.keys()):
        was, now, earlier = before.get(pk), after.get(pk), noted.get(pk)
        differences = compare(was.values if was else {}, now.values if now else {})
        if not differences:
            continue
        existed = was is not None
        if earlier:
            existed = earlier.kind != Kind.NEW
            differences = combine([Difference(*field) for field in earlier.fields], differences)
            if not differences:
                undone.append(earlier.pk)
                continue
        named = now or was
        rows.append(
            RebuildChange(
                rebuild=rebuild,
                conversation_id=pk,
                kind=Kind.GONE if now is None else Kind.CHANGED if existed else Kind.NEW,
                number=named.number,
                started_at=named.started_at,
                joined=joined.get(pk) if now is None else None,
                fields=differences,
            )
        )
    rebuild.changes.filter(pk__in=undone).delete()
    RebuildChange.objects.bulk_create(
        rows,
        batch_size=500,
        update_conflicts=True,
        unique_fields=["rebuild", "conversation"],
        update_fields=["kind", "number", "started_at", "joined", "fields"],
    )
    rebuild.calls_changed += sum(row.conversation_id not in noted for row in rows) - len(undone)


def _note_sources(rebuild: Rebuild, before: dict[UUID, _State], after: dict[UUID, _State]) -> None:
    """Keep what was made of the deliveries that are read differently; of one that is noted, only what it is now."""
    rows = [
        RebuildSource(
            rebuild=rebuild,
            delivery_id=pk,
            status_before=was.status,
            status_after=after[pk].status,
            before=was.rest,
            after=after[pk].rest,
            is_notable=was.status != after[pk].status or was.rest["error"] != after[pk].rest["error"],
        )
        for pk, was in before.items()
        if was != after[pk]
    ]
    RebuildSource.objects.bulk_create(
        rows,
        batch_size=500,
        update_conflicts=True,
        unique_fields=["rebuild", "delivery"],
        update_fields=["status_after", "after", "is_notable"],
    )


def _note_problem(rebuild: Rebuild, source: UUID, problem: str) -> None:
    state = _states([source])[source]
    RebuildSource.objects.get_or_create(
        rebuild=rebuild,
        delivery_id=source,
        defaults={
            "status_before": state.status,
            "status_after": state.status,
            "before": state.rest,
            "after": state.rest,
            "problem": problem,
            "is_notable": True,
        },
    )
