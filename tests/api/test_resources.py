"""What each resource shows, field by field, and at what cost."""

import base64
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.test import Client

from calls.models import ConversationRedirect
from tests.api.conftest import Get
from tests.api.factories import (
    NOON,
    a_conversation,
    a_delivery,
    a_leg,
    a_live_conversation,
    a_reading,
    an_account,
    an_agent,
    an_alert,
    an_event,
)
from webhooks.models import Delivery


def test_a_conversation_shows_what_is_known_of_it(get: Get) -> None:
    agent = an_agent()
    call = a_conversation(
        "refund", "vip", agent=agent, external_id="c62abd10", extra_params={"Name": "Akil", "ID": 8915726}, flags=[]
    )
    leg = a_leg(call, agent=agent, external_id="leg-1", cost=Decimal("0.45"), balance_after=Decimal("878.9"))
    event = an_event(leg, occurred_at=NOON + timedelta(microseconds=123000))
    shown = get(f"conversations/{call.id}/")
    assert shown == {
        "id": str(call.id),
        "account": "delhi-support",
        "provider": "piopiy",
        "external_id": "c62abd10",
        "direction": "inbound",
        "state": "ended",
        "disposition": "answered",
        "reason": "customer_cdr",
        "customer_number": "+919000000001",
        "did": "+918000000000",
        "agent": {"id": agent.id, "external_id": "202", "name": "Asha"},
        "started_at": "2021-09-22T12:00:00Z",
        "answered_at": "2021-09-22T12:00:05Z",
        "ended_at": "2021-09-22T12:00:18Z",
        "ring_seconds": 5,
        "talk_seconds": 13,
        "duration_seconds": 18,
        "cost": "0.450000",
        "cost_unit": "INR",
        "recording": None,
        "has_voicemail": False,
        "hangup_cause": "",
        "request_id": "",
        "extra_params": {"Name": "Akil", "ID": 8915726},
        "flags": [],
        "tags": ["refund", "vip"],
        "outcome": None,
        "legs": [
            {
                "id": leg.id,
                "conversation": str(call.id),
                "external_id": "leg-1",
                "label": "a",
                "role": "customer",
                "direction": "inbound",
                "from_number": "+919000000001",
                "to_number": "+918000000000",
                "agent": {"id": agent.id, "external_id": "202", "name": "Asha"},
                "disposition": "answered",
                "started_at": "2021-09-22T12:00:00Z",
                "answered_at": None,
                "ended_at": None,
                "ring_seconds": None,
                "talk_seconds": None,
                "duration_seconds": None,
                "hangup_cause": "",
                "cost": "0.450000",
                "balance_after": "878.900000",
                "recording": None,
            }
        ],
        "events": [
            {
                "id": event.id,
                "conversation": str(call.id),
                "leg": leg.id,
                "kind": "answered",
                "occurred_at": "2021-09-22T12:00:00.123000Z",
                "received_at": "2021-09-22T12:00:00Z",
                "provider_status": "answered",
                "details": {},
            }
        ],
    }


def test_a_live_conversation_has_no_disposition(get: Get) -> None:
    call = a_live_conversation(recording="https://example.com/a.wav")
    shown = get(f"conversations/{call.id}/")
    assert (shown["state"], shown["disposition"], shown["agent"], shown["cost"]) == ("live", None, None, None)
    assert shown["recording"] == "https://example.com/a.wav"


def test_a_list_embeds_legs_and_events_only_when_asked(get: Get) -> None:
    an_event(a_leg())
    (plain,) = get("conversations/")["results"]
    assert "legs" not in plain
    assert "events" not in plain
    (with_legs,) = get("conversations/", include="legs")["results"]
    assert len(with_legs["legs"]) == 1
    assert "events" not in with_legs
    (full,) = get("conversations/", include="legs,events")["results"]
    assert full == get(f"conversations/{full['id']}/")


def test_events_of_a_conversation_come_in_the_order_in_which_they_happened(get: Get) -> None:
    leg = a_leg()
    an_event(leg, kind="hangup", occurred_at=NOON + timedelta(seconds=9))
    an_event(leg, kind="started")
    assert [event["kind"] for event in get(f"conversations/{leg.conversation_id}/")["events"]] == ["started", "hangup"]


