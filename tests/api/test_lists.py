"""What all lists have in common: fields, entity tags, costs, and who sees what."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connection
from django.test import Client
from drf_spectacular.generators import SchemaGenerator

from calls.api.schema import operations_of
from calls.choices import Scope
from calls.models import Alert, AlertRule, ApiKey, BalanceReading, Conversation, Event, Leg
from tests.api.conftest import Get
from tests.api.factories import (
    NOON,
    a_conversation,
    a_delivery,
    a_leg,
    a_live_conversation,
    a_reading,
    an_account,
    an_alert,
    an_event,
    client_with,
)

LISTS = ["accounts/", "conversations/", "legs/", "events/", "balances/", "alerts/", "live/", "deliveries/"]


def some_of_everything(account: str = "delhi-support") -> None:
    owner = an_account(account)
    call = a_live_conversation(account=owner)
    leg = a_leg(call)
    an_event(leg)
    a_reading(leg)
    an_alert(account=owner)
    a_delivery(call, account=owner)


# --- Fields ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", LISTS)
def test_each_list_shows_the_fields_asked_for_and_no_other(get: Get, path: str) -> None:
    some_of_everything()
    (whole,) = get(path)["results"]
    for name in whole:
        assert get(path, fields=name)["results"] == [{name: whole[name]}]
    (first, *_, last) = whole
    (row,) = get(path, fields=f"{last}, {first}")["results"]
    assert list(row.items()) == [(first, whole[first]), (last, whole[last])]


@pytest.mark.parametrize("path", LISTS)
def test_an_unknown_field_is_refused_with_those_there_are(get: Get, refusal: Get, path: str) -> None:
    some_of_everything()
    (error,) = refusal(path, fields="acount,nonsense")["errors"]
    assert (error["field"], error["value"]) == ("fields", "acount")
    assert all(name in error["message"] for name in get(path)["results"][0])


def test_the_nearest_field_is_suggested(refusal: Get) -> None:
    (error,) = refusal("conversations/", fields="id,stared_at")["errors"]
    assert "Did you mean “started_at”?" in error["message"]
    assert refusal("conversations/", fields="id,,did")["errors"][0]["field"] == "fields"


def test_every_list_of_the_schema_takes_every_field_that_it_names(client: Client) -> None:
    document = SchemaGenerator().get_schema(request=None, public=True)
    lists = {}
    for path, _, operation in operations_of(document):
        for parameter in operation.get("parameters", []):
            if parameter.get("name") == "fields" and "{" not in path and operation["operationId"].endswith("_list"):
                lists[path] = ",".join(parameter["schema"]["items"]["enum"])
    assert {f"/api/v1/{path}" for path in LISTS} <= lists.keys()
    for path, names in lists.items():
        assert client.get(path, {"fields": names}).status_code == 200, path


def test_legs_and_events_are_embedded_when_fields_names_them(get: Get) -> None:
    event = an_event()
    (row,) = get("conversations/", fields="id,events")["results"]
    assert list(row) == ["id", "events"]
    assert [shown["id"] for shown in row["events"]] == [event.id]
    (row,) = get("conversations/", fields="id", include="legs")["results"]
    assert list(row) == ["id"]


def test_the_next_page_has_the_same_fields(client: Client, get: Get) -> None:
    for _ in range(3):
        a_conversation()
    page = client.get(get("conversations/", fields="did", page_size=2)["next"]).json()
    assert page["results"] == [{"did": "+918000000000"}]


# --- Entity tags -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", [*LISTS, "accounts/delhi-support/", "accounts/delhi-support/statement/", "stats/summary/"]
)
def test_what_is_still_the_same_is_not_sent_again(client: Client, path: str) -> None:
    some_of_everything()
    first = client.get(f"/api/v1/{path}")
    assert first["ETag"].startswith('"')
    assert first["Cache-Control"] == "private, no-cache"
    assert "Authorization" in first["Vary"]
    for known in [first["ETag"], f'"other", W/{first["ETag"]}', "*"]:
        again = client.get(f"/api/v1/{path}", headers={"If-None-Match": known})
        assert (again.status_code, again.content, again["ETag"]) == (304, b"", first["ETag"])
        assert "Content-Type" not in again
    for known in ['"other"', "nonsense", first["ETag"].strip('"'), ""]:
        assert client.get(f"/api/v1/{path}", headers={"If-None-Match": known}).content == first.content


def test_head_tells_what_get_would_without_the_body(client: Client) -> None:
    call = a_conversation()
    for path in ["conversations/", f"conversations/{call.id}/"]:
        got, asked = client.get(f"/api/v1/{path}"), client.head(f"/api/v1/{path}")
        assert (asked.status_code, asked.content, asked["ETag"]) == (200, b"", got["ETag"])
        known = client.head(f"/api/v1/{path}", headers={"If-None-Match": got["ETag"]})
        assert known.status_code == 304


def test_the_tag_changes_with_the_row_and_with_its_parts(client: Client) -> None:
    call = a_conversation()
    leg = a_leg(call)
    tags = set()

    def note() -> None:
        tags.add(client.get(f"/api/v1/conversations/{call.id}/")["ETag"])

    note()
    note()
    assert len(tags) == 1
    call.tags.create(name="vip")
    note()
    Leg.objects.filter(pk=leg.pk).update(talk_seconds=7)
    note()
    an_event(leg)
    note()
    assert len(tags) == 4


def test_errors_have_no_tag(client: Client) -> None:
    for path in ["conversations/?nonsense=1", f"conversations/{UUID(int=7)}/"]:
        response = client.get(f"/api/v1/{path}", headers={"If-None-Match": "*"})
        assert response.status_code in (400, 404)
        assert "ETag" not in response


# --- Visibility ------------------------------------------------------------------------------------------------------


def test_a_key_of_one_account_is_not_told_of_others_not_even_by_suggestions(db: None) -> None:
    some_of_everything("delhi-support")
    some_of_everything("mumbai-sales")
    _, text = ApiKey.issue("one", [Scope.READ, Scope.MANAGE], accounts=[an_account("delhi-support")])
    client = client_with(text)
    for path in LISTS:
        rows = client.get(f"/api/v1/{path}").json()["results"]
        assert len(rows) == 1, path
        assert "mumbai" not in str(rows)
    answers = [client.get("/api/v1/conversations/", {"account": slug}) for slug in ("mumbai-sales", "mumbai-salex")]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert [answer.json()["errors"][0]["message"] for answer in answers] == ["There is no account with this slug."] * 2


# --- Costs -----------------------------------------------------------------------------------------------------------


def test_a_page_with_legs_and_events_costs_at_most_six_queries_whatever_its_size(
    client: Client, django_assert_max_num_queries: Callable
) -> None:
    address = "/api/v1/conversations/?include=legs,events&page_size=500"
    client.get(address)  # the first use of the key is noted

    def queries() -> int:
        with django_assert_max_num_queries(6) as captured:
            assert client.get(address).status_code == 200
        return len(captured)

    for count in (1, 30):
        for _ in range(count):
            call = a_conversation("vip")
            for label in "ab":
                an_event(a_leg(call, label=label))
        found = queries()
    assert queries() == found


def deep_plan(client: Client, address: str, table: str) -> str:
    """Return how the database goes about the page that comes after the one at ``address``."""
    statements = []

    def noted(execute, sql, parameters, many, context):
        if f'FROM "{table}"' in sql and "LIMIT" in sql:
            statements.append((sql, parameters))
        return execute(sql, parameters, many, context)

    following = client.get(address).json()["next"]
    with connection.execute_wrapper(noted):
        assert client.get(following).status_code == 200
    ((sql, parameters),) = statements
    explain = "EXPLAIN" if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN"
    with connection.cursor() as cursor:
        cursor.execute(f"{explain} {sql}", parameters)
        return "\n".join(line[-1] for line in cursor.fetchall())


def test_a_deep_page_of_each_list_is_found_by_an_index_of_all_accounts_and_of_one(client: Client) -> None:
    accounts = [an_account(f"account-{n}") for n in range(4)]
    moments = [NOON + timedelta(seconds=n // 3) for n in range(2000)]
    calls = Conversation.objects.bulk_create(
        Conversation(account=accounts[n % 4], started_at=at, last_heard_at=at) for n, at in enumerate(moments)
    )
    legs = Leg.objects.bulk_create(
        Leg(account=call.account, conversation=call, started_at=call.started_at if n % 5 else None)
        for n, call in enumerate(calls)
    )
    Event.objects.bulk_create(
        Event(account=leg.account, conversation=leg.conversation, leg=leg, occurred_at=at, received_at=at)
        for leg, at in zip(legs, moments, strict=True)
    )
    BalanceReading.objects.bulk_create(
        BalanceReading(
            account=leg.account, conversation=leg.conversation, leg=leg, occurred_at=at, received_at=at,
            booked_at=at, balance=1, charge=1,
        )
        for leg, at in zip(legs, moments, strict=True)
    )  # fmt: skip
    rule = AlertRule.objects.create(name="Low", kind="low_balance", opens_at=50)
    Alert.objects.bulk_create(
        Alert(rule=rule, account=accounts[n % 4], kind=rule.kind, opened_at=at, updated_at=at, cleared_at=at)
        for n, at in enumerate(moments)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    restricted = client_with(ApiKey.issue("one", [Scope.READ], accounts=[accounts[1]])[1])
    for path, table in [
        ("conversations", "calls_conversation"),
        ("legs", "calls_leg"),
        ("events", "calls_event"),
        ("balances", "calls_balancereading"),
        ("alerts", "calls_alert"),
    ]:
        for asking, narrowed in [(client, ""), (client, "&account=account-2"), (restricted, "")]:
            plan = deep_plan(asking, f"/api/v1/{path}/?page_size=20{narrowed}", table)
            assert "USING INDEX" in plan or f" on {table} " in plan.partition("Index Scan using")[2], plan
            assert "TEMP B-TREE" not in plan, plan
            assert "Sort" not in plan, plan


def test_what_the_provider_calls_it_is_looked_up_in_an_index(client: Client) -> None:
    account = an_account()
    calls = Conversation.objects.bulk_create(
        Conversation(
            account=account, external_id=f"call-{n % 700}", started_at=NOON + timedelta(seconds=n), last_heard_at=NOON
        )
        for n in range(2000)
    )
    legs = Leg.objects.bulk_create(
        Leg(account=account, conversation=call, external_id=f"leg-{n % 700}", started_at=call.started_at)
        for n, call in enumerate(calls)
    )
    Event.objects.bulk_create(
        Event(
            account=account, conversation=leg.conversation, leg=leg, leg_external_id=leg.external_id,
            occurred_at=leg.started_at, received_at=NOON,
        )
        for leg in legs
    )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    for path, wanted, table, index in [
        ("conversations", "call-7", "calls_conversation", "conversation_external_id"),
        ("legs", "leg-7", "calls_leg", "leg_external_id"),
        ("events", "leg-7", "calls_event", "event_leg_external_id"),
    ]:
        plan = deep_plan(client, f"/api/v1/{path}/?page_size=1&external_id={wanted}", table)
        assert index in plan, plan
