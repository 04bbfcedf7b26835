"""Deriving calls again from the stored deliveries, with a field-by-field account of what changes.

This is how an adapter's fix reaches calls that are already there: first as a dry run, then applied, and undone when it
was not what was wanted. The admin, the command and the task all run a ``Rebuild`` by this module.

The cursor is committed with each batch, so that a killed worker's rebuild goes on where it was.
"""

import logging
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from django.contrib.auth.models import AbstractBaseUser
from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from webhooks.errors import shorten
from webhooks.models import Rebuild, RebuildAhead
from webhooks.rederiving import read_batch, scope, undo_batch

logger = logging.getLogger(__name__)

LEASE = timedelta(seconds=60)
"""How long a rebuild is left to its worker after each batch; one that was killed is made good after it."""
ATTEMPTS = 3
"""After so many turns without a committed batch (each killed its worker) a rebuild has failed."""

State = Rebuild.State
_UNFINISHED = [State.QUEUED, State.RUNNING]


class NotPossible(ValueError):
    """What was asked for cannot be done with this rebuild; the message says why, for staff."""


class _Taken(Exception):
    """The lease ended and another worker has the rebuild."""


# --- Asking for rebuilds ---------------------------------------------------------------------------------------------


def apply(dry_run: Rebuild, requested_by: AbstractBaseUser | None) -> Rebuild:
    """Queue the rebuild that does what ``dry_run`` said. Raises ``NotPossible``."""
    return _follow(
        dry_run,
        can_apply,
        "Only a dry run that is done, and was not applied yet, can be applied.",
        applies=dry_run,
        requested_by=requested_by,
    )


def undo(rebuild: Rebuild, requested_by: AbstractBaseUser | None) -> Rebuild:
    """Queue the undoing of ``rebuild``. Raises ``NotPossible``.

    Each delivery that it read differently gets back the stored records, status and error it had, and the calls are
    derived from those. One that was read differently again since is passed over and listed. What follows from a change
    of ``calls.summary`` or of the account's settings, not from how a delivery is read, cannot be undone. A call that
    was merged away comes back under a new id, its former one leads to the call that it was merged into, and tags stay
    where they are.
    """
    return _follow(
        rebuild,
        can_undo,
        "Only a rebuild that was applied, read deliveries differently and still holds can be undone.",
        undoes=rebuild,
        requested_by=requested_by,
    )


def _follow(rebuild: Rebuild, is_possible: Callable[[Rebuild], bool], otherwise: str, **columns: object) -> Rebuild:
    """Queue a run that follows from ``rebuild`` and has its scope; of two who ask at once the second is refused."""
    with transaction.atomic():
        locked = Rebuild.objects.select_for_update().get(pk=rebuild.pk)
        if not is_possible(locked):
            raise NotPossible(otherwise)
        scope = {name: getattr(locked, name) for name in ("account_id", "conversation_id", "since", "until")}
        return Rebuild.objects.create(is_dry_run=False, **scope, **columns)


def cancel(rebuild: Rebuild) -> None:
    """Stop after the batch under way. What was applied by then stays, and can be undone."""
    now = timezone.now()
    Rebuild.objects.filter(pk=rebuild.pk, state__in=_UNFINISHED).update(cancel_requested_at=now)
    waiting = Rebuild.objects.filter(_free(now), pk=rebuild.pk, state__in=_UNFINISHED)
    if waiting.update(state=State.CANCELLED, finished_at=now):
        RebuildAhead.objects.filter(rebuild=rebuild).delete()


def can_apply(rebuild: Rebuild) -> bool:
    """Return whether it is a finished dry run of which no applied run is under way or done."""
    return rebuild.is_dry_run and rebuild.state == State.DONE and not _holds(rebuild.applied_by)


def can_undo(rebuild: Rebuild) -> bool:
    """Return whether it read deliveries differently, and no undo of it is under way or done."""
    is_applied = rebuild.is_finished and not rebuild.is_dry_run
    return is_applied and rebuild.sources.filter(problem="").exists() and not _holds(rebuild.undone_by)


def _holds(others: QuerySet[Rebuild]) -> bool:
    """Return whether one of the runs is under way, or is done and was not undone since."""
    undone = Q(undone_by__state__in=[*_UNFINISHED, State.DONE])
    return others.filter(state__in=[*_UNFINISHED, State.DONE]).exclude(undone).exists()


