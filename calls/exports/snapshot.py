"""All rows of an export as they were at one moment, and files that can be read while they are being written."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from django.conf import settings
from django.db import connection, connections, transaction

PIECE = 256 * 1024
"""Bytes that are sent at once."""


def directory() -> Path:
    """Return where the files are kept; nobody else on this machine may look into it."""
    path = Path(settings.DATA_DIR, "exports")
    path.mkdir(mode=0o700, exist_ok=True)
    return path


@contextmanager
def snapshot() -> Iterator[None]:
    """Have every query of this thread see the database as it was at the first of them, and hold up no writer."""
    if connection.vendor == "sqlite":
        # atomic() would take the lock of the one writer that there can be. Django's own state stays "autocommit".
        with connection.cursor() as cursor:
            cursor.execute("BEGIN DEFERRED")
            try:
                yield
            finally:
                cursor.execute("ROLLBACK")
        return
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


def read_along(produce: Callable[[BinaryIO], Iterator[object]]) -> Iterator[bytes]:
    """Yield the bytes that ``produce`` writes to the file given, while it goes on writing in a thread of its own.

    It yields whenever there is something to read. It works at its own pace and its snapshot ends when it is done: a
    reader who is slow, or goes away, keeps no transaction open. When the iterator is closed it is stopped at its next
    ``yield``. An error of ``produce`` is raised here, after the bytes that came before it.
    """
    file = TemporaryFile(dir=directory())  # noqa: SIM115 - the thread closes it
    reading = os.dup(file.fileno())
    changed = threading.Condition()
    written, is_over, is_wanted, error = 0, False, True, None

    def work() -> None:
        nonlocal written, is_over, error
        try:
            with file, closing(produce(file)) as progress:
                for _ in progress:
                    file.flush()
                    with changed:
                        written = file.tell()
                        changed.notify()
                    if not is_wanted:
                        return
        except Exception as problem:  # noqa: BLE001 - the reader raises it
            error = problem
        finally:
            connections.close_all()
            with changed:
                is_over = True
                changed.notify()

    threading.Thread(target=work, name="export", daemon=True).start()
    sent = 0

    def has_news() -> bool:
        return is_over or written > sent

    try:
        while not is_over or sent < written:
            with changed:
                changed.wait_for(has_news)
            if piece := os.pread(reading, PIECE, sent):
                sent += len(piece)
                yield piece
        if error:
            raise error
    finally:
        is_wanted = False
        os.close(reading)
