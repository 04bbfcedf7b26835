"""Full disks: where nothing can be kept the answer is 503, no 200 was untrue, and with room again all goes on."""

import contextlib
import errno
import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import chain, count, repeat
from pathlib import Path

import pytest

from tests.reliability.stage import PATIENCE, Sender, Stage, call
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


def endless_calls() -> Iterator[bytes]:
    return chain.from_iterable(map(call, count()))


def assert_all_is_well_again(stage: Stage, sender: Sender) -> None:
    assert until(stage.is_drained, PATIENCE), (stage.log("web"), stage.log("worker"))
    sender.assert_all_kept_once()
    assert not list((stage.directory / "spool").glob("*.bad"))
    with Sender(stage, call(10**6)) as after:
        after.finish()
    assert set(after.answers) == {200}
    assert until(stage.is_drained, PATIENCE)
    after.assert_all_kept_once()


def test_with_no_room_in_the_spool_the_answer_is_503_and_no_200_is_lost(tmp_path):
    spool = tmp_path / "spool"
    spool.mkdir(mode=0o700)
    with contextlib.ExitStack() as stack:
        is_mounted = stack.enter_context(small_disk(spool, 128))
        database, broker = stack.enter_context(postgresql_server()), stack.enter_context(redis_server())
        stage = Stage(tmp_path, database.url, broker.url)
        stack.callback(stage.stop)
        stage.start_web()
        stage.start_worker()
        stage.start_beat()
        web = stage.processes["web"].pid
        with Sender(stage, endless_calls(), rate=RATE) as sender:
            sender.wait_for_more(20)
            if not is_mounted:  # no file of the server's may grow beyond this: the same short writes, then errors
                resource.prlimit(web, resource.RLIMIT_FSIZE, (128 * 1024, resource.RLIM_INFINITY))
            database.stop()
            assert until(lambda: sender.answers[503] > 50, PATIENCE), sender.answers
            if not is_mounted:
                resource.prlimit(web, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            database.start()
            assert until(lambda: stage.is_spool_empty(), PATIENCE), stage.log("web")
            sender.wait_for_more(20)
        assert set(sender.answers) == {200, 503}
        assert sender.retry_after == {"5"}
        assert len(sender.acknowledged) > 100
        assert_all_is_well_again(stage, sender)


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
        broker = stack.enter_context(redis_server())
        stage = Stage(tmp_path, database.url, broker.url)
        stack.callback(stage.stop)
        stage.start_web()
        stage.start_worker()
        stage.start_beat()
        with Sender(stage, endless_calls() if is_mounted else map(os.urandom, repeat(100_000)), rate=RATE) as sender:
            sender.wait_for_more(20)
            if is_mounted:
                fill(disk / "ballast")
            else:  # no file of the database may grow beyond one of its log; bodies that do not shrink get there soon
                limit_files(database, str(16 * 1024 * 1024))
            assert until(lambda: not stage.is_spool_empty(), PATIENCE), sender.answers
            sender.wait_for_more(RATE)
            if is_mounted:
                (disk / "ballast").unlink()
            else:
                limit_files(database, "unlimited")
            if database._process.poll() is not None:
                database.start()  # a database that ends because it has no room for its log is started by somebody
            sender.wait_for_more(20)
        assert set(sender.answers) == {200}
        assert_all_is_well_again(stage, sender)


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