# --- Working on them -------------------------------------------------------------------------------------------------


def claim(rebuild: Rebuild) -> bool:
    """Lease an unfinished rebuild to this worker, and return whether that could be done.

    One is worked on at a time, so that a worker stays free for live traffic; only a single call need not wait for a
    long one.
    """
    now = timezone.now()
    with transaction.atomic():
        unfinished = list(Rebuild.objects.select_for_update().filter(state__in=_UNFINISHED).order_by("pk"))
        held = [other for other in unfinished if other.lease_until and other.lease_until >= now]
        if rebuild.conversation_id:
            held = [other for other in held if other.conversation_id]
        if held or rebuild.pk not in {other.pk for other in unfinished}:
            return False
        rebuild.refresh_from_db()
        if rebuild.attempts >= ATTEMPTS:
            text = f"Its worker was killed {ATTEMPTS} times in a row while it read the same deliveries."
            _finish(rebuild, State.FAILED, text)
            return False
        rebuild.state, rebuild.lease_until = State.RUNNING, now + LEASE
        rebuild.started_at = rebuild.started_at or now
        rebuild.attempts += 1
        rebuild.save(update_fields=["state", "lease_until", "started_at", "attempts"])
    return True


def work_off(budget: timedelta) -> None:
    """Work on what is queued for about as long as ``budget``. Raises ``OperationalError`` when the database is away.

    Single calls go first, since somebody waits for them; then the oldest.
    """
    deadline = time.monotonic() + budget.total_seconds()
    while time.monotonic() < deadline:
        unfinished = list(Rebuild.objects.filter(state__in=_UNFINISHED).order_by("pk"))
        unfinished.sort(key=lambda rebuild: rebuild.conversation_id is None)
        if not unfinished or not claim(unfinished[0]):
            return
        for _ in run(unfinished[0]):
            if time.monotonic() >= deadline:
                break
        release(unfinished[0])


def run(rebuild: Rebuild) -> Iterator[Rebuild]:
    """Work on a claimed rebuild until it is finished, and yield it after each batch, committed and brought up to date.

    A caller that stops earlier calls ``release``, so that another need not wait for the lease to end.
    """
    try:
        if rebuild.deliveries_total is None:
            total = rebuild.undoes.sources.count() if rebuild.undoes_id else scope(rebuild).count()
            Rebuild.objects.filter(pk=rebuild.pk).update(deliveries_total=total)
        while not rebuild.is_finished:
            with transaction.atomic():
                _hold(rebuild)
                if rebuild.cancel_requested_at:
                    _finish(rebuild, State.CANCELLED)
                elif not (undo_batch(rebuild) if rebuild.undoes_id else read_batch(rebuild)):
                    _finish(rebuild, State.DONE)
                rebuild.attempts = 0
                rebuild.lease_until = None if rebuild.is_finished else timezone.now() + LEASE
                rebuild.save()
            yield rebuild
    except _Taken:
        return
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:  # a fault of ours: said on its page, and never tried for ever
        logger.exception("rebuild %s failed", rebuild.pk)
        with transaction.atomic():
            _finish(rebuild, State.FAILED, shorten(f"{type(error).__name__}: {error}", 1000))


def release(rebuild: Rebuild) -> None:
    """Give the lease back; the rebuild goes on with the next claim."""
    Rebuild.objects.filter(pk=rebuild.pk, lease_until=rebuild.lease_until).update(lease_until=None)


def _free(now: datetime) -> Q:
    return Q(lease_until=None) | Q(lease_until__lt=now)


def _hold(rebuild: Rebuild) -> None:
    """Lock the row and read it anew. Raises ``_Taken`` when the lease was lost."""
    lease = rebuild.lease_until
    rebuild.refresh_from_db(from_queryset=Rebuild.objects.select_for_update())
    if rebuild.lease_until != lease or rebuild.is_finished:
        raise _Taken


def _finish(rebuild: Rebuild, state: Rebuild.State, reason: str = "") -> None:
    rebuild.state, rebuild.reason, rebuild.finished_at, rebuild.lease_until = state, reason, timezone.now(), None
    rebuild.save(update_fields=["state", "reason", "finished_at", "lease_until"])
    RebuildAhead.objects.filter(rebuild=rebuild).delete()
