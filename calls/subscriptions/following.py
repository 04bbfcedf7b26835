"""From the feed of changes to messages, for each subscription by its own place in the feed.

A message is written in the transaction that moves the subscription on, so that each change is told of exactly once
however often a worker is killed. A conversation is shown as it is when the message is written: of one that is gone by
then nothing is told but that it went, and what it says of itself is told of the one that it was merged into.

What is imported or pulled late is told of like anything else, with the times at which it was: a receiver that acts on
calls rather than keeps them has to look at ``started_at``. What is read again is told of only where that changed it,
as ``conversation.corrected``.
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from calls import changes
from calls.api import representation
from calls.choices import EventType
from calls.models import Account, Change, Conversation, Message, Subscription
from calls.subscriptions import filters
from calls.subscriptions.occurrences import CONVERSATION_TYPES, body
from calls.subscriptions.reach import reach, running

BATCH = 500
"""Changes that are read in one transaction."""
NOTED_EVERY = timedelta(minutes=1)
"""How often a subscription to which nothing happens notes that it has looked."""

_OF_STEPS = {
    "started": EventType.CONVERSATION_STARTED,
    "answered": EventType.CONVERSATION_ANSWERED,
    "ended": EventType.CONVERSATION_ENDED,
}
_OF_KINDS = {
    Change.Kind.UPDATED: EventType.CONVERSATION_UPDATED,
    Change.Kind.CORRECTED: EventType.CONVERSATION_CORRECTED,
    Change.Kind.MERGED: EventType.CONVERSATION_MERGED,
    Change.Kind.ERASED: EventType.CONVERSATION_ERASED,
}
_OF_WHAT_IS_GONE = {EventType.CONVERSATION_MERGED, EventType.CONVERSATION_ERASED}


def follow_all(budget: timedelta) -> bool:
    """Write the messages that follow from new changes, for every active subscription, a batch of each in turn.

    Returns whether there may be more, when the time is up.
    """
    began = timezone.now()
    active = running().filter(state=Subscription.State.ACTIVE)
    behind = list(active.order_by("pk").values_list("pk", flat=True))
    while behind and timezone.now() - began < budget:
        behind = [pk for pk in behind if follow(pk)]
    return bool(behind)


@transaction.atomic
def follow(subscription_id: int) -> bool:
    """Write the messages of the next changes; return whether there may be more changes.

    Does nothing when the subscription stands still. Of several workers one waits for the other.
    """
    active = Subscription.objects.select_for_update(no_key=True).filter(state=Subscription.State.ACTIVE)
    subscription = active.filter(pk=subscription_id).first()
    if subscription is None:
        return False
    now = timezone.now()
    noted = changes.Cursor.parse(subscription.cursor)
    cursor = _place(subscription, noted)
    read = changes.read(list(cursor.positions), cursor, BATCH)
    Message.objects.bulk_create(_messages(subscription, read), batch_size=BATCH)
    if read or cursor != noted or now - subscription.read_at >= NOTED_EVERY:
        Subscription.objects.filter(pk=subscription.pk).update(cursor=str(cursor.after(read)), read_at=now)
    return len(read) == BATCH


def _place(subscription: Subscription, noted: changes.Cursor) -> changes.Cursor:
    """Return its place in the feeds of the accounts that it may be told of now, when it was at ``noted``.

    Of an account that is new all is told; of one that it was only now allowed to see, what happens from now on.
    """
    allowed = reach(subscription)
    accounts = {
        pk: created_at for pk, created_at in Account.objects.values_list("pk", "created_at") if allowed.holds(pk, ())
    }
    late = [
        pk for pk, created_at in accounts.items() if pk not in noted.positions and created_at < subscription.read_at
    ]
    now = changes.now(late).positions if late else {}
    return changes.Cursor({pk: noted.positions.get(pk, now.get(pk, 0)) for pk in accounts})


def _messages(subscription: Subscription, read: Sequence[Change]) -> Iterator[Message]:
    """Yield a message for each thing that these changes tell and the subscription asks for, in their order."""
    wanted = CONVERSATION_TYPES.intersection(subscription.event_types)
    asked = [(change, kind) for change in read for kind in _types(change) if kind in wanted]
    shown = _shown({change.conversation for change, kind in asked if kind not in _OF_WHAT_IS_GONE}, subscription)
    slugs = dict(Account.objects.filter(pk__in={change.account_id for change, _ in asked}).values_list("pk", "slug"))
    for change, kind in asked:
        if kind in _OF_WHAT_IS_GONE:  # whatever the filters: they may have let it through before
            data = {"id": change.conversation, "account": slugs[change.account_id]}
            data |= {"into": change.into} if kind is EventType.CONVERSATION_MERGED else {}
        elif change.conversation in shown:
            data = shown[change.conversation]
        else:
            continue
        yield Message(
            subscription=subscription,
            account_id=change.account_id,
            type=kind,
            about=str(change.conversation),
            body=body(kind, change.changed_at, data),
        )


def _types(change: Change) -> list[EventType]:
    """Return what a change is told as. What only took its steps was not changed otherwise."""
    steps = [_OF_STEPS[step] for step in change.steps.split(",") if step]
    if change.kind == Change.Kind.CREATED or (change.kind == Change.Kind.UPDATED and steps):
        return steps
    return [*steps, _OF_KINDS[Change.Kind(change.kind)]]


def _shown(conversations: Collection[UUID], subscription: Subscription) -> dict[UUID, dict[str, Any]]:
    """Return those conversations that there are and that pass the subscription's filters, as the API shows them."""
    if not conversations:
        return {}
    passing = filters.passing(conversations, subscription.filters)
    return {
        UUID(str(row["id"])): row
        for row in representation.conversations(Conversation.objects.filter(pk__in=passing).order_by())
    }
