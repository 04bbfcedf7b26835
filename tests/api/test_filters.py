from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test import Client

from calls.models import Conversation
from tests.api.conftest import Get
from tests.api.factories import (
    NOON,
    a_conversation,
    a_leg,
    a_live_conversation,
    a_reading,
    an_account,
    an_agent,
    an_event,
)


@pytest.fixture
def names(get: Get):
    """Ask for conversations and return the provider's ids of those that came, sorted."""

    def ask(**parameters: str | int) -> list[str]:
        return sorted(row["external_id"] for row in get("conversations/", **parameters)["results"])

    return ask


def test_conversations_are_found_by_each_filter(names) -> None:
    mumbai = an_account("mumbai", provider="telecmi")
    asha = an_agent("202")
    a_conversation("vip", external_id="in", agent=asha, recording="a.wav", request_id="r-1")
    a_conversation(
        external_id="out",
        account=mumbai,
        direction="outbound",
        disposition="missed",
        customer_number="+917000000002",
        did="+916000000003",
        started_at=NOON + timedelta(hours=1),
        talk_seconds=0,
        cost=Decimal("2"),
    )
    a_live_conversation(external_id="live", started_at=NOON + timedelta(hours=2), customer_number="", did="")
    for parameters, expected in [
        ({"account": "mumbai"}, ["out"]),
        ({"account": "mumbai,delhi-support"}, ["in", "live", "out"]),
        ({"provider": "telecmi"}, ["out"]),
        ({"provider": "callerdesk"}, []),
        ({"direction": "outbound"}, ["out"]),
        ({"direction": "inbound,unknown"}, ["in", "live"]),
        ({"disposition": "answered,missed"}, ["in", "out"]),
        ({"state": "live"}, ["live"]),
        ({"agent": "202"}, ["in"]),
        ({"agent": asha.id}, ["in"]),
        ({"agent": "303"}, []),
        ({"agent": f"303,{asha.id}"}, ["in"]),
        ({"agent": "202,303"}, ["in"]),
        ({"external_id": "out"}, ["out"]),
        ({"external_id": "out,in,other"}, ["in", "out"]),
        ({"request_id": "r-1"}, ["in"]),
        ({"request_id": "r-1,r-2"}, ["in"]),
        ({"did": "+916000000003"}, ["out"]),
        ({"did": "+916000000003,+918000000000"}, ["in", "out"]),
        ({"customer_number": "07000000002,+919000000001"}, ["in", "out"]),
        ({"provider": "telecmi,piopiy", "state": "live,ended"}, ["in", "live", "out"]),
        ({"started_after": "2021-09-22T13:00:00Z"}, ["live", "out"]),
        ({"started_before": "2021-09-22T13:00:00Z"}, ["in"]),
        ({"started_after": "2021-09-22T18:30:00+05:30", "started_before": "2021-09-22T13:00:00.000001Z"}, ["out"]),
        ({"min_talk_seconds": 13}, ["in"]),
        ({"min_talk_seconds": 14}, []),
        ({"max_talk_seconds": 12}, ["out"]),
        ({"has_recording": "true"}, ["in"]),
        ({"has_recording": "false"}, ["live", "out"]),
        ({"min_cost": "0.45"}, ["in", "out"]),
        ({"min_cost": "0.450001"}, ["out"]),
        ({"tag": "vip,other"}, ["in"]),
        ({"tag": "other"}, []),
        ({"state": "ended", "direction": "inbound", "number": "9000000001"}, ["in"]),
    ]:
        assert names(**parameters) == expected, parameters


@pytest.mark.parametrize(
    "typed",
    ["+919000000001", " 919000000001", "919000000001", "9000000001", "09000000001", "+91 90000 00001",
     "+91 (0) 90000-00001", "0091 90000 00001", "90000 00001", "0001", "9190000", "(0)90000.00001"],
)  # fmt: skip
def test_a_number_is_found_in_any_spelling_and_by_part(names, typed: str) -> None:
    a_conversation(external_id="customer", customer_number="+919000000001", did="+918000000777")
    a_conversation(external_id="did", customer_number="+917000000777", did="+919000000001")
    a_conversation(external_id="neither", customer_number="+917000000777", did="+918000000777")
    assert names(number=typed) == ["customer", "did"]


@pytest.mark.parametrize("typed", ["+919000000001", "919000000001", "9000000001", "090000 00001"])
def test_a_whole_number_is_found_in_any_spelling(names, typed: str) -> None:
    a_conversation(external_id="it", customer_number="+919000000001", did="+918000000777")
    a_conversation(external_id="swapped", customer_number="+918000000777", did="+919000000001")
    assert names(customer_number=typed) == ["it"]
    assert names(did=typed) == ["swapped"]


def test_a_part_of_a_number_is_looked_for_in_indexes(client: Client) -> None:
    account = an_account()
    Conversation.objects.bulk_create(
        Conversation(
            account=account,
            customer_number=f"+9190{n * 7919 % 10**8:08}",
            did="+918000000000",
            started_at=NOON + timedelta(seconds=n),
            last_heard_at=NOON,
        )
        for n in range(3000)
    )
    wanted = a_conversation(customer_number="+919099999999")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    searches = []

    def noted(execute, sql, parameters, many, context):
        if "LIMIT" in sql and 'FROM "calls_conversation"' in sql:
            searches.append((sql, parameters))
        return execute(sql, parameters, many, context)

    with connection.execute_wrapper(noted):
        found = client.get("/api/v1/conversations/", {"number": "9999999"}).json()["results"]
    assert [row["id"] for row in found] == [str(wanted.id)]
    if connection.vendor == "postgresql":  # SQLite has no such index
        sql, parameters = searches[-1]
        with connection.cursor() as cursor:
            # So small a table invites to be read whole.
            cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = off")
            cursor.execute(f"EXPLAIN {sql}", parameters)
            plan = "\n".join(line for (line,) in cursor.fetchall())
        assert "conversation_customer_part" in plan, plan
        assert "Seq Scan on calls_conversation" not in plan, plan


