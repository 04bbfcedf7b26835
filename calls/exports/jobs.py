"""Exports in the background: asked for, worked off one at a time, cancelled, downloaded for a day, removed.

A worker makes a file in one go and in one snapshot, so that its rows are those of one moment: hence the task has a time
limit of its own, and a thread beside it says every second that it is alive. In slices of a few seconds, each with a
snapshot of its own, calls would be missing or twice that were merged or re-timed between two of them. A worker that is
killed leaves its lease to run out; the next one begins from nothing, in a directory of its own.

One export is worked on at a time, so that a worker process stays free for live traffic.
"""

import logging
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from django.contrib.admin.options import IncorrectLookupParameters
from django.db import InterfaceError, OperationalError, connections, transaction
from django.utils import timezone

from calls.access import may_see_numbers
from calls.exports import lists
from calls.exports.snapshot import directory, snapshot
from calls.models import Export

logger = logging.getLogger(__name__)

LEASE = timedelta(seconds=30)
"""How long an export is left to its worker after each sign of life."""
BEAT_SECONDS = 1
"""Between two signs of life, which also tell the progress and learn that it was cancelled."""
ATTEMPTS = 3
"""After so many turns that ended without a word (each killed its worker) an export has failed."""
KEPT_FOR = timedelta(hours=24)
MOST_UNFINISHED = 3
"""Exports that one person may have waiting or running."""

State = Export.State
_UNFINISHED = [State.QUEUED, State.RUNNING]


class TooMany(Exception):
    """Somebody has asked for more exports than may wait at once."""


class _Stopped(Exception):
    """The export was cancelled, or another worker has it."""


class _Refused(Exception):
    """Whoever asked for it may not have it any more."""


class _Life:
    """What the thread beside the work tells and learns."""

    def __init__(self) -> None:
        self.rows_done = 0
        self.rows_expected: int | None = None
        self.is_stopped = threading.Event()


def ask(user: Any, table: str, query: str, form: str, zone: str, filters: str = "") -> Export:
    """Queue an export of the list of ``table`` under ``query``, which ``filters`` says in words. Raises ``TooMany``."""
    if Export.objects.filter(user=user, state__in=_UNFINISHED).count() >= MOST_UNFINISHED:
        raise TooMany(
            f"{MOST_UNFINISHED} of your exports are waiting or running. Wait until one is ready, or cancel one."
        )
    return Export.objects.create(user=user, table=table, query=query, filters=filters, format=form, zone=zone)


def cancel(export: Export) -> bool:
    """Stop an export within a second, and return whether there was anything to stop. Its worker removes the file."""
    unfinished = Export.objects.filter(pk=export.pk, state__in=_UNFINISHED)
    return bool(unfinished.update(state=State.CANCELLED, finished_at=timezone.now()))


def work_off() -> bool:
    """Make the oldest export that waits, unless one is being made. Return whether more may wait."""
    export = _claim()
    if export is None:
        return False
    _make(export)
    return True


def is_waiting() -> bool:
    """Return whether an export waits and no worker is busy with one."""
    unfinished = Export.objects.filter(state__in=_UNFINISHED)
    return unfinished.exists() and not unfinished.filter(lease_until__gte=timezone.now()).exists()


def remove_old() -> None:
    """Remove the files that are past their time, and those that killed workers have left."""
    # Before the rows are read: whoever makes a directory has said so in a row that is committed.
    folders = list(directory().iterdir())
    Export.objects.filter(state=State.DONE, expires_at__lte=timezone.now()).update(state=State.EXPIRED)
    kept = {folder_of(export) for export in Export.objects.filter(state__in=[State.RUNNING, State.DONE])}
    for folder in folders:
        if folder not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def folder_of(export: Export) -> Path:
    """Return the directory of the present turn."""
    return directory() / f"{export.pk}-{export.attempts}"


def file_of(export: Export) -> Path:
    """Return the file; it is there while the export is ready."""
    return folder_of(export) / f"rows.{export.format}"