def test_the_id_of_a_merged_conversation_leads_to_the_survivor(client: Client) -> None:
    survivor = a_conversation()
    former = UUID("01997d5e-8a4c-7c3a-9d0a-3f2b1c4d5e6f")
    ConversationRedirect.objects.create(id=former, conversation=survivor)
    response = client.get(f"/api/v1/conversations/{former}/")
    assert response.status_code == 308
    assert response["Location"] == f"http://testserver/api/v1/conversations/{survivor.id}/"
    assert client.get(response["Location"]).json()["id"] == str(survivor.id)


def test_an_account_shows_its_latest_balance_by_the_providers_clock(get: Get) -> None:
    an_account("new", provider="telecmi")
    a_reading(occurred_at=NOON + timedelta(seconds=5), balance=Decimal("700"))
    a_reading(occurred_at=NOON, balance=Decimal("800"))
    first, second = get("accounts/")["results"]
    assert first == {
        "slug": "delhi-support",
        "name": "",
        "provider": "piopiy",
        "unit": "INR",
        "time_zone": "Asia/Kolkata",
        "phone_region": "IN",
        "active": True,
        "balance": {"balance": "700.000000", "occurred_at": "2021-09-22T12:00:05Z"},
    }
    assert (second["slug"], second["balance"]) == ("new", None)
    assert get("accounts/new/") == second | {"runway": None}
    assert get("accounts/delhi-support/")["runway"] == {
        "empty_at": None,
        "low": None,
        "high": None,
        "text": "How long the balance lasts can be said after 7 days of calls.",
    }
    assert [row["slug"] for row in get("accounts/", provider="telecmi")["results"]] == ["new"]


def test_a_balance_reading_shows_its_gap(get: Get) -> None:
    reading = a_reading(gap=Decimal("-1.5"), gap_kind="missing", gap_since=NOON - timedelta(minutes=5))
    assert get("balances/")["results"] == [
        {
            "account": "delhi-support",
            "conversation": str(reading.conversation_id),
            "leg": reading.leg_id,
            "occurred_at": "2021-09-22T12:00:00Z",
            "balance": "878.900000",
            "charge": "0.450000",
            "gap": "-1.500000",
            "gap_kind": "missing",
            "gap_since": "2021-09-22T11:55:00Z",
            "reason": "The balance fell by more than the charge: a charge without a call, or a CDR that never came.",
            "booked_at": "2021-09-22T12:00:00Z",
        }
    ]


def test_alerts_tell_whether_they_are_open(get: Get) -> None:
    an_alert(cleared_at=NOON + timedelta(hours=1))
    alert = an_alert(opened_at=NOON + timedelta(hours=2))
    assert [row["id"] for row in get("alerts/", open="true")["results"]] == [alert.id]
    assert [row["cleared_at"] for row in get("alerts/", open="false")["results"]] == ["2021-09-22T13:00:00Z"]
    assert [row["kind"] for row in get("alerts/", kind="low_balance")["results"]] == ["low_balance"] * 2


def test_an_alert_tells_its_rule_its_value_and_where_to_look(get: Get) -> None:
    staff = User.objects.create_user("asha", is_staff=True)
    page = {"label": "The calls", "page": "admin:calls_conversation_changelist", "query": {"did": "+91 80"}, "args": []}
    gone = {"label": "A page of an older version", "page": "admin:calls_gone", "query": {}, "args": ["7"]}
    alert = an_alert(
        subject="+918000000000", value=Decimal("12.5"), evidence=[page, gone], acknowledged_at=NOON, assigned_to=staff
    )
    (row,) = get("alerts/", acknowledged="true")["results"]
    assert row == {
        "id": alert.pk,
        "account": "delhi-support",
        "kind": "low_balance",
        "rule": "Low",
        "subject": "+918000000000",
        "message": "The balance is low.",
        "value": "12.500000",
        "evidence": [{"label": "The calls", "url": "http://testserver/admin/calls/conversation/?did=%2B91+80"}],
        "opened_at": "2021-09-22T12:00:00Z",
        "cleared_at": None,
        "acknowledged_at": "2021-09-22T12:00:00Z",
        "assigned_to": "asha",
    }
    assert get("alerts/", acknowledged="false")["results"] == []
    other = an_alert()
    (row,) = get("alerts/", acknowledged="false")["results"]
    assert (row["id"], row["value"], row["acknowledged_at"], row["assigned_to"]) == (other.pk, None, None, None)


