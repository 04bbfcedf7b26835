"""Whatever is sent to whichever endpoint: never a fault of the server, never a row of another account, and always a
problem document that names the field, the value and the remedy.

The endpoints are those of the schema: a new one is tested as soon as it is there. One with an id in its address needs
a line in ``one_of_each``.
"""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from django.core import signing
from django.test import Client
from drf_spectacular.generators import SchemaGenerator

from calls.api.parsing import DEEPEST
from calls.api.schema import CHANGES, operations_of
from calls.choices import Scope
from calls.models import ApiKey
from tests.api.everything import ids_of, one_of_each
from tests.api.factories import a_conversation, an_account
from tests.api.factories import client_with as client_with_key

LONG = "x" * 10_000
DIGITS = "9" * 5_000
SHOWN = 200


@dataclass(frozen=True)
class Operation:
    """One operation of the schema; ``parameters`` are those of its query, with their schemas."""

    method: str
    path: str
    parameters: dict[str, Any] = field(hash=False)
    has_body: bool
    is_stream: bool

    def __str__(self) -> str:
        return f"{self.method.upper()} {self.path}"


@pytest.fixture(scope="module")
def operations() -> list[Operation]:
    document = SchemaGenerator().get_schema(request=None, public=True)
    return [
        Operation(
            method,
            path,
            {item["name"]: item["schema"] for item in operation["parameters"] if item.get("in") == "query"},
            "requestBody" in operation,
            "text/event-stream" in operation["responses"].get("200", {}).get("content", {}),
        )
        for path, method, operation in operations_of(document)
    ]


@pytest.fixture
def key(db: None) -> tuple[ApiKey, str]:
    """A key with its text that may do everything, as often as it likes."""
    return ApiKey.issue("everything", list(Scope), calls_per_minute=1_000_000)


@pytest.fixture
def rows(key: tuple[ApiKey, str]) -> dict[str, str]:
    return one_of_each(key[0])


@pytest.fixture
def client(key: tuple[ApiKey, str]) -> Client:
    return client_with_key(key[1])


