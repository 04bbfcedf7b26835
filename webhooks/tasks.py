"""What Celery does with the inbox. It is told *that* there is work, never *what* it is: the inbox knows."""

from datetime import timedelta

from celery import shared_task

from calls.tasks import review_balances
from webhooks import processing, spool

BUDGET = timedelta(seconds=60)
"""How long one turn drains; well below the time limit of a task. The next sweep goes on."""


@shared_task(name="webhooks.tasks.drain")
def drain() -> None:
    """Bring in what was spooled while the database was away, process what is pending, then look at balances."""
    spool.drain_spools()
    drained = processing.drain(BUDGET)
    if drained.account_ids:
        review_balances.delay(sorted(drained.account_ids))
