"""Periodic jobs run once per slot, however many schedulers are running and whichever worker hears of them."""

import time

from django.db.models import Q

from calls.models import PeriodicJob

CLOCKS_DIFFER_SECONDS = 60
"""A last slot further ahead than this was claimed by a clock that has been put right since; it must stop no job."""


def claim_slot(name: str, seconds: float) -> bool:
    """Return whether the caller is the first to come for the job ``name`` in the present slot of ``seconds``.

    Slots are counted from 1970, so that all hosts agree on them as far as their clocks do.
    """
    slot = int(time.time() // seconds)
    far_ahead = slot + int(CLOCKS_DIFFER_SECONDS // seconds) + 1
    is_due = Q(last_slot__lt=slot) | Q(last_slot__gt=far_ahead)
    # The database looks at the row again under its lock: of many who come at once this hits it for one.
    if PeriodicJob.objects.filter(is_due, name=name).update(last_slot=slot):
        return True
    return PeriodicJob.objects.get_or_create(name=name, defaults={"last_slot": slot})[1]
