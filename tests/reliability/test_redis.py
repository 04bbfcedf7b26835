"""Redis is a bell: flushed, frozen, stopped, restarted or full, it delays work and loses none, and nothing restarts."""

from itertools import chain, count

import pytest
import redis

from tests.reliability.system import call
from tests.servers import Server

NUMBERS = count()


@pytest.fixture(scope="module")
def system(launch, tmp_path_factory):
    with launch(tmp_path_factory.mktemp("redis")) as system:
        yield system


@pytest.fixture(scope="module")
def senders():
    """All that have sent to the system."""
    return []


def flush(broker: Server, wait) -> None:
    with redis.Redis.from_url(broker.url) as client:
        for _ in range(5):
            client.flushall()
            wait(1 / 5)


def freeze(broker: Server, wait) -> None:
    broker.pause()
    try:
        wait(1)
    finally:
        broker.resume()


def stop(broker: Server, wait) -> None:
    broker.stop()
    try:
        wait(1)
    finally:
        broker.start()


def restart(broker: Server, wait) -> None:
    for _ in range(4):
        broker.stop()
        broker.start()
        wait(1 / 4)


def run_out_of_memory(broker: Server, wait) -> None:
    with redis.Redis.from_url(broker.url) as client:
        client.config_set("maxmemory", "1mb")
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.set("any", "thing")
        wait(1)
        client.config_set("maxmemory", "0")


@pytest.mark.parametrize("fault", [flush, freeze, stop, restart, run_out_of_memory])
def test_without_redis_all_is_accepted_and_all_is_worked_off_after(fault, system, senders, lengths, note):
    process_ids = system.process_ids
    with system.send(chain.from_iterable(map(call, NUMBERS)), lengths.rate) as sender:
        senders.append(sender)
        sender.wait_for_more(lengths.rate)
        fault(system.redis, lambda share: sender.wait_for_more(int(share * lengths.outage_seconds * lengths.rate)))
        sender.wait_for_more(lengths.rate)
        sender.stop()
    note(sender)
    assert set(sender.answers) == {200}
    system.wait_until_drained()
    system.assert_keeps(*senders)
    assert system.rows("SELECT DISTINCT status, error_class FROM webhooks_delivery") == [("processed", "")]
    assert system.process_ids == process_ids
