"""Where deliveries wait while the database is away: files that are fsynced before the answer.

Each process appends to a file of its own and holds a lock on it, so that nobody takes it away from under it; it lets
the file go when the database is back. Whoever drains takes the files that nobody holds, in the order in which they were
begun, and puts their deliveries in the inbox. Doing so twice does no harm: the ids were given at the door.
"""

import base64
import contextlib
import fcntl
import json
import logging
import os
import threading
import zlib
from datetime import datetime
from pathlib import Path
from uuid import UUID

from django.conf import settings

from calls.ids import new_id
from webhooks.models import Delivery

logger = logging.getLogger(__name__)

BATCH = 500
_FIELDS = [
    "account_id", "method", "content_type", "remote_address", "size", "digest", "status",
    "error_class", "error_field", "error_value", "error_message",
]  # fmt: skip


class _OpenFile:
    """The file that this process appends to, from the first delivery that has to be spooled until the spool closes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._owner = 0

    def append(self, line: bytes) -> None:
        with self._lock:
            descriptor = self._open()
            end = os.fstat(descriptor).st_size
            try:
                # A full disk writes a part and says so only by the count.
                if os.write(descriptor, line) != len(line):
                    raise OSError(28, "the disk is full")
                os.fdatasync(descriptor)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, end)
                raise

    def close(self) -> None:
        with self._lock:
            if self._descriptor is not None and self._owner == os.getpid():
                os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is not None and self._owner == os.getpid():
            return self._descriptor
        directory = _directory()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = directory / f"{new_id()}.spool"  # ids sort by time
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        parent = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
        self._descriptor, self._owner = descriptor, os.getpid()
        return descriptor


_file = _OpenFile()


def append(delivery: Delivery) -> None:
    """Write ``delivery`` and return when it is on disk. Raises ``OSError`` when it is not; then nothing of it is."""
    row = {name: getattr(delivery, name) for name in _FIELDS}
    row["id"] = str(delivery.pk)
    row["received_at"] = delivery.received_at.isoformat()
    row["processed_at"] = delivery.processed_at and delivery.processed_at.isoformat()
    row["query"] = base64.b64encode(delivery.query).decode()
    row["body"] = base64.b64encode(delivery.body).decode()
    text = json.dumps(row).encode()
    _file.append(b"%08x %s\n" % (zlib.crc32(text), text))


def close() -> None:
    """Let go of this process's file, so that it can be drained."""
    _file.close()


def drain_spools() -> int:
    """Put what is spooled in the inbox and return how many deliveries that were. Raises when the database is away.

    A line that is damaged (the last one of a process that was killed while writing, whose sender got no answer) is kept
    beside, in a file that ends in ``.bad``.
    """
    return sum(_drain(path) for path in waiting_files())


def waiting_files() -> list[Path]:
    """Return the files that wait to be drained, oldest first; one that is still written is among them."""
    return sorted(_directory().glob("*.spool"))


def _drain(path: Path) -> int:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0  # its process still appends to it
        if not path.exists():
            return 0  # another one has drained it between our opening and locking it
        count, batch, bad = 0, [], []
        for line in file:
            delivery = _read(line)
            if delivery is None:
                bad.append(line)
                continue
            batch.append(delivery)
            if len(batch) == BATCH:
                count += _store(batch)
                batch = []
        count += _store(batch)
        if bad:
            path.with_suffix(".bad").write_bytes(b"".join(bad))
            logger.error("%d damaged lines of the spool are kept in %s", len(bad), path.with_suffix(".bad").name)
        path.unlink()
    return count


def _store(batch: list[Delivery]) -> int:
    Delivery.objects.bulk_create(batch, ignore_conflicts=True)
    return len(batch)


def _read(line: bytes) -> Delivery | None:
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text):
        return None
    row = json.loads(text)
    return Delivery(
        id=UUID(row["id"]),
        received_at=datetime.fromisoformat(row["received_at"]),
        processed_at=row["processed_at"] and datetime.fromisoformat(row["processed_at"]),
        query=base64.b64decode(row["query"]),
        body=base64.b64decode(row["body"]),
        **{name: row[name] for name in _FIELDS},
    )


def _directory() -> Path:
    return settings.DATA_DIR / "spool"
