"""Every refusal is a problem document that says what was wrong."""

import logging
import re

import pytest
from django.db import OperationalError
from django.test import Client
from django.urls import include, path
from rest_framework.views import APIView

from config.urls import handler400, handler404, handler500  # noqa: F401 - of the addresses below
from tests.api.conftest import Get
from tests.api.factories import a_conversation

LISTS = ["accounts/", "conversations/", "legs/", "events/", "balances/", "alerts/", "live/", "deliveries/"]


class Broken(APIView):
    """Has a bug that needs no key to be found."""

    authentication_classes = permission_classes = ()

    def get(self, request):
        raise ValueError("rl_0123456789012345678901234567890 is what nobody may read")


class WithoutDatabase(Broken):
    """Finds the database away."""

    def get(self, request):
        raise OperationalError("connection to 10.0.0.7 refused")


urlpatterns = [
    path("api/v1/broken/", Broken.as_view()),
    path("api/v1/without/", WithoutDatabase.as_view()),
    path("", include("config.urls")),
]


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
    "conversations/%ff%fe/", "nothing/", "", "nothing", "conversations/1/legs/",
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


@pytest.mark.urls(__name__)
def test_a_fault_of_the_server_tells_nothing_but_the_number_under_which_the_log_has_the_rest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = Client(raise_request_exception=False)
    with caplog.at_level(logging.ERROR):
        document = problem(client.get("/api/v1/broken/"), 500)
    found = re.search(r"incident: ([0-9a-f]{12})\.$", document["detail"])
    assert found
    assert document.keys() == {"type", "title", "status", "detail"}
    assert "nobody may read" not in str(document)
    (record,) = [record for record in caplog.records if found[1] in record.getMessage()]
    assert "nobody may read" in record.exc_text


@pytest.mark.urls(__name__)
def test_while_the_database_is_away_a_program_is_told_when_to_come_again(caplog: pytest.LogCaptureFixture) -> None:
    response = Client().get("/api/v1/without/")
    document = problem(response, 503)
    assert int(response["Retry-After"]) > 0
    assert "10.0.0.7" not in str(document)
    assert "10.0.0.7" in caplog.text


@pytest.mark.parametrize("address", ["/api/", "/api/v2/conversations/", "/api/v1x/"])
def test_addresses_beside_the_api_are_problem_documents_too(address: str) -> None:
    problem(Client().get(address), 404)
    assert Client().get(address.replace("/api", "/apple"))["Content-Type"].startswith("text/html")


def test_a_host_that_is_not_ours_is_a_problem_document(settings) -> None:
    settings.ALLOWED_HOSTS = ["calls.example.com"]
    problem(Client().get("/api/v1/conversations", headers={"host": "evil.example.com"}), 400)


@pytest.mark.parametrize("address", ["schema/", "docs/"])
def test_the_schema_and_its_page_know_only_how_to_be_read(address: str) -> None:
    assert Client().get(f"/api/v1/{address}").status_code == 200
    problem(Client().post(f"/api/v1/{address}"), 405)
    problem(Client().trace(f"/api/v1/{address}"), 405)


def test_a_nul_is_named_with_the_parameter_that_holds_it(client: Client) -> None:
    document = problem(client.get("/api/v1/conversations/?state=live&number=1%002345"), 400)
    (error,) = document["errors"]
    assert error["field"] == "number"
    assert error["message"]


@pytest.mark.parametrize("kind", ["text/html", "application/xml"])
def test_what_it_cannot_be_had_as_is_named_with_what_it_can(client: Client, kind: str) -> None:
    document = problem(client.get("/api/v1/conversations/", headers={"accept": kind}), 406)
    assert document["errors"] == [{"field": "Accept", "value": kind, "message": "It can be had as application/json."}]


def test_a_thousand_and_one_parameters_are_too_many(client: Client) -> None:
    document = problem(client.get(f"/api/v1/conversations/?{'&'.join(['state=live'] * 1001)}"), 400)
    assert "1000" in document["detail"]


def test_a_body_whose_length_is_not_told_is_not_taken_for_none(client: Client) -> None:
    response = client.generic("POST", "/api/v1/tags/", headers={"transfer-encoding": "chunked"})
    assert "Content-Length" in problem(response, 411)["detail"]
