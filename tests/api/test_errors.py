"""Every refusal is a problem document that says what was wrong."""

import pytest
from django.test import Client

from tests.api.conftest import Get
from tests.api.factories import a_conversation

LISTS = ["accounts/", "conversations/", "legs/", "events/", "balances/", "alerts/", "live/", "deliveries/"]


def problem(response, status: int) -> dict:
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    document = response.json()
    assert document["status"] == status
    assert document.keys() >= {"type", "title", "status", "detail"}
    return document


@pytest.mark.parametrize("path", [*LISTS, "stats/summary/"])
def test_an_unknown_parameter_is_named_with_the_nearest_known_one(refusal: Get, path: str) -> None:
    known = {"accounts/": "provider", "stats/summary/": "direction"}.get(path, "page_size")
    (error,) = refusal(path, **{f"{known}x": "1"})["errors"]
    assert error["field"] == f"{known}x"
    assert f"“{known}”" in error["message"]


@pytest.mark.parametrize("name", ["account__secret__startswith", "started_at__gt", "x" * 10_000, "format", "page"])
def test_parameters_that_reach_for_columns_are_unknown(refusal: Get, name: str) -> None:
    assert refusal("conversations/", **{name: "a"})["errors"]


def test_several_wrong_parameters_are_all_named(refusal: Get) -> None:
    errors = refusal("conversations/", nope="1", state="")["errors"]
    assert [error["field"] for error in errors] == ["nope", "state"]
    errors = refusal("conversations/", state="over", min_cost="x")["errors"]
    assert {error["field"] for error in errors} == {"state", "min_cost"}


def test_a_parameter_given_twice_is_refused(client: Client) -> None:
    document = problem(client.get("/api/v1/conversations/?state=live&state=ended"), 400)
    assert document["errors"][0]["field"] == "state"


@pytest.mark.parametrize("path", ["accounts/none/", "conversations/01997d5e-8a4c-7c3a-9d0a-3f2b1c4d5e6f/",
    "conversations/1/", "conversations/" + "9" * 5000 + "/", "deliveries/x/", "accounts/..%2f/", "accounts/é/",
    "conversations/%ff%fe/", "nothing/", "", "nothing", "conversations/1/legs/", "live/stream/",
    "legs/1/"])  # fmt: skip
def test_what_is_not_there_is_a_problem_document(client: Client, path: str) -> None:
    problem(client.get(f"/api/v1/{path}"), 404)


def test_an_address_without_its_last_slash_is_found(client: Client) -> None:
    response = client.get("/api/v1/conversations?state=live")
    assert response.status_code == 301
    assert response["Location"] == "/api/v1/conversations/?state=live"


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options", "trace"])
@pytest.mark.parametrize("path", ["conversations/", "accounts/x/", "deliveries/", "stats/summary/"])
def test_only_reading_is_allowed(client: Client, path: str, method: str) -> None:
    response = getattr(client, method)(f"/api/v1/{path}")
    problem(response, 405)
    assert {name.strip() for name in response["Allow"].split(",")} == {"GET", "HEAD"}


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "nonsense"])
def test_it_speaks_json_only(client: Client, accept: str) -> None:
    problem(client.get("/api/v1/conversations/", headers={"accept": accept}), 406)


def test_head_answers_as_get_without_a_body(client: Client) -> None:
    a_conversation()
    response = client.head("/api/v1/conversations/")
    assert (response.status_code, response.content) == (200, b"")


def test_a_conversation_takes_no_parameters(client: Client) -> None:
    call = a_conversation()
    problem(client.get(f"/api/v1/conversations/{call.id}/?include=legs"), 400)


@pytest.mark.parametrize("path", ["conversations/?number=%00", "conversations/?%00=1", "accounts/%00/", "%00"])
def test_a_nul_is_refused(client: Client, path: str) -> None:
    problem(client.get(f"/api/v1/{path}"), 400)
