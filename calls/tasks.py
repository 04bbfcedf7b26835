"""What Celery does with calls. Each task takes no more than ids, does one call, and may run twice or never."""

from collections.abc import Sequence

from celery import current_app, shared_task
from django.utils import timezone

from calls import alerts, intake
from calls.models import Account
from calls.periodic import claim_slot


@shared_task
def in_turn(task_name: str, seconds: int) -> None:
    """Run a task here and now, unless it has had its turn in the present slot of ``seconds``."""
    if claim_slot(task_name, seconds):
        current_app.tasks[task_name]()


@shared_task
def review_balances(account_ids: Sequence[int] | None = None) -> None:
    """Open or clear low-balance alerts, of the accounts named or of all, and mail what is due."""
    accounts = Account.objects.filter(low_balance_mark__isnull=False)
    for account in accounts if account_ids is None else accounts.filter(pk__in=account_ids):
        alerts.review_balance(account)
    alerts.send_due()


@shared_task
def close_silent_calls() -> None:
    """Close live calls of which nothing was heard for longer than their account allows."""
    for account in Account.objects.all():
        intake.close_silent(account, timezone.now())
