"""What Celery does with the inbox. It is told *that* there is work, never *what* it is: the inbox knows."""

from contextlib import suppress
from datetime import timedelta

from celery import shared_task
from django.utils import timezone
from kombu.exceptions import OperationalError

from calls.models import Account
from calls.periodic import claim_slot
from calls.tasks import call_for_subscribers, review_alerts
from webhooks import processing, pulling, rebuilding, spool

BUDGET = timedelta(seconds=20)
"""How long one turn works; well below the time limit of a task. The next sweep goes on."""
REVIEW_SECONDS = 5
"""How often at most an account's alerts are looked at because of drains."""
CUT_OFF_SECONDS = 5
"""How often it is looked for deliveries that were too large."""

PULL_BUDGET = timedelta(seconds=45)
"""How long reading the lists of one account may take, but for the page that is being waited for."""
PULL_EXPIRES_SECONDS = 900
"""Age at which a turn that no worker took is thrown away: the next one reads the same."""


@shared_task(name="webhooks.tasks.drain")
def drain() -> None:
    """Bring in what was spooled while the database was away, process what is pending, then have others see to it.

    That is: those who tell subscribers, and alerts.
    """
    spool.drain_spools()
    drained = processing.drain(BUDGET)
    if claim_slot("tell of deliveries cut off", CUT_OFF_SECONDS):
        processing.tell_of_cut_off(timezone.now())
    if drained.account_ids and claim_slot("tell subscribers of drained", 1):
        call_for_subscribers()
    # In busy times there are many drains a second; what is left out is looked at by the periodic review.
    due = [pk for pk in sorted(drained.account_ids) if claim_slot(f"review alerts of account {pk}", REVIEW_SECONDS)]
    if due:
        with suppress(OperationalError):  # Redis has gone away meanwhile: the next periodic review sees to it
            review_alerts.delay(due)


@shared_task(name="webhooks.tasks.rebuild")
def rebuild() -> None:
    """Work for a turn on the rebuilds that are waiting or were left."""
    rebuilding.work_off(BUDGET)


@shared_task(name="webhooks.tasks.pull")
def pull(account_id: int | None = None) -> None:
    """Read the provider's lists of one account; without an id, have it done for each, so that none delays another."""
    active = Account.objects.filter(is_active=True).exclude(sealed_secret="")
    if account_id is None:
        with suppress(OperationalError):  # Redis is away: the next turn reads what this one did not
            for account in filter(pulling.can_pull, active):
                pull.apply_async([account.pk], expires=PULL_EXPIRES_SECONDS)
    elif account := active.filter(pk=account_id).first():
        pulling.pull(account, timezone.now(), budget=PULL_BUDGET)
