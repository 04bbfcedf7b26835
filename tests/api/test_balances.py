"""Balances and statements by the API: what they show, and that the one adds up to the other."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from calls.models import BalanceReading
from tests.api.conftest import Get
from tests.api.factories import a_reading, an_account
from tests.calls.reports import NOON, paid_call, take

STATEMENT = "accounts/delhi-support/statement/"
Refusal = Callable[..., Any]


def take_chain() -> None:
    """Take in six paid calls a minute apart, with a top-up of 500 and 8.65 that nothing explains."""
    balances = ["100", "99.55", "599.10", "590", "589.55", "589.10"]
    take(an_account(), *(paid_call(number, balance=balance) for number, balance in enumerate(balances)))


def test_a_statement_adds_up(get: Get) -> None:
    take_chain()
    assert get(STATEMENT) == {
        "account": "delhi-support",
        "unit": "INR",
        "opening": "100.450000",
        "top_ups": {"amount": "500.000000", "count": 1},
        "charges": {"amount": "2.700000", "count": 6},
        "unexplained": {"amount": "8.650000", "count": 1},
        "rounding": {"amount": "0.000000", "count": 0},
        "closing": "589.100000",
        "first_at": "2026-03-02T12:00:00Z",
        "last_at": "2026-03-02T12:05:00Z",
    }


@pytest.mark.parametrize(
    "time",
    [
        {},
        {"after": "2026-03-02T12:02:00Z"},
        {"before": "2026-03-02T17:33:00+05:30"},
        {"after": "2026-03-02T12:01:00Z", "before": "2026-03-02T12:04:00Z"},
    ],
)
def test_its_figures_are_those_of_the_readings_of_the_same_time(get: Get, time: dict[str, str]) -> None:
    take_chain()
    take(an_account("mumbai"), paid_call(1, balance="7"))
    found = get(STATEMENT, **time)
    readings = get("balances/", account="delhi-support", **time)["results"]
    assert found["charges"]["count"] == len(readings)
    assert Decimal(found["charges"]["amount"]) == sum(Decimal(reading["charge"]) for reading in readings)
    assert (found["closing"], found["last_at"]) == (readings[0]["balance"], readings[0]["booked_at"])
    for part, kind in [("top_ups", "top_up"), ("unexplained", "missing")]:
        gaps = get("balances/", account="delhi-support", gap_kind=kind, **time)["results"]
        assert found[part]["count"] == len(gaps)
        assert Decimal(found[part]["amount"]) == abs(sum(Decimal(reading["gap"]) for reading in gaps))


def test_without_a_reading_balances_and_times_are_null(get: Get) -> None:
    an_account()
    found = get(STATEMENT)
    assert {name for name, value in found.items() if value is None} == {"opening", "closing", "first_at", "last_at"}
    take_chain()
    later = get(STATEMENT, after="2026-04-01T00:00:00Z")
    assert (later["opening"], later["closing"], later["last_at"]) == ("589.100000", "589.100000", None)


def test_a_statement_of_no_account_is_not_found(client: Client) -> None:
    assert client.get(f"/api/v1/{STATEMENT}").status_code == 404


@pytest.mark.parametrize(
    ("query", "field"),
    [({"after": "2026-03-02"}, "after"), ({"since": "2026-03-02T12:00:00Z"}, "since"), ({"account": "a"}, "account")],
)
def test_a_wrong_parameter_of_a_statement_is_named(refusal: Refusal, query: dict[str, str], field: str) -> None:
    an_account()
    (error,) = refusal(STATEMENT, **query)["errors"]
    assert error["field"] == field


def test_gaps_are_found_by_their_reason(get: Get) -> None:
    take_chain()
    both = get("balances/", gap_kind="top_up,missing")["results"]
    assert [reading["gap"] for reading in both] == ["-8.650000", "500.000000"]
    assert [reading["gap_kind"] for reading in both] == ["missing", "top_up"]
    assert both[1]["reason"] == "The balance rose: money was added."
    assert all(reading["gap_since"] < reading["booked_at"] for reading in both)
    (first,) = get("balances/", gap_kind="opening")["results"]
    assert (first["gap"], first["gap_since"]) == (None, None)


def test_an_unknown_reason_is_refused_with_those_there_are(refusal: Refusal) -> None:
    (error,) = refusal("balances/", gap_kind="topup")["errors"]
    assert "Did you mean “top_up”?" in error["message"]


def test_a_reading_that_was_booked_out_of_order_says_so(get: Get) -> None:
    a_reading(occurred_at=NOON, booked_at=NOON + timedelta(seconds=2), gap_kind="none")
    assert "A call that ended later was booked before" in get("balances/")["results"][0]["reason"]


def test_pages_go_on_where_the_last_one_ended(client: Client, get: Get) -> None:
    take_chain()
    page = get("balances/", page_size=4)
    rest = client.get(page["next"]).json()["results"]
    booked = list(BalanceReading.objects.order_by("-booked_at").values_list("leg", flat=True))
    assert [reading["leg"] for reading in page["results"] + rest] == booked


def test_readings_are_chosen_by_when_they_were_booked(get: Get) -> None:
    a_reading(occurred_at=NOON, booked_at=NOON + timedelta(seconds=2))
    assert len(get("balances/", after="2026-03-02T12:00:01Z")["results"]) == 1
    assert get("balances/", before="2026-03-02T12:00:01Z")["results"] == []
