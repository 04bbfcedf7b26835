"""What Celery does with calls. Each task takes no more than ids, does one call, and may run twice or never."""

from collections.abc import Sequence
from contextlib import suppress

from celery import current_app, shared_task
from django.utils import timezone
from kombu.exceptions import OperationalError

from calls import intake
from calls.alerting import engine, notices
from calls.models import Account
from calls.periodic import claim_slot


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
def close_silent_calls() -> None:
    """Close live calls of which nothing was heard for longer than their account allows."""
    for account in Account.objects.all():
        intake.close_silent(account, timezone.now())
