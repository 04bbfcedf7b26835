"""The schema is complete, its page loads nothing from elsewhere, and the API does what the schema says."""

import re
from datetime import timedelta
from urllib.parse import urljoin

import hypothesis
import pytest
import schemathesis
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.test import Client
from openapi_spec_validator import validate
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig

from calls.choices import Scope
from tests.api.factories import (
    NOON,
    a_conversation,
    a_delivery,
    a_key,
    a_leg,
    a_live_conversation,
    a_reading,
    an_account,
    an_agent,
    an_alert,
    an_event,
)

CASES_PER_OPERATION = 20


def test_the_schema_is_made_without_a_warning(tmp_path) -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(tmp_path / "schema.yaml"))


def test_the_schema_is_open_and_valid() -> None:
    response = Client().get("/api/v1/schema/", headers={"accept": "application/json"})
    assert response.status_code == 200
    document = response.json()
    assert document["openapi"] == "3.1.1"
    validate(document)
    assert len(document["paths"]) == 13


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


@pytest.fixture
def api(transactional_db: None) -> schemathesis.schemas.BaseSchema:
    account = an_account()
    agent = an_agent(account=account)
    for i in range(3):
        call = a_conversation("vip", agent=agent, started_at=NOON + timedelta(seconds=i))
        leg = a_leg(call, agent=agent)
        an_event(leg)
        a_reading(leg)
        a_delivery(call)
    a_leg(a_live_conversation(), started_at=None)
    a_delivery(status="quarantined", error_class="BadField", error_message="wrong", body=b"\xff")
    an_alert()
    key = a_key(Scope.READ, Scope.MANAGE)
    config = SchemathesisConfig.from_dict({"headers": {"Authorization": f"Bearer {key}"}})
    return schemathesis.openapi.from_wsgi("/api/v1/schema/", get_wsgi_application(), config=config)


@pytest.mark.parametrize("mode", GenerationMode)
def test_the_api_does_what_its_schema_says(api: schemathesis.schemas.BaseSchema, mode: GenerationMode) -> None:
    def check(case: schemathesis.Case) -> None:
        if mode == GenerationMode.POSITIVE:  # no valid cursor and no account can be made up from the schema alone
            case.query.pop("cursor", None)
            case.query.pop("account", None)
        case.call_and_validate()

    operations = [result.ok() for result in api.get_all_operations()]
    assert len(operations) == 13
    if mode == GenerationMode.NEGATIVE:  # where only the path varies, any text is valid
        operations = [operation for operation in operations if list(operation.query)]
        assert len(operations) == 10
    for operation in operations:
        run = hypothesis.given(case=operation.as_strategy(generation_mode=mode))(check)
        hypothesis.settings(
            max_examples=CASES_PER_OPERATION, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
        )(run)()
