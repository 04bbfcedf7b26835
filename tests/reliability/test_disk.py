"""Full disks: where nothing can be kept the answer is 503, no 200 was untrue, and with room again all goes on."""

import contextlib
import errno
import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.reliability.client import Post, Sender
from tests.reliability.system import PATHS, PIOPIY_ACCOUNT, System, call, endless_calls
from tests.servers import Server, postgresql_server, redis_server
from tests.serving import until

RATE = 200


@contextlib.contextmanager
def small_disk(directory: Path, kilobytes: int) -> Iterator[bool]:
    """Mount a small file system on ``directory``, or say that this user may not."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(directory)]
    is_mounted = os.geteuid() == 0 and subprocess.run(command, check=False, capture_output=True).returncode == 0
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(directory)], check=True)


@contextlib.contextmanager
def running(directory: Path, database: Server) -> Iterator[System]:
    """Run the program with a single web process on a database server of its own."""
    with redis_server() as broker:
        system = System(directory, database, broker, database.url, webs=1)
        system.prepare()
        with system:
            yield system


def assert_all_is_well_again(system: System, sender: Sender) -> None:
    system.wait_until_drained()
    assert not list((system.directory / "spool").glob("*.bad"))
    with system.send(call(10**6), RATE) as after:
        pass
    assert set(after.answers) == {200}
    system.wait_until_drained()
    system.assert_keeps(sender, after)


def test_with_no_room_in_the_spool_the_answer_is_503_and_no_200_is_lost(tmp_path):
    spool = tmp_path / "spool"
    spool.mkdir(mode=0o700)
    with contextlib.ExitStack() as stack:
        is_mounted = stack.enter_context(small_disk(spool, 128))
        database = stack.enter_context(postgresql_server())
        system = stack.enter_context(running(tmp_path, database))
        web = system.webs[0].pid
        with system.send(endless_calls(), RATE) as sender:
            sender.wait_for_more(20)
            if not is_mounted:  # no file of the server's may grow beyond this: the same short writes, then errors
                resource.prlimit(web, resource.RLIMIT_FSIZE, (128 * 1024, resource.RLIM_INFINITY))
            database.stop()
            assert until(lambda: sender.answers[503] > 50, 120), sender.answers
            if not is_mounted:
                resource.prlimit(web, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            database.start()
            assert until(lambda: not system.spooled, 120), system.webs[0].log
            sender.wait_for_more(20)
            sender.stop()
        assert set(sender.answers) == {200, 503}
        assert {sent.retry_after for sent in sender.sent if sent.status == 503} == {"5"}
        assert len(sender.acknowledged) > 100
        assert_all_is_well_again(system, sender)


def test_with_no_room_for_the_database_all_goes_to_the_spool(tmp_path, monkeypatch):
    disk = tmp_path / "disk"
    disk.mkdir()
    disk.chmod(0o755)
    for parent in [*disk.parents][: -len(Path(tempfile.gettempdir()).parts)]:
        parent.chmod(0o755)  # PostgreSQL runs as another user
    with contextlib.ExitStack() as stack:
        is_mounted = stack.enter_context(small_disk(disk, 160 * 1024))
        with monkeypatch.context() as patch:
            patch.setattr(tempfile, "tempdir", str(disk))
            database = stack.enter_context(postgresql_server(max_wal_size="32MB", min_wal_size="32MB"))
        system = stack.enter_context(running(tmp_path, database))
        # Where no disk can be mounted: large bodies that do not shrink, which get to the limit soon.
        large = (Post(PATHS[PIOPIY_ACCOUNT], os.urandom(100_000)) for _ in count())
        with system.send(endless_calls() if is_mounted else large, RATE) as sender:
            sender.wait_for_more(20)
            if is_mounted:
                fill(disk / "ballast")
            else:  # no file of the database may grow beyond one of its log
                limit_files(database, str(16 * 1024 * 1024))
            assert until(lambda: system.spooled, 120), sender.answers
            sender.wait_for_more(RATE)
            if is_mounted:
                (disk / "ballast").unlink()
            else:
                limit_files(database, "unlimited")
            if database._process.poll() is not None:
                database.start()  # a database that ends because it has no room for its log is started by somebody
            sender.wait_for_more(20)
            sender.stop()
        assert set(sender.answers) == {200}
        assert_all_is_well_again(system, sender)


def limit_files(database: Server, size: str) -> None:
    """Limit how large files may become that the server and its sessions write."""
    server = database._process.pid
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    for process in [str(server), *children]:  # as their own user: even root may not always change another's limits
        command = ["prlimit", "--pid", process, f"--fsize={size}:unlimited"]
        subprocess.run(command, check=process == str(server), user=database._user, capture_output=True)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file, pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):  # noqa: PT012
        while file.write(bytes(65536)):
            pass
