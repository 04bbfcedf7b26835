"""A backup taken under load is consistent, and with what providers send again nothing is missing."""

import signal
import subprocess
from collections.abc import Iterator
from itertools import count, takewhile
from pathlib import Path
from threading import Event

from tests.reliability.stage import IS_LONG, PATIENCE, Sender, Stage, call
from tests.servers import Server, postgresql_server, redis_server
from tests.serving import until

RATE = 300 if IS_LONG else 150
MORE = RATE * (20 if IS_LONG else 2)


def test_a_restored_backup_is_consistent_and_filled_by_what_is_sent_again(tmp_path):
    with postgresql_server() as database, redis_server() as broker:
        stage = Stage(tmp_path, database.url, broker.url)
        try:
            stage.start_web()
            stage.start_worker()
            stage.start_beat()
            enough = Event()
            with Sender(stage, whole_calls(enough), rate=RATE) as sender:
                sender.wait_for_more(MORE)
                backup = back_up(database)
                sender.wait_for_more(MORE)
                enough.set()
                sender.finish()
            assert until(stage.is_drained, PATIENCE)
            before = stage.derived("delhi")
            sender.assert_all_kept_once()
            stage.stop()  # a worker at work would change what is looked at

            restore(database, backup)
            kept = stage.query("SELECT count(*) FROM webhooks_delivery")[0][0]
            assert 0 < kept < len(sender.acknowledged)
            stage.manage("drain")  # what was pending in the backup
            assert stage.manage("rebuild", "--all", "--dry-run").splitlines()[:-1] == []
            stage.start_web()
            stage.start_worker()
            stage.start_beat()
            with Sender(stage, list(sender.acknowledged.values())) as again:
                again.finish()
            assert set(again.answers) == {200}
            assert until(stage.is_drained, PATIENCE)
            assert stage.derived("delhi") == before
        finally:
            stage.stop()


def whole_calls(enough: Event) -> Iterator[bytes]:
    """Return call after call, and end between two: the moments of one without its report are those of its arrivals."""
    for number in takewhile(lambda _: not enough.is_set(), count()):
        yield from call(number)


def cluster_of(database: Server) -> Path:
    return Path(database._command[database._command.index("-D") + 1])


def back_up(database: Server) -> Path:
    """Take a base backup of the running server and return its directory."""
    cluster = cluster_of(database)
    target = cluster.with_name("backup")
    binary = Path(database._command[0]).with_name("pg_basebackup")
    subprocess.run(
        [binary, "-d", database.url, "-D", target, "-X", "stream", "-c", "fast"],
        check=True, cwd=cluster.parent, user=database._user, timeout=PATIENCE,
    )  # fmt: skip
    return target


def restore(database: Server, backup: Path) -> None:
    """Put the backup in the place of what the server has now."""
    database.stop(signal.SIGQUIT)
    cluster = cluster_of(database)
    cluster.rename(cluster.with_name("lost"))
    backup.rename(cluster)
    database.start()