class Faults:
    """Asks, and keeps what is wrong with the answers, so that one run tells of all endpoints."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.found: list[str] = []

    def ask(
        self, operation: Operation, address: str, *statuses: int, field: str | None = None, what: str = "", **sent: Any
    ) -> Any:
        """Send it; the answer must be a problem with one of ``statuses`` that names ``field``, if one is given."""
        headers = {"If-Match": "*"} | sent.pop("headers", {})
        response = self.client.generic(operation.method.upper(), address, headers=headers, **sent)
        name = f"{operation} {what or address[:150]}"
        if response.status_code not in statuses:
            self.found.append(f"{name}: {response.status_code} {_text(response)[:200]}")
        elif response.status_code >= 400:
            self.found += [f"{name}: {wrong}" for wrong in _wrong_with(response, field)]
        return response

    def tell(self) -> None:
        """Fail if anything was wrong."""
        if self.found:
            pytest.fail("\n".join(self.found), pytrace=False)


@pytest.fixture
def faults(client: Client) -> Iterator[Faults]:
    found = Faults(client)
    yield found
    found.tell()


def _text(response: Any) -> str:
    return "(a stream)" if response.streaming else response.content.decode()


def _wrong_with(response: Any, field: str | None) -> Iterator[str]:
    if response["Content-Type"] != "application/problem+json":
        yield f"it is {response['Content-Type']}"
        return
    document = response.json()
    if not document.keys() >= {"type", "title", "status", "detail"} or document["status"] != response.status_code:
        yield f"members are missing: {document}"
    if len(response.content) > 6_000:
        yield f"it is {len(response.content)} bytes long"
    errors = document.get("errors", [])
    if field is not None and field[:100] not in [error["field"][:100] for error in errors]:
        yield f"{field[:100]} is not named: {document}"
    for error in errors:
        if len(error["value"]) > SHOWN or len(error["field"]) > SHOWN:
            yield "a value is not cut"
        if not error["message"]:
            yield "there is no remedy"


def address_of(operation: Operation, rows: dict[str, str], **query: str) -> str:
    """Return the address of an operation on the row that is there."""
    path = operation.path.format(**{name: quote(value) for name, value in ids_of(operation.path, rows).items()})
    return f"{path}?{urlencode(query, errors='surrogatepass')}" if query else path


def test_a_parameter_that_does_not_exist_is_named(faults: Faults, operations: list[Operation], rows: dict) -> None:
    for operation in operations:
        for name in ("account__secret__startswith", "id__in", LONG, "page", "é", "_to_field"):
            faults.ask(operation, address_of(operation, rows, **{name: "a"}), 400, field=name)


VALUES = [
    *(" ", "\ud800", "\u202e", "'", '"', "%", "\\", "[]", "{}", "null", "NaN", "-1", "0", "1e400", "0x10", "١", "True"),
    *(",", "a,,b", "../..", "9" * 20, "2021-02-30T00:00:00Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"),
    *("00000000-0000-0000-0000-000000000000", "<script>", "=1+1", "\n", "a\tb", "💩"),
]


def test_no_value_of_a_parameter_is_a_fault(faults: Faults, operations: list[Operation], rows: dict) -> None:
    values = itertools.cycle(VALUES)
    for operation in operations:
        for name in operation.parameters:
            faults.ask(operation, address_of(operation, rows, **{name: ""}), 400, field=name)
            faults.ask(operation, address_of(operation, rows, **{name: "\u0000"}), 400, field=name)
            # A few each, so that the same parameter of other endpoints gets others.
            for value in [] if operation.is_stream else itertools.islice(values, 4):
                faults.ask(operation, address_of(operation, rows, **{name: value}), 200, 201, 202, 400)


def test_a_value_of_ten_thousand_characters_is_refused(faults: Faults, operations: list[Operation], rows: dict) -> None:
    for operation in operations:
        for name in operation.parameters:
            for value in (LONG, DIGITS, "a," * 5_000 + "a"):
                # A server without an event loop sends no streams at all, whatever is asked for.
                refused = [400, 501] if operation.is_stream else [400]
                named = None if operation.is_stream else name
                faults.ask(operation, address_of(operation, rows, **{name: value}), *refused, field=named)


def test_a_value_of_another_type_is_named_with_what_is_allowed(
    faults: Faults, operations: list[Operation], rows: dict
) -> None:
    wrong = {"integer": "ten", "boolean": "maybe", "date-time": "yesterday", "uuid": "1", "enum": "nonsense"}
    for operation in operations:
        for name, schema in operation.parameters.items():
            kind = schema.get("items", schema)
            kind = "enum" if "enum" in kind else kind.get("format") or kind.get("type")
            if kind in wrong:
                faults.ask(operation, address_of(operation, rows, **{name: wrong[kind]}), 400, field=name)


@pytest.mark.parametrize("size", ["0", "-1", "501", "100000000", DIGITS, "1e2", "１０", " 10 ", "10.0", "0x1", "true"])
def test_a_page_of_such_a_size_is_refused(faults: Faults, operations: list[Operation], rows: dict, size: str) -> None:
    paged = [operation for operation in operations if "page_size" in operation.parameters]
    assert len(paged) >= 8
    for operation in paged:
        faults.ask(operation, address_of(operation, rows, page_size=size), 400, field="page_size")


def test_a_cursor_that_was_not_made_for_this_list_is_refused(
    faults: Faults, operations: list[Operation], rows: dict
) -> None:
    for i in range(2):
        a_conversation(external_id=f"more-{i}")
    page = faults.client.get("/api/v1/conversations/?page_size=1").json()
    foreign = page["next"].partition("cursor=")[2].partition("&")[0]
    forged = signing.Signer(key="another", salt="api cursor").sign_object([False, ["2021-09-22T12:00:00Z", "1"]])
    unsigned = "WzEsMl0"
    for operation in operations:
        if "cursor" not in operation.parameters:
            continue
        cursors = [unsigned, forged, "x:y", ":", "=" * 9, f"{foreign}x", foreign[:-1], foreign.swapcase(), "\ud800"]
        cursors += [] if "conversations/" in operation.path else [foreign]
        for cursor in cursors:
            faults.ask(operation, address_of(operation, rows, cursor=cursor), 400, field="cursor")
    listed = next(operation for operation in operations if str(operation) == "GET /api/v1/conversations/")
    # The order is part of what a cursor is for.
    faults.ask(listed, address_of(listed, rows, cursor=foreign, ordering="started_at"), 400, field="cursor")


@pytest.mark.parametrize("value", ["%00", DIGITS, "%ED%A0%80", "%2e%2e%2f", "%0A", "x", "-1", "%20", "0", LONG,
    "01997d5e-8a4c-7c3a-9d0a-3f2b1c4d5e6f", "'%20OR%201=1--", "%F0%9F%92%A9", "99999999999999999999"])  # fmt: skip
def test_an_id_that_is_nowhere_is_not_found(
    faults: Faults, operations: list[Operation], rows: dict, value: str
) -> None:
    for operation in operations:
        if "{" not in operation.path:
            continue
        path = "/".join(value if part.startswith("{") else part for part in operation.path.split("/"))
        body = {"data": "{}", "content_type": "application/json"} if operation.has_body else {}
        faults.ask(operation, path, 404, 400, **body)


def test_a_change_that_does_not_say_of_what_is_refused(faults: Faults, operations: list[Operation], rows: dict) -> None:
    changes = [operation for operation in operations if operation.method in CHANGES]
    assert len(changes) >= 5
    for operation in changes:
        body = {"data": "{}", "content_type": "application/json"} if operation.has_body else {}
        for tag, status in [("", 428), ("nonsense", 412), ('"nonsense"', 412), (LONG, 412)]:
            faults.ask(
                operation, address_of(operation, rows), status, field="If-Match", headers={"If-Match": tag}, **body
            )


def test_what_was_deleted_is_not_found(faults: Faults, operations: list[Operation], rows: dict) -> None:
    deletions = [operation for operation in operations if operation.method == "delete"]
    assert len(deletions) >= 3
    for deletion in deletions:
        faults.ask(deletion, address_of(deletion, rows), 204)
        for operation in operations:
            if operation.path.startswith(deletion.path):
                body = {"data": "{}", "content_type": "application/json"} if operation.has_body else {}
                faults.ask(operation, address_of(operation, rows), 404, **body)


BODIES = {
    "broken": b'{"a": ',
    "no JSON": b"a=1",
    "a list": b"[]",
    "null": b"null",
    "a text": b'"a"',
    "a number": b"17",
    "not a number": b'{"name": NaN}',
    "infinite": b'{"name": -Infinity}',
    "too large a number": b'{"name": 1e400}',
    "too large an integer": b'{"name": ' + b"9" * 5_000 + b"}",
    "a name twice": b'{"name": "a", "name": "b"}',
    "a name twice within": b'{"filters": {"account": 1, "account": 2}}',
    "too deep": b'{"a":' * (DEEPEST + 1) + b"1" + b"}" * (DEEPEST + 1),
    "far too deep": b"[" * 100_000,
    "deep and unfinished": b'{"a":' * 50_000,
    "not UTF-8": b'{"name": "\xff"}',
    "UTF-16": '{"name": "a"}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "half of a pair": b'{"name": "\\ud800"}',
    "half of a pair in a name": b'{"\\udfff": 1}',
    "NUL": b'{"name": "a\\u0000b"}',
    "a name of 10,000 characters": json.dumps({LONG: 1}).encode(),
    "an unknown field": b'{"account__secret": 1}',
    "control characters": b'{"name": "\x01"}',
    "a comment": b'{"name": "a" /* b */}',
    "trailing": b'{"name": "a"} {}',
    "single quotes": b"{'name': 'a'}",
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_that_is_wrong_is_refused(faults: Faults, operations: list[Operation], rows: dict, kind: str) -> None:
    for operation in operations:
        if operation.has_body:
            sent = {"data": BODIES[kind], "content_type": "application/json"}
            faults.ask(operation, address_of(operation, rows), 400, what=kind, **sent)


def test_a_body_that_is_too_large_is_refused(faults: Faults, operations: list[Operation], rows: dict) -> None:
    for operation in operations:
        if operation.has_body:
            sent = {"data": json.dumps({"name": "x" * 2**21}), "content_type": "application/json"}
            faults.ask(operation, address_of(operation, rows), 413, what="2 MiB", **sent)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "nonsense",
    "multipart/form-data; boundary=" + "x" * 5_000, "application/xml", "text/json; charset=klingon"])  # fmt: skip
def test_a_body_of_another_type_is_refused(faults: Faults, operations: list[Operation], rows: dict, kind: str) -> None:
    for operation in operations:
        if operation.has_body:
            sent = {"data": b'{"name": "a"}', "content_type": kind}
            faults.ask(operation, address_of(operation, rows), 415, field="Content-Type", **sent)


@pytest.mark.parametrize("kind", ["text/html", "application/xml", "nonsense", LONG])
def test_what_cannot_be_had_is_named_with_what_can(
    faults: Faults, operations: list[Operation], rows: dict, kind: str
) -> None:
    for operation in operations:
        if "format" not in operation.parameters:  # which then says what is wanted
            faults.ask(operation, address_of(operation, rows), 406, field="Accept", headers={"accept": kind})


def test_a_method_that_is_not_there_is_refused_with_those_that_are(
    client: Client, operations: list[Operation], rows: dict
) -> None:
    faults = Faults(client)
    known: dict[str, set[str]] = {}
    for operation in operations:
        known.setdefault(operation.path, set()).add(operation.method)
    for operation in operations:
        for method in {"get", "post", "put", "patch", "delete", "options", "trace", "nonsense"} - known[operation.path]:
            asked = Operation(method, operation.path, {}, False, False)
            response = faults.ask(asked, address_of(operation, rows), 405)
            allowed = {name.strip().lower() for name in response.get("Allow", "").split(",")} - {"head", "options"}
            if allowed != known[operation.path]:
                faults.found.append(f"{asked}: Allow is {response.get('Allow')}")
    faults.tell()


def test_a_key_of_another_account_learns_of_nothing(operations: list[Operation], rows: dict) -> None:
    other = an_account("mumbai-sales")
    call = a_conversation(account=other, customer_number="+919000000002")
    text = ApiKey.issue("of another account", list(Scope), accounts=[other], calls_per_minute=1_000_000)[1]
    faults = Faults(client_with_key(text))
    nowhere = dict.fromkeys(rows, "01997d5e-8a4c-7c3a-9d0a-3f2b1c4d5e6f")
    for operation in operations:
        body = {"data": "{}", "content_type": "application/json"} if operation.has_body else {}
        if "{" in operation.path:
            hidden = faults.ask(operation, address_of(operation, rows), 404, **body)
            missing = faults.ask(operation, address_of(operation, nowhere), 404, **body)
            if hidden.content != missing.content:
                faults.found.append(f"{operation}: {hidden.content!r} is not {missing.content!r}")
        elif operation.method == "get" and not operation.is_stream:
            response = faults.client.get(operation.path)
            shown = b"".join(response.streaming_content) if response.streaming else response.content
            if rows["conversations"].encode() in shown or b"delhi" in shown:
                faults.found.append(f"{operation} shows a row of another account")
            if "account" in operation.parameters:
                for slug in ("delhi-support", "delhi-suport"):
                    response = faults.ask(operation, f"{operation.path}?account={slug}", 400, field="account")
                    if b"\xe2\x80\x9cdelhi-support" in response.content:
                        faults.found.append(f"{operation} suggests another account")
    faults.tell()
    assert faults.client.get(f"/api/v1/conversations/{call.id}/").status_code == 200


def test_an_unknown_key_is_told_nothing_but_that(operations: list[Operation], rows: dict) -> None:
    faults = Faults(Client())
    for operation in operations:
        for name in ("", "rl_unknown", LONG, "é", "Basic x"):
            headers = {"authorization": f"Bearer {name}" if name else ""}
            response = faults.ask(operation, address_of(operation, rows), 401, 429, headers=headers)
            if response.status_code == 401 and not response.get("WWW-Authenticate", "").startswith("Bearer"):
                faults.found.append(f"{operation}: no WWW-Authenticate")
    faults.tell()
