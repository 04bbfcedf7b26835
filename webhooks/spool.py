"""Where deliveries wait while the database is away: files that are fsynced before the answer.

Each process appends to a file of its own, and locks it only while it does. Whoever drains first takes the files away,
by giving them another name under the same lock; their process then begins a new one. So nothing waits for a process to
let go of it. Files are drained in the order in which they were begun; twice does no harm, for the ids were given at the
door.
"""

import base64
import errno
import fcntl
import itertools
import json
import logging
import os
import threading
import zlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from uuid import UUID

from django.conf import settings

from calls.ids import new_id
from webhooks.storing import NewDelivery, insert

logger = logging.getLogger(__name__)

BATCH = 100
"""How many deliveries are in memory while draining; each may have a megabyte."""


class _OpenFile:
    """The file that this process appends to, until somebody takes it away."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._descriptor = -1
        self._path = Path()
        self._owner = 0

    def append(self, lines: bytes) -> None:
        with self._lock:
            self._open_and_lock()
            try:
                self._write(lines)
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _open_and_lock(self) -> None:
        while True:
            if self._owner != os.getpid() or not self._path.exists():  # after a fork it is the parent's
                self._begin()
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            if self._path.exists():
                return
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # taken away between the look and the lock

    def _begin(self) -> None:
        if self._descriptor >= 0:
            self._owner = 0
            os.close(self._descriptor)
            self._descriptor = -1
        directory = _directory()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = directory / f"{new_id()}.spool"  # ids sort by time
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        _fsync(directory)
        _fsync(directory.parent)
        self._owner = os.getpid()

    def _write(self, lines: bytes) -> None:
        end = os.fstat(self._descriptor).st_size
        try:
            # A full disk writes a part and says so only by the count.
            if os.write(self._descriptor, lines) != len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fdatasync(self._descriptor)
        except OSError:
            try:
                os.ftruncate(self._descriptor, end)
            except OSError:
                self._owner = 0  # what is left of this line must not be joined to the next: that goes to a new file
            raise


_file = _OpenFile()


def append(deliveries: Sequence[NewDelivery]) -> None:
    """Write ``deliveries`` and return when they are on disk. Raises ``OSError`` when not; then none of them is."""
    _file.append(b"".join(map(_line, deliveries)))


def _line(delivery: NewDelivery) -> bytes:
    row = delivery._asdict()
    row["id"] = str(delivery.id)
    row["received_at"] = delivery.received_at.isoformat()
    row["processed_at"] = delivery.processed_at and delivery.processed_at.isoformat()
    row["query"] = base64.b64encode(delivery.query).decode()
    row["body"] = base64.b64encode(delivery.body).decode()
    text = json.dumps(row).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def drain_spools() -> int:
    """Put what is spooled in the inbox and return how many deliveries that were. Raises when the database is away.

    A line that is damaged (such as the last one of a process that was killed while writing, whose sender got no answer)
    or that the inbox refuses stops nothing: it is kept in a file that ends in ``.bad``.
    """
    if not waiting_files():
        return 0
    with (_directory() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one drains after the other, so that the order holds
        return sum(_drain(_taken_away(path)) for path in waiting_files())


def waiting_files() -> list[Path]:
    """Return the files that wait to be drained, oldest first; those that are still written are among them."""
    return sorted(path for path in _directory().glob("*") if path.suffix in (".spool", ".draining"))


def _taken_away(path: Path) -> Path:
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # waits for a line that is being written
        return path.rename(path.with_suffix(".draining"))


def _drain(path: Path) -> int:
    count, bad = 0, []
    with path.open("rb") as file:
        while lines := list(itertools.islice(file, BATCH)):
            pairs = [(line, _read(line)) for line in lines]
            deliveries = [delivery for _, delivery in pairs if delivery]
            refused = insert(deliveries)
            count += len(deliveries) - len(refused)
            bad += [line for line, delivery in pairs if delivery is None or delivery in refused]
    if bad:
        kept = path.with_suffix(".bad")
        with kept.open("wb") as file:
            file.writelines(bad)
            file.flush()
            os.fsync(file.fileno())
        logger.error("%d lines of the spool could not be put in the inbox and are kept in %s", len(bad), kept.name)
    path.unlink()
    return count


def _read(line: bytes) -> NewDelivery | None:
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text):
        return None
    row = json.loads(text)
    row["id"] = UUID(row["id"])
    row["received_at"] = datetime.fromisoformat(row["received_at"])
    row["processed_at"] = row["processed_at"] and datetime.fromisoformat(row["processed_at"])
    row["query"] = base64.b64decode(row["query"])
    row["body"] = base64.b64decode(row["body"])
    return NewDelivery(**row)


def _fsync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _directory() -> Path:
    return settings.DATA_DIR / "spool"