def test_a_number_that_could_not_be_read_is_found_as_it_was_sent(names) -> None:
    a_conversation(external_id="sip", customer_number="sip:asha@example.com")
    assert names(customer_number="sip:asha@example.com") == ["sip"]


def test_a_number_is_read_in_the_countries_of_the_accounts(names) -> None:
    london = an_account("london", phone_region="GB")
    a_conversation(external_id="uk", account=london, customer_number="+442079460018")
    assert names(customer_number="020 7946 0018") == ["uk"]
    assert names(number="020 7946 0018") == ["uk"]


def test_legs_and_events_are_found_by_each_filter(get: Get) -> None:
    first = a_leg(external_id="l-1")
    second = a_leg(
        a_conversation(account=an_account("mumbai"), started_at=NOON + timedelta(hours=1)), external_id="l-2"
    )
    an_event(first, kind="started")
    an_event(second, kind="hangup", occurred_at=NOON + timedelta(hours=1))
    for parameters in [
        {"account": "mumbai"},
        {"conversation": str(second.conversation_id)},
        {"external_id": "l-2"},
        {"occurred_after": "2021-09-22T13:00:00Z"},
    ]:
        assert [row["id"] for row in get("legs/", **parameters)["results"]] == [second.id], parameters
        assert [row["kind"] for row in get("events/", **parameters)["results"]] == ["hangup"], parameters
    for several in [{"conversation": f"{first.conversation_id},{second.conversation_id}"}, {"external_id": "l-1,l-2"}]:
        assert {row["id"] for row in get("legs/", **several)["results"]} == {first.id, second.id}
        assert len(get("events/", **several)["results"]) == 2
    before = {"occurred_before": "2021-09-22T13:00:00Z"}
    assert [row["id"] for row in get("legs/", **before)["results"]] == [first.id]
    assert [row["kind"] for row in get("events/", **before)["results"]] == ["started"]
    assert [row["leg"] for row in get("events/", kind="started,ringing")["results"]] == [first.id]


def test_balances_are_found_by_each_filter(get: Get) -> None:
    a_reading()
    leg = a_leg(a_conversation(account=an_account("mumbai")))
    a_reading(leg, occurred_at=NOON + timedelta(hours=1))
    for parameters in [{"account": "mumbai"}, {"after": "2021-09-22T13:00:00Z"}]:
        assert [row["leg"] for row in get("balances/", **parameters)["results"]] == [leg.id], parameters
    assert len(get("balances/", before="2021-09-22T13:00:00Z")["results"]) == 1


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("account", "dehli-support", "delhi-support"),
        ("account", ",", "blank"),
        ("direction", "inbond", "inbound, outbound, unknown. Did you mean “inbound”?"),
        ("direction", "inbound,", "inbound, outbound, unknown"),
        ("disposition", "ANSWERED", "answered"),
        ("state", "over", "live, ended"),
        ("number", "abc", "4 digits"),
        ("number", "012", "4 digits"),
        ("number", "1" * 65, "64"),
        ("started_after", "2021-09-22T13:48:30", "offset"),
        ("started_after", "2021-09-22", "offset"),
        ("started_after", "2021-02-30T00:00:00Z", "2021-09-22T13:48:30Z"),
        ("started_after", "yesterday", "2021-09-22T13:48:30Z"),
        ("started_after", "2021-09-22T19:18:30 05:30", "%2B"),
        ("started_before", "9" * 5000, "offset"),
        ("min_talk_seconds", "-1", "from 0 to"),
        ("min_talk_seconds", "1.5", "from 0 to"),
        ("max_talk_seconds", "9" * 5000, "from 0 to"),
        ("max_talk_seconds", "2147483648", "from 0 to"),
        ("max_talk_seconds", "١٢", "from 0 to"),
        ("has_recording", "yes", "true or false"),
        ("min_cost", "NaN", "decimal amount"),
        ("min_cost", "1e3", "decimal amount"),
        ("min_cost", "9" * 5000, "decimal amount"),
        ("external_id", "x" * 10_000, "255"),
        ("tag", "x" * 10_000, "255"),
        ("ordering", "-talk", "-started_at, started_at"),
        ("include", "legs,evnts", "legs, events"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(refusal: Get, field: str, value: str, told: str) -> None:
    an_account()
    problem = refusal("conversations/", **{field: value})
    (error,) = problem["errors"]
    assert error["field"] == field
    assert value.startswith(error["value"].rstrip("…"))
    assert told in error["message"]
    assert error["message"] in problem["detail"]


@pytest.mark.parametrize("path", ["legs/", "events/"])
@pytest.mark.parametrize("value", ["1", "x" * 10_000, "9" * 5000, "01997d5e-8a4c-7c3a-9d0a"])
def test_an_id_that_is_none_is_refused(refusal: Get, path: str, value: str) -> None:
    assert refusal(path, conversation=value)["errors"][0]["field"] == "conversation"
