"""What Celery does with calls. Each task takes no more than ids, does one call, and may run twice or never."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from celery import current_app, shared_task
from django.db import transaction
from django.utils import timezone
from kombu.exceptions import OperationalError

from calls import changes, intake, recordings, rollups
from calls.alerting import engine, notices
from calls.api import idempotency
from calls.exports import jobs
from calls.models import Account
from calls.periodic import claim_slot
from calls.subscriptions import control, following, sender

RECORDINGS_BUDGET = timedelta(seconds=20)
"""How long one turn asks for recordings, but for the answers that are being waited for."""

EXPORT_SECONDS = 3600
"""How long one export may take: its rows are read in one snapshot, which cannot be handed from task to task."""
EXPORT_EXPIRES_SECONDS = 5
"""Age at which a call for work on exports is thrown away: the sweep repeats it."""


FOLLOWING_BUDGET = timedelta(seconds=20)
"""How long one turn writes messages of changes."""
MESSAGES_EXPIRE_SECONDS = 5
"""Age at which a call for work on messages is thrown away: the periodic turn repeats it."""


@shared_task
def in_turn(task_name: str, seconds: int) -> None:
    """Run a task here and now, unless it has had its turn in the present slot of ``seconds``."""
    if claim_slot(task_name, seconds):
        current_app.tasks[task_name]()


@shared_task
def review_alerts(account_ids: Sequence[int] | None = None) -> None:
    """Open, update and clear alerts, of the accounts named or of all; have those told that must know of it."""
    accounts = Account.objects.all()
    if engine.review(accounts if account_ids is None else accounts.filter(pk__in=account_ids)):
        with suppress(OperationalError):  # Redis is away: the next periodic turn sends them
            send_notices.delay()


@shared_task
def send_notices() -> None:
    """Have every channel send what is due on it, each in a task of its own: one that hangs delays no other."""
    with suppress(OperationalError):  # Redis has gone away meanwhile: the next turn sends them
        for channel_id in notices.waiting():
            send_to_channel.apply_async((channel_id,), expires=60)


@shared_task
def send_to_channel(channel_id: int) -> None:
    """Send what is due on one channel."""
    notices.send_to(channel_id)


@shared_task
def tell_subscribers() -> None:
    """Write the messages that follow from new changes of calls, and have those that are due sent."""
    if following.follow_all(FOLLOWING_BUDGET):
        call_for_subscribers()
    call_for_messages()


@shared_task
def send_messages() -> None:
    """Send for a turn what subscriptions are to be told."""
    sender.send()
    call_for_messages()


@shared_task
def sweep_messages() -> None:
    """Remove messages of subscriptions past their time; tell people of a subscription that was disabled."""
    control.sweep(timezone.now())
    control.tell_of_disabled()


def call_for_subscribers() -> None:
    """Tell the workers that there may be changes of calls that subscriptions are to be told of."""
    with suppress(OperationalError):  # Redis is away: the next periodic turn sees to them
        tell_subscribers.apply_async(expires=MESSAGES_EXPIRE_SECONDS)


def call_for_messages() -> None:
    """Tell the workers that there are messages to be sent, if there are any that none of them is at."""
    if sender.is_waiting():
        with suppress(OperationalError):
            send_messages.apply_async(expires=MESSAGES_EXPIRE_SECONDS)


@shared_task
def close_silent_calls() -> None:
    """Close live calls of which nothing was heard for longer than their account allows."""
    for account in Account.objects.all():
        intake.close_silent(account, timezone.now())


@shared_task
def watch_recordings() -> None:
    """See which recordings of new calls can be played."""
    recordings.watch(timezone.now(), RECORDINGS_BUDGET)


@shared_task(time_limit=EXPORT_SECONDS)
def make_exports() -> None:
    """Make the export that has waited longest, if none is being made, and call for the next one."""
    if jobs.work_off():
        call_for_exports()


@shared_task
def sweep_exports() -> None:
    """Remove files past their time; have exports made that wait, or that a killed worker has left."""
    jobs.remove_old()
    if jobs.is_waiting():
        call_for_exports()


def call_for_exports() -> None:
    """Tell the workers that there may be exports to make."""
    with suppress(OperationalError):  # Redis is away: the next sweep does it
        make_exports.apply_async(expires=EXPORT_EXPIRES_SECONDS)


@shared_task
def refresh_rollups() -> None:
    """Work out the figures of slots of time that are over, and of those whose calls have changed."""
    now = timezone.now()
    for account_id in rollups.waiting(now):
        has_more = True
        while has_more:
            with transaction.atomic():
                has_more = rollups.refresh(intake.lock_account(account_id), now)


@shared_task
def forget_idempotent_requests() -> None:
    """Delete the answers kept for repeated requests of programs that have been kept long enough."""
    idempotency.forget(timezone.now())


@shared_task
def sweep_changes() -> None:
    """Delete changes of long ago that were overtaken by later ones."""
    changes.sweep(timezone.now())
