from datetime import timedelta
from decimal import Decimal

from tests.api.conftest import Get
from tests.api.factories import NOON, a_conversation, a_live_conversation, an_account


def test_it_counts_how_calls_ended_and_what_they_add_up_to(get: Get) -> None:
    a_conversation(cost=Decimal("0.1"), talk_seconds=10, ring_seconds=4)
    a_conversation(cost=Decimal("0.2"), talk_seconds=21, ring_seconds=7)
    a_conversation(cost=None, cost_unit="", disposition="missed", talk_seconds=0, ring_seconds=None)
    a_conversation(cost=Decimal("3"), cost_unit="coins", disposition="voicemail", talk_seconds=9, ring_seconds=None)
    for disposition in ["busy", "failed", "cancelled", "unknown"]:
        a_conversation(disposition=disposition, cost=None, cost_unit="", talk_seconds=None, ring_seconds=None)
    a_live_conversation()
    assert get("stats/summary/") == {
        "calls": 9,
        "live": 1,
        "answered": 2,
        "missed": 1,
        "busy": 1,
        "failed": 1,
        "cancelled": 1,
        "voicemail": 1,
        "unknown": 1,
        "answer_rate": "0.2500",
        "talk_seconds": 40,
        "ring_seconds": 11,
        "average_talk_seconds": 16,
        "average_ring_seconds": 6,
        "cost": [{"unit": "INR", "amount": "0.300000"}, {"unit": "coins", "amount": "3.000000"}],
    }


def test_no_calls_have_no_rate(get: Get) -> None:
    a_live_conversation()
    figures = get("stats/summary/")
    assert (figures["calls"], figures["live"]) == (1, 1)
    assert figures["answer_rate"] is None
    assert figures["average_talk_seconds"] is None
    assert figures["average_ring_seconds"] is None
    assert figures["cost"] == []


def test_it_takes_the_filters_of_conversations(get: Get) -> None:
    a_conversation("vip", "refund")
    a_conversation(account=an_account("mumbai"), started_at=NOON + timedelta(hours=1))
    assert get("stats/summary/", tag="vip,refund")["calls"] == 1
    assert get("stats/summary/", account="mumbai")["calls"] == 1
    assert get("stats/summary/", started_before="2021-09-22T13:00:00Z", number="0000 0001")["calls"] == 1
