"""A program that writes by the API, and what it is told when it may not."""

import json
from collections.abc import Callable, Iterable
from threading import Thread
from typing import Any

from django.db import connection
from django.test import Client

from calls.choices import Scope
from calls.models import Account, ApiKey
from tests.api.factories import a_key


class Program:
    """A program with a key, which sends and gets JSON."""

    def __init__(self, *scopes: Scope, accounts: tuple[Account, ...] = ()) -> None:
        text = a_key(*(scopes or (Scope.READ, Scope.MANAGE)))
        self.key = ApiKey.of_text(text)
        self.key.accounts.set(accounts)
        self._authorization = f"Bearer {text}"

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Return the answer to a request below /api/v1/; headers are named as ``if_match``, the body is JSON."""
        return Client().generic(
            method,
            f"/api/v1/{path}",
            "" if body is None else json.dumps(body),
            content_type="application/json",
            headers={"authorization": self._authorization}
            | {name.replace("_", "-"): value for name, value in headers.items()},
        )

    def get(self, path: str) -> Any:
        answer = self.send("GET", path)
        assert answer.status_code == 200, answer.content
        return answer

    def change(self, path: str, body: Any, method: str = "PATCH") -> Any:
        """Send what is to be changed with the tag of the row as it is now."""
        return self.send(method, path, body, if_match=self.get(path)["ETag"])


def problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    return answer.json()


def the_error(answer: Any, status: int = 400) -> tuple[str, str, str]:
    """The one thing that is wrong: field, value and message."""
    (error,) = problem(answer, status)["errors"]
    return error["field"], error["value"], error["message"]


def in_parallel(act: Callable[[Any], None], each: Iterable[Any]) -> None:
    """Run ``act`` for each of the values at once, in a thread and with a database connection of its own."""
    failures = []

    def run(value: Any) -> None:
        try:
            act(value)
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)
        finally:
            connection.close()

    threads = [Thread(target=run, args=(value,)) for value in each]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
