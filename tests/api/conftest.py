from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

Get = Callable[..., Any]


@pytest.fixture
def client(db: None) -> Client:
    """A client whose key may read and manage."""
    # Models cannot be imported yet when pytest reads this file.
    from calls.choices import Scope
    from tests.api.factories import a_key, client_with

    return client_with(a_key(Scope.READ, Scope.MANAGE))


@pytest.fixture
def get(client: Client) -> Get:
    """Get a path below /api/v1/ with parameters, and return the JSON of an answer 200."""

    def ask(path: str, **parameters: str | int) -> Any:
        response = client.get(f"/api/v1/{path}", parameters)
        assert response.status_code == 200, response.content
        assert response["Content-Type"] == "application/json"
        return response.json()

    return ask


@pytest.fixture
def refusal(client: Client) -> Get:
    """Get a path below /api/v1/ with parameters, and return the problem of an answer 400."""

    def ask(path: str, **parameters: str | int) -> Any:
        response = client.get(f"/api/v1/{path}", parameters)
        assert response.status_code == 400, response.content
        assert response["Content-Type"] == "application/problem+json"
        return response.json()

    return ask
