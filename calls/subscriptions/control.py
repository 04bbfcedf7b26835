"""What people and programs do with a subscription: begin, rotate its secret, stop it, go on, try it, send again."""

import logging
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import QuerySet
from django.template.loader import render_to_string
from django.utils import timezone

from calls import changes
from calls.alerting import channels
from calls.choices import EventType
from calls.ids import new_id
from calls.models import Account, Attempt, Channel, Message, Subscription
from calls.subscriptions import sender
from calls.subscriptions.occurrences import body

logger = logging.getLogger(__name__)

OVERLAP = timedelta(hours=24)
"""How long the previous secret usually signs along."""
KEPT = timedelta(days=30)
"""How long messages are kept."""
TOLD_FOR = timedelta(days=1)
"""How long it is tried to tell people that a subscription was disabled."""
_SWEPT_AT_ONCE = 1000


def begin(subscription: Subscription, cursor: changes.Cursor | None = None) -> str:
    """Save a new subscription and return its secret, to be shown once.

    It is told of all that happens from now on, and of the conversations of the accounts that ``cursor`` names from
    there on. Its own accounts are set afterwards, in the same transaction.
    """
    secret = subscription.renew_secret()
    now = changes.now(list(Account.objects.values_list("pk", flat=True)))
    subscription.cursor = str(changes.Cursor({**now.positions, **cursor.positions}) if cursor else now)
    subscription.save()
    return secret


def rotate(subscription: Subscription, overlap: timedelta = OVERLAP) -> str:
    """Give it a new secret, save it, and return the secret, to be shown once; the old one signs along meanwhile."""
    with transaction.atomic():
        # Of two at once each must have the other's secret as the one before.
        subscription.refresh_from_db(from_queryset=Subscription.objects.select_for_update(no_key=True))
        secret = subscription.renew_secret(overlap)
        subscription.save(update_fields=["sealed_secret", "sealed_previous_secret", "previous_until"])
    return secret


def pause(subscription: Subscription, reason: str = "") -> None:
    """Send it nothing for now. What happens meanwhile is kept for it."""
    _set_state(subscription, Subscription.State.PAUSED, reason)


def resume(subscription: Subscription) -> None:
    """Go on where it was paused or disabled; what waits is tried at once."""
    _set_state(subscription, Subscription.State.ACTIVE, "")
    Subscription.objects.filter(pk=subscription.pk).update(failing_since=None, failures=0, resume_at=None)
    _begin_anew(subscription.messages.filter(state=Message.State.PENDING))


def send_test(subscription: Subscription) -> Attempt:
    """Send a test message here and now, whatever the state of the subscription, and return what came of it.

    It is tried once. Takes up to about ten seconds.
    """
    now = timezone.now()
    message = Message.objects.create(
        subscription=subscription,
        type=EventType.TEST,
        body=body(EventType.TEST, now, {"subscription": subscription.name}),
        created_at=now,
        # Not for the sender, which would try it again and again.
        state=Message.State.CANCELLED,
    )
    return sender.try_once(message)


def resend(messages: QuerySet[Message]) -> int:
    """Have these messages sent again, with their ids and bytes, in their order; return how many were not waiting yet.

    They wait while their subscription does.
    """
    done = messages.exclude(state=Message.State.PENDING).exclude(type=EventType.TEST)
    return _begin_anew(done)


def tell_of_disabled() -> None:
    """Send the administrators an e-mail of each subscription that was disabled lately and that they do not know of."""
    lately = Subscription.objects.filter(
        state=Subscription.State.DISABLED, is_disabling_told=False, state_changed_at__gt=timezone.now() - TOLD_FOR
    )
    for subscription in lately:
        text = (
            f"The subscription “{subscription}” was disabled. {subscription.state_reason} What happens is kept for it: "
            f"once its receiver is mended, resume it among the subscriptions."
        )
        context = {"notices": [], "text": text}
        mail = channels.Message(
            id=new_id(),
            subject="Ringledger: a subscription was disabled",
            text=render_to_string("calls/mail/notice.txt", context),
            html=render_to_string("calls/mail/notice.html", context),
            payload={},
        )
        try:
            channels.send(Channel(kind=Channel.Kind.EMAIL), mail)
        except channels.SendFailed as error:
            logger.warning("Nobody could be told that the subscription %s was disabled: %s", subscription.pk, error)
        else:
            Subscription.objects.filter(pk=subscription.pk).update(is_disabling_told=True)


def sweep(now: datetime) -> int:
    """Delete messages older than ``KEPT``, unless they can still be sent; return how many."""
    return _delete(
        Message.objects.filter(created_at__lt=now - KEPT).exclude(
            state=Message.State.PENDING, subscription__state=Subscription.State.ACTIVE
        )
    )


def remove(subscription: Subscription) -> None:
    """Delete it with the log of its messages."""
    _delete(subscription.messages.all())
    subscription.delete()


def _delete(messages: QuerySet[Message]) -> int:
    """Delete messages, of which there may be very many, with their attempts; return how many."""
    deleted = 0
    while ids := list(messages.order_by("id").values_list("id", flat=True)[:_SWEPT_AT_ONCE]):
        Message.objects.filter(pk__in=ids).delete()
        deleted += len(ids)
    return deleted


@transaction.atomic
def _begin_anew(messages: QuerySet[Message]) -> int:
    # Under the lock that is taken to note attempts too: else the two could wait for each other's messages.
    subscriptions = Subscription.objects.filter(pk__in=messages.order_by().values("subscription"))
    list(subscriptions.select_for_update(no_key=True).order_by("pk"))
    return messages.order_by().update(
        state=Message.State.PENDING, attempts_made=0, first_attempt_at=None, next_attempt_at=timezone.now()
    )


def _set_state(subscription: Subscription, state: str, reason: str) -> None:
    subscription.state, subscription.state_reason = state, reason
    subscription.state_changed_at = timezone.now()
    subscription.save(update_fields=["state", "state_reason", "state_changed_at"])
