"""A backup taken under load is consistent, and with what providers send again nothing is missing."""

import signal
import subprocess
from collections.abc import Iterator
from itertools import count, takewhile
from pathlib import Path
from threading import Event

from tests.reliability.client import Post
from tests.reliability.system import PIOPIY_ACCOUNT, System, call
from tests.servers import Server, postgresql_server, redis_server


def test_a_restored_backup_is_consistent_and_filled_by_what_is_sent_again(tmp_path, lengths):
    more = lengths.rate * (20 if lengths.is_long else 2)
    with postgresql_server() as database, redis_server() as broker:
        system = System(tmp_path, database, broker, database.url)
        system.prepare()
        with system:
            enough = Event()
            with system.send(whole_calls(enough), lengths.rate) as sender:
                sender.wait_for_more(more)
                backup = back_up(database)
                sender.wait_for_more(more)
                enough.set()
            system.wait_until_drained()
            before = system.told_by_providers(PIOPIY_ACCOUNT)
            system.assert_keeps(sender)
            system.stop()  # a worker at work would change what is looked at

            restore(database, backup)
            kept = system.rows("SELECT count(*) FROM webhooks_delivery")[0][0]
            assert 0 < kept < len(sender.acknowledged)
            system.run("manage.py", "drain")  # what was pending in the backup
            assert system.run("manage.py", "rebuild", "--all", "--dry-run").splitlines()[:-1] == []
            system.start()
            with system.send(list(sender.acknowledged.values()), lengths.rate) as again:
                pass
            assert set(again.answers) == {200}
            system.wait_until_drained()
            assert system.told_by_providers(PIOPIY_ACCOUNT) == before


def whole_calls(enough: Event) -> Iterator[Post]:
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
        check=True, cwd=cluster.parent, user=database._user, timeout=120,
    )  # fmt: skip
    return target


def restore(database: Server, backup: Path) -> None:
    """Put the backup in the place of what the server has now."""
    database.stop(signal.SIGQUIT)
    cluster = cluster_of(database)
    cluster.rename(cluster.with_name("lost"))
    backup.rename(cluster)
    database.start()
