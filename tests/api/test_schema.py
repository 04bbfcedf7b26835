"""The schema is complete, its page loads nothing from elsewhere, and the API does what the schema says."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.test import Client
from drf_spectacular.generators import SchemaGenerator
from openapi_schema_validator import OAS31Validator, oas31_format_checker
from openapi_spec_validator import validate

from calls.api.schema import operations_of
from calls.choices import Scope
from calls.models import ApiKey
from tests.api.everything import ids_of, one_of_each
from tests.api.factories import (
    NOON,
    a_conversation,
    a_delivery,
    a_leg,
    a_live_conversation,
    an_agent,
)
from tests.serving import ROOT


def test_the_schema_is_made_without_a_warning(tmp_path) -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(tmp_path / "schema.yaml"))


def test_the_schema_is_open_and_valid() -> None:
    response = Client().get("/api/v1/schema/", headers={"accept": "application/json"})
    assert response.status_code == 200
    document = response.json()
    assert document["openapi"] == "3.1.1"
    validate(document)


def test_the_page_of_the_schema_uses_files_of_this_server_only() -> None:
    response = Client().get("/api/v1/docs/")
    assert response.status_code == 200
    page = response.content.decode()
    assert "<script>" not in page
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(addresses) == 5
    for address in addresses:
        assert urljoin("http://testserver/api/v1/docs/", address).startswith("http://testserver/")
        if address.startswith("/static/"):
            assert finders.find(address.removeprefix("/static/"))
        else:
            script = Client().get(address)
            assert script["Content-Type"] == "application/javascript"
            assert "/api/v1/schema/" in script.content.decode()
    policy = dict(part.strip().split(" ", 1) for part in response["Content-Security-Policy"].split(";"))
    assert "unsafe" not in policy["script-src"]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return SchemaGenerator().get_schema(request=None, public=True)


def resolved(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Return a part of the document, or what it refers to."""
    if "$ref" not in part:
        return part
    found = document
    for name in part["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return found


def responses_of(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield each answer of each operation: the operation's name, the status, the answer."""
    for path, method, operation in operations_of(document):
        for status, response in operation["responses"].items():
            yield f"{method.upper()} {path} {status}", status, resolved(document, response)


def test_every_operation_says_what_it_does_and_what_its_parameters_mean(document: dict[str, Any]) -> None:
    for path, method, operation in operations_of(document):
        name = f"{method.upper()} {path}"
        assert operation["description"], name
        assert "Needs a key with the scope" in operation["description"], name
        for parameter in operation["parameters"]:
            assert resolved(document, parameter)["description"], f"{name} {parameter}"


def test_every_operation_lists_every_status_that_it_can_answer(document: dict[str, Any]) -> None:
    for path, method, operation in operations_of(document):
        expected = {"400", "401", "403", "405", "406", "429", "500", "503"}
        names = {resolved(document, parameter)["name"] for parameter in operation["parameters"]}
        expected |= {"404"} if "{" in path else set()
        expected |= {"304"} if "If-None-Match" in names else set()
        expected |= {"411", "413", "415"} if "requestBody" in operation else set()
        expected |= {"409", "422"} if "Idempotency-Key" in names else set()
        expected |= {"412", "428"} if "If-Match" in names else set()
        assert expected <= operation["responses"].keys(), f"{method.upper()} {path}"
        assert any(status.startswith("2") for status in operation["responses"]), f"{method.upper()} {path}"
        if method != "get" and not path.endswith("/test/"):  # each of which sends a message of its own
            assert "Idempotency-Key" in names, f"{method.upper()} {path}"


def test_every_answer_has_a_description_and_its_body_a_right_example(document: dict[str, Any]) -> None:
    components = {"components": document["components"]}
    for name, status, response in responses_of(document):
        assert response["description"], name
        for content in response.get("content", {}).values():
            examples = [content["example"]] if "example" in content else []
            examples += [example["value"] for example in content.get("examples", {}).values()]
            assert examples, name
            validator = OAS31Validator({**content["schema"], **components}, format_checker=oas31_format_checker)
            for example in examples:
                assert [error.message for error in validator.iter_errors(example)] == [], name
        if status.startswith(("4", "5")):
            assert list(response["content"]) == ["application/problem+json"], name


def test_every_answer_lists_its_headers(document: dict[str, Any]) -> None:
    expected = {"401": "WWW-Authenticate", "405": "Allow", "429": "Retry-After", "503": "Retry-After", "304": "ETag"}
    for name, status, response in responses_of(document):
        headers = response.get("headers", {})
        if status in expected:
            assert expected[status] in headers, name
        if not status.startswith("5"):
            assert headers.keys() >= {"RateLimit", "RateLimit-Policy"}, name


def test_what_is_listed_leads_to_each_row_of_it(document: dict[str, Any]) -> None:
    links = {name: set(response.get("links", {})) for name, _, response in responses_of(document)}
    assert "conversations_retrieve" in links["GET /api/v1/conversations/ 200"]
    assert "accounts_retrieve" in links["GET /api/v1/accounts/ 200"]
    assert "subscriptions_destroy" in links["POST /api/v1/subscriptions/ 201"]


def test_every_answer_in_json_has_a_version_that_can_be_asked_for_again(
    document: dict[str, Any], client: Client
) -> None:
    call = a_conversation(agent=an_agent())
    a_leg(call)
    for path, method, operation in operations_of(document):
        if method != "get" or "304" not in operation["responses"] or "{" in path:
            continue
        day = "?started_after=2021-09-22T00:00:00Z&started_before=2021-09-23T00:00:00Z"  # else it ends now
        address = path + day if path.endswith("timeseries/") else path
        first = client.get(address)
        assert first.status_code == 200, path
        again = client.get(address, headers={"if-none-match": first["ETag"]})
        assert (again.status_code, again.content) == (304, b""), path


OPTIONS = """
hooks = "tests.api.schemathesis_hooks"
headers = {{ Authorization = "Bearer {key}" }}

[checks.missing_required_header]
expected-statuses = [400, 401, 403, 406, 415, 422, 428]
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 412, 415, 422, 428, 429]
"""
IS_LONG = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
PHASES = "examples,coverage,fuzzing,stateful" if IS_LONG else "examples,fuzzing,stateful"
EXAMPLES = 60 if IS_LONG else 4
"""Requests of each operation that are made up by chance."""
SEED = [] if IS_LONG else ["--seed", "1"]


@pytest.mark.django_db(transaction=True)
def test_the_api_does_what_its_schema_says(
    document: dict[str, Any], live_server: Any, settings: Any, tmp_path: Path
) -> None:
    """All checks of schemathesis with a few hundred requests; `make nightly` makes thousands, in all phases."""
    settings.API_UNKNOWN_KEYS_PER_MINUTE = 1_000_000
    settings.ALLOWED_PRIVATE_TARGETS = [ip_network("127.0.0.0/8")]
    key, text = ApiKey.issue("schemathesis", list(Scope), calls_per_minute=1_000_000)
    rows = one_of_each(key)
    ids = {path: ids_of(path, rows) for path in document["paths"]}
    for i in range(3):
        a_conversation("vip", started_at=NOON + timedelta(seconds=i))
    a_leg(a_live_conversation(), started_at=None)
    a_delivery(status="quarantined", error_class="BadField", error_message="wrong", body=b"\xff")
    options = tmp_path / "schemathesis.toml"
    options.write_text(OPTIONS.format(key=text))
    run = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "--config-file", str(options), "run",
         f"{live_server.url}/api/v1/schema/", "--checks", "all", "--phases", PHASES, "--max-examples", str(EXAMPLES),
         "--exclude-path", "/api/v1/live/stream/", "--request-timeout", "20", "--generation-database", ":memory:",
         "--generation-allow-x00", "false", "--no-color", *SEED],
        env=os.environ | {"PYTHONPATH": str(ROOT), "IDS": json.dumps(ids)},
        cwd=tmp_path, capture_output=True, text=True, timeout=3000,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
