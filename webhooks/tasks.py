"""What Celery does with the inbox. It is told *that* there is work, never *what* it is: the inbox knows."""

from contextlib import suppress
from datetime import timedelta

from celery import shared_task
from kombu.exceptions import OperationalError

from calls.tasks import review_balances
from webhooks import processing, rebuilding, spool

BUDGET = timedelta(seconds=20)
"""How long one turn works; well below the time limit of a task. The next sweep goes on."""


@shared_task(name="webhooks.tasks.drain")
def drain() -> None:
    """Bring in what was spooled while the database was away, process what is pending, then look at balances."""
    spool.drain_spools()
    drained = processing.drain(BUDGET)
    if drained.account_ids:
        with suppress(OperationalError):  # Redis has gone away meanwhile: the next periodic review sees to it
            review_balances.delay(sorted(drained.account_ids))


@shared_task(name="webhooks.tasks.rebuild")
def rebuild() -> None:
    """Work for a turn on the rebuilds that are waiting or were left."""
    rebuilding.work_off(BUDGET)
