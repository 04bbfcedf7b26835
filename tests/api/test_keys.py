from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.test import Client

from calls.choices import Scope
from calls.models import ApiKey
from tests.api.factories import a_key, client_with

pytestmark = pytest.mark.django_db

READABLE = ["accounts/", "conversations/", "legs/", "events/", "balances/", "alerts/", "live/", "stats/summary/"]
MANAGED = ["deliveries/"]


@pytest.mark.parametrize("path", READABLE + MANAGED)
@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer nonsense", "Basic YTpi", "Bearer é\udcff", "Token x"])
def test_it_refuses_who_has_no_key(path: str, header: str | None) -> None:
    headers = {} if header is None else {"authorization": header}
    response = Client(headers=headers).get(f"/api/v1/{path}")
    assert response.status_code == 401
    assert response["WWW-Authenticate"].startswith("Bearer")
    assert response["Content-Type"] == "application/problem+json"


def test_it_takes_a_key_from_the_header_only() -> None:
    assert Client().get("/api/v1/accounts/", {"key": a_key(Scope.READ)}).status_code == 401


def test_it_refuses_a_key_that_is_no_longer_active() -> None:
    key = a_key(Scope.READ)
    ApiKey.objects.update(is_active=False)
    assert client_with(key).get("/api/v1/accounts/").status_code == 401


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("path", READABLE + MANAGED)
def test_a_scope_opens_what_needs_it_and_nothing_else(path: str, scope: Scope) -> None:
    needed = Scope.MANAGE if path in MANAGED else Scope.READ
    response = client_with(a_key(scope)).get(f"/api/v1/{path}")
    if scope == needed:
        assert response.status_code == 200
    else:
        assert response.status_code == 403
        assert needed in response.json()["detail"]


def test_it_notes_the_use_of_a_key_once_a_minute(django_assert_num_queries) -> None:
    client = client_with(a_key(Scope.READ))
    start = datetime(2026, 1, 1, 12, tzinfo=UTC)
    for seconds, noted in [(0, 0), (59, 0), (60, 60), (100, 60)]:
        with time_machine.travel(start + timedelta(seconds=seconds), tick=False):
            client.get("/api/v1/accounts/")
        assert ApiKey.objects.get().last_used_at == start + timedelta(seconds=noted)


def test_a_login_to_the_admin_opens_nothing(admin_client: Client) -> None:
    assert admin_client.get("/api/v1/accounts/").status_code == 401