def test_live_shows_the_calls_going_on_with_their_legs(get: Get) -> None:
    a_conversation()
    call = a_live_conversation()
    leg = a_leg(call)
    (row,) = get("live/")["results"]
    assert row["id"] == str(call.id)
    assert [shown["id"] for shown in row["legs"]] == [leg.id]


def test_a_delivery_shows_its_bytes_and_what_became_of_them(get: Get) -> None:
    call = a_conversation()
    delivery = a_delivery(call, call, query=b"a=1", processed_at=NOON, repeats=2)
    assert get(f"deliveries/{delivery.id}/") == {
        "id": str(delivery.id),
        "account": "delhi-support",
        "provider": "piopiy",
        "status": "processed",
        "received_at": "2021-09-22T12:00:00Z",
        "processed_at": "2021-09-22T12:00:00Z",
        "method": "POST",
        "content_type": "application/json",
        "size": 21,
        "digest": delivery.digest,
        "repeats": 2,
        "error": None,
        "conversations": [str(call.id)],
        "query": "a=1",
        "query_encoding": "text",
        "body": '{"status":"answered"}',
        "body_encoding": "text",
    }


def test_bytes_that_are_no_text_come_as_base64(get: Get) -> None:
    delivery = a_delivery(body=b"\xff\x00\xfe", query=b"a=\xff")
    shown = get(f"deliveries/{delivery.id}/")
    assert (shown["body_encoding"], base64.b64decode(shown["body"])) == ("base64", b"\xff\x00\xfe")
    assert (shown["query_encoding"], base64.b64decode(shown["query"])) == ("base64", b"a=\xff")


def test_a_quarantined_delivery_names_the_field_and_the_value(get: Get) -> None:
    a_delivery(
        status=Delivery.Status.QUARANTINED,
        error_class="BadField",
        error_field="duration",
        error_value="-1",
        error_message="expected whole seconds",
    )
    (row,) = get("deliveries/", status="quarantined")["results"]
    assert row["error"] == {
        "class": "BadField",
        "field": "duration",
        "value": "-1",
        "message": "expected whole seconds",
    }


def test_repeats_are_shown_only_when_asked_for_and_name_the_calls_of_the_first(get: Get) -> None:
    call = a_conversation()
    first = a_delivery(call, received_at=NOON)
    repeat = a_delivery(status="repeat", repeat_of=first, received_at=NOON + timedelta(minutes=5))
    for parameters, expected in [
        ({}, [first]),
        ({"include_repeats": "false"}, [first]),
        ({"include_repeats": "true"}, [repeat, first]),
        ({"status": "repeat"}, [repeat]),
        ({"status": "repeat,processed"}, [repeat, first]),
        ({"received_after": "2021-09-22T12:05:00Z", "include_repeats": "true"}, [repeat]),
        ({"received_before": "2021-09-22T12:05:00Z", "include_repeats": "true"}, [first]),
    ]:
        rows = get("deliveries/", **parameters)["results"]
        assert [row["id"] for row in rows] == [str(delivery.id) for delivery in expected], parameters
        assert all(row["conversations"] == [str(call.id)] for row in rows)


def a_whole_call() -> None:
    account = an_account(f"account-{UUID(int=a_conversation().id.int)}")
    agent = an_agent(account=account)
    call = a_live_conversation(account=account, agent=agent)
    call.tags.create(name=str(call.id))
    for label in "ab":
        leg = a_leg(call, agent=agent, label=label)
        an_event(leg)
        a_reading(leg)
    an_alert(account=account)
    a_delivery(call, account=account)


@pytest.mark.parametrize(
    "path",
    [
        "accounts/",
        "conversations/",
        "conversations/?include=legs,events",
        "legs/",
        "events/",
        "balances/",
        "accounts/delhi-support/statement/",
        "alerts/",
        "live/",
        "deliveries/",
        "stats/summary/",
    ],
)
def test_twenty_two_rows_cost_as_many_queries_as_two(
    client: Client, path: str, django_assert_max_num_queries: Callable
) -> None:
    def queries() -> int:
        with django_assert_max_num_queries(8) as captured:
            assert client.get(f"/api/v1/{path}").status_code == 200
        return len(captured)

    for _ in range(2):
        a_whole_call()
    queries()  # the first use of the key is noted
    few = queries()
    for _ in range(20):
        a_whole_call()
    assert queries() == few
