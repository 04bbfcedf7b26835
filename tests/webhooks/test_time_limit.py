"""Deliveries that hang or kill their workers: stopped or set apart, and their neighbours not blamed."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from tests.webhooks.inbox import NOON, deliver
from webhooks import processing
from webhooks.models import Delivery
from webhooks.providers import PROVIDERS, Provider
from webhooks.time_limit import TimeLimit, TooSlow

Status = Delivery.Status
HELLO = {"event": "hello"}


@pytest.fixture
def sleepy(monkeypatch):
    """An adapter that sleeps as long as the payload says."""

    def parse(payload, *, received_at, account):
        time.sleep(payload.get("seconds", 0))
        return []

    monkeypatch.setitem(PROVIDERS, "piopiy", Provider("PIOPIY", parse))


def test_a_block_is_stopped_in_time_also_when_it_swallows_the_first_interruption():
    began = time.monotonic()
    with pytest.raises(TooSlow, match=r"longer than 0\.1 seconds"), TimeLimit(0.1):  # noqa: PT012
        try:
            time.sleep(60)
        except TooSlow:
            time.sleep(60)
    assert time.monotonic() - began < 30


def test_after_the_block_nothing_is_stopped():
    with TimeLimit(0.1):
        pass
    time.sleep(0.2)


def test_in_another_thread_there_is_no_limit():
    def work() -> str:
        with TimeLimit(0.05):
            time.sleep(0.1)
        return "done"

    with ThreadPoolExecutor() as pool:
        assert pool.submit(work).result(60) == "done"


def test_a_delivery_that_takes_too_long_to_read_is_quarantined_and_stops_nothing(account, sleepy, monkeypatch):
    monkeypatch.setattr(processing, "READ_SECONDS", 0.1)
    for number, seconds in enumerate([0, 60, 0]):
        deliver(account, HELLO | {"number": number, "seconds": seconds})
    processing.drain()
    slow = Delivery.objects.get(status=Status.QUARANTINED)
    assert (slow.error_class, slow.attempts) == ("TooSlow", 1)
    assert slow.error_message == "Reading it took longer than 0.1 seconds and was stopped."
    assert Delivery.objects.filter(status=Status.IGNORED).count() == 2


def test_what_slow_neighbours_leave_no_time_for_goes_back_without_an_attempt(account, sleepy, monkeypatch):
    monkeypatch.setattr(processing, "READ_SECONDS", 0.2)
    monkeypatch.setattr(processing, "LEASE", timedelta(seconds=0.2))
    for number in range(4):
        deliver(account, HELLO | {"number": number, "seconds": 60})
    deliver(account, HELLO | {"number": 4}, received_at=NOON + timedelta(seconds=1))
    processing.drain()
    assert set(Delivery.objects.values_list("attempts", "status")) == {(1, Status.QUARANTINED), (1, Status.IGNORED)}


def test_what_ended_no_attempt_is_claimed_after_the_fresh_and_in_smaller_groups(account, sleepy):
    for number in range(60):
        deliver(account, HELLO | {"number": number})
    Delivery.objects.update(attempts=1, lease_until=NOON)
    fresh = deliver(account, HELLO | {"number": 60}, received_at=NOON + timedelta(seconds=1))
    assert [delivery.pk for delivery in processing._claim()] == [fresh.pk]
    assert [len(processing._claim()) for _ in range(2)] == [50, 10]
    Delivery.objects.update(attempts=2, lease_until=NOON)
    assert len(processing._claim()) == 1