def _claim() -> Export | None:
    """Lease the oldest unfinished export to this worker, if no other is being worked on."""
    now = timezone.now()
    with transaction.atomic():
        unfinished = list(Export.objects.select_for_update().filter(state__in=_UNFINISHED).order_by("created_at", "pk"))
        if any(export.lease_until and export.lease_until >= now for export in unfinished):
            return None
        for export in unfinished:
            if export.attempts < ATTEMPTS:
                export.state, export.lease_until = State.RUNNING, now + LEASE
                export.attempts, export.rows_done = export.attempts + 1, 0
                export.save(update_fields=["state", "lease_until", "attempts", "rows_done"])
                return export
            export.state, export.finished_at = State.FAILED, now
            export.problem = f"Its worker ended {ATTEMPTS} times before the file was complete. Narrow the list down."
            export.save(update_fields=["state", "finished_at", "problem"])
    return None


def _make(export: Export) -> None:
    problem = ""
    try:
        folder_of(export).mkdir(mode=0o700, exist_ok=True)
        with _signs_of_life(export) as life:
            _write(export, life)
        ready = {"size": file_of(export).stat().st_size, "expires_at": timezone.now() + KEPT_FOR}
        if _finish(export, State.DONE, **ready):
            return
    except _Stopped:
        pass
    except (OperationalError, InterfaceError):
        raise  # the database is away: it is tried again when the lease has ended
    except _Refused:
        problem = "You may no longer export this list. Ask your administrator."
    except IncorrectLookupParameters:
        problem = "The list does not take these filters any more. Open it again and export from there."
    except Exception as error:  # it must not be tried again and again
        logger.exception("Export %s failed", export.pk)
        if isinstance(error, OSError) and error.errno in {ENOSPC, EDQUOT}:
            problem = "The server’s disk is full. Have space made on it, then export again."
        else:
            problem = f"The file could not be made ({type(error).__name__}). Tell your administrator, who has a log."
    if problem:
        _finish(export, State.FAILED, problem=problem)
    shutil.rmtree(folder_of(export), ignore_errors=True)


def _write(export: Export, life: _Life) -> None:
    user, model_admin, zone = export.user, lists.admin_of(export.table), ZoneInfo(export.zone)
    if not lists.may_export(user, model_admin):
        raise _Refused
    _own(export).update(has_numbers=may_see_numbers(user))
    scratch = folder_of(export) / "scratch"
    scratch.mkdir(exist_ok=True)
    with timezone.override(zone), snapshot(), open(file_of(export), "wb", opener=_private) as file:
        rows = lists.list_of(user, model_admin, export.query).queryset
        life.rows_expected = rows.order_by().count()
        for life.rows_done in lists.write_rows(file, user, model_admin, rows, export.format, zone, scratch):
            if life.is_stopped.is_set():
                raise _Stopped
    scratch.rmdir()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextmanager
def _signs_of_life(export: Export) -> Iterator[_Life]:
    """Extend the lease and tell the progress each second, in a thread of its own, while the work goes on."""
    life, is_over = _Life(), threading.Event()

    def beat() -> None:
        try:
            while not is_over.wait(BEAT_SECONDS):
                try:
                    if not _progress(export, life):
                        life.is_stopped.set()
                except (OperationalError, InterfaceError):
                    connections.close_all()  # the database is away for a moment
        finally:
            connections.close_all()

    thread = threading.Thread(target=beat, name="export", daemon=True)
    thread.start()
    try:
        yield life
    finally:
        is_over.set()
        thread.join()
    if not _progress(export, life):
        raise _Stopped


def _progress(export: Export, life: _Life) -> bool:
    """Tell how far it has come, and return whether it is still this worker's."""
    lease_until = timezone.now() + LEASE
    return _own(export).update(rows_done=life.rows_done, rows_expected=life.rows_expected, lease_until=lease_until) == 1


def _finish(export: Export, state: State, **columns: object) -> bool:
    return _own(export).update(state=state, finished_at=timezone.now(), lease_until=None, **columns) == 1


def _own(export: Export) -> Any:
    return Export.objects.filter(pk=export.pk, attempts=export.attempts, state=State.RUNNING)
