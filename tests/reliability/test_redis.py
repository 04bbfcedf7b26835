"""Redis is a bell: flushed, frozen, stopped, restarted or full, it delays work and loses none, and nothing restarts."""

from itertools import chain, count

import pytest
import redis

from tests.reliability.stage import IS_LONG, PATIENCE, Sender, Stage, call
from tests.servers import Server, postgresql_server, redis_server
from tests.serving import until

RATE = 300 if IS_LONG else 60
OUTAGE = RATE * (30 if IS_LONG else 4)
"""How many more deliveries are answered before Redis comes back."""
NUMBERS = count()


@pytest.fixture(scope="module")
def broker():
    with redis_server("--maxmemory-policy", "noeviction") as server:
        yield server


@pytest.fixture(scope="module")
def stage(broker, tmp_path_factory):
    with postgresql_server() as database:
        stage = Stage(tmp_path_factory.mktemp("stage"), database.url, broker.url)
        try:
            stage.start_web()
            stage.start_worker()
            stage.start_beat()
            with Sender(stage, call(next(NUMBERS))) as sender:
                sender.finish()
            assert until(stage.is_drained, PATIENCE), stage.log("worker")
            yield stage
        finally:
            stage.stop()


def flush(broker: Server, sender: Sender) -> None:
    with redis.Redis.from_url(broker.url) as client:
        for _ in range(5):
            client.flushall()
            sender.wait_for_more(OUTAGE // 5)


def freeze(broker: Server, sender: Sender) -> None:
    broker.pause()
    try:
        sender.wait_for_more(OUTAGE)
    finally:
        broker.resume()


def stop(broker: Server, sender: Sender) -> None:
    broker.stop()
    try:
        sender.wait_for_more(OUTAGE)
    finally:
        broker.start()


def restart(broker: Server, sender: Sender) -> None:
    for _ in range(4):
        broker.stop()
        broker.start()
        sender.wait_for_more(OUTAGE // 4)


def run_out_of_memory(broker: Server, sender: Sender) -> None:
    with redis.Redis.from_url(broker.url) as client:
        client.config_set("maxmemory", "1mb")
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.set("any", "thing")
        sender.wait_for_more(OUTAGE)
        client.config_set("maxmemory", "0")


@pytest.mark.parametrize("fault", [flush, freeze, stop, restart, run_out_of_memory])
def test_without_redis_all_is_accepted_and_all_is_worked_off_after(fault, stage, broker):
    process_ids = stage.process_ids()
    with Sender(stage, chain.from_iterable(map(call, NUMBERS)), rate=RATE) as sender:
        sender.wait_for_more(20)
        fault(broker, sender)
        sender.wait_for_more(20)
    assert set(sender.answers) == {200}
    sender.assert_all_kept_once()
    assert until(stage.is_drained, PATIENCE), stage.log("worker")
    assert stage.query("SELECT DISTINCT status, error_class FROM webhooks_delivery") == [("processed", "")]
    assert stage.process_ids() == process_ids
