"""Files of conversations for programs: the rows of the list, whole or in parts, whatever breaks off on the way."""

import base64
import csv
import hashlib
import io
import json
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from http.client import HTTPConnection
from typing import Any

import pytest
import uvicorn
from django.core.asgi import get_asgi_application
from django.test import Client

from calls.api.exporting import LARGEST_PART, Written, write
from calls.choices import Direction, Scope
from calls.exports.columns import CHUNK
from calls.exports.snapshot import snapshot
from calls.models import ApiKey, AuditEntry, Conversation
from tests.api.factories import NOON, a_conversation, a_key, a_live_conversation, an_account, an_agent, client_with
from tests.calls.rows import a_call
from tests.serving import free_port, until

# Rows are read in transactions of their own, by threads of their own.
pytestmark = pytest.mark.django_db(transaction=True)

EXPORT = "/api/v1/conversations/export/"
FORMATS = ["ndjson", "csv"]


@pytest.fixture
def key() -> str:
    return a_key(Scope.READ, Scope.EXPORT)


@pytest.fixture
def client(key: str) -> Client:
    return client_with(key)


@pytest.fixture
def get(client: Client) -> Callable[..., bytes]:
    """Return the file that is answered to some parameters."""

    def ask(address: str = EXPORT, **parameters: str | int) -> bytes:
        response = client.get(address, parameters)
        assert response.status_code == 200, response.content
        return b"".join(response.streaming_content)

    return ask


def rows_of(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content.splitlines()]


def listed(client: Client, **parameters: str) -> list[dict[str, Any]]:
    """Return what the list has, from the oldest on."""
    response = client.get("/api/v1/conversations/", parameters | {"ordering": "started_at", "page_size": "500"})
    assert response.json()["next"] is None
    return response.json()["results"]


def after(row: dict[str, Any]) -> str:
    return f"{row['started_at']},{row['id']}"


def many_calls(count: int, **columns: Any) -> None:
    """Store calls, three of them at each moment."""
    account = an_account()
    starts = (NOON + timedelta(milliseconds=number // 3) for number in range(count))
    Conversation.objects.bulk_create(a_call(account, started_at=started, **columns) for started in starts)


def various_calls() -> None:
    """Store calls in which every column has something, and in which as good as none has."""
    agent = an_agent()
    a_conversation("vip", 're"fu\\nd', "a,b", agent=agent, started_at=NOON + timedelta(seconds=2))
    a_conversation(
        recording="https://example.com/r.mp3",
        extra_params={"Name": "Akil", "note": 'a, “b”\n\t"c" \\', "ID": 8915726},
        flags=["clock_skew", "end_before_start"],
        hangup_cause="tab\t, back\\slash, \\N, \\t and \r\n",
        external_id="“ü” \\\\ \x0b\x1f\x85\u2028\u2029 |",
        request_id="=1+1",
        started_at=NOON + timedelta(microseconds=7),
        cost=Decimal("-0.000001"),
    )
    a_live_conversation(customer_number="", did="", started_at=NOON)
    a_conversation(account=an_account("pune"), disposition=None, has_voicemail=True, direction=Direction.OUTBOUND)


# --- What is in it ---------------------------------------------------------------------------------------------------


def test_a_line_of_ndjson_is_the_conversation_of_the_list_and_the_oldest_comes_first(client: Client, get) -> None:
    various_calls()
    response = client.get(EXPORT)
    assert response["Content-Type"] == "application/x-ndjson"
    assert response["Content-Disposition"] == 'attachment; filename="conversations.ndjson"'
    content = b"".join(response.streaming_content)
    assert content.endswith(b"}\n")
    assert rows_of(content) == listed(client)
    assert len(content.decode().splitlines()) == 4  # by Python's many ends of lines, too


def test_csv_has_a_column_for_each_member_with_the_very_values(client: Client, get) -> None:
    various_calls()
    response = client.get(EXPORT, {"format": "csv"}, headers={"accept": "text/csv"})
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(b"".join(response.streaming_content).decode(), newline="")))
    for row, conversation in zip(rows, listed(client), strict=True):
        for name, inners in {"agent": ("id", "external_id", "name"), "outcome": ("kind", "text")}.items():
            member = conversation.pop(name) or {}
            conversation |= {f"{name}_{inner}": member.get(inner) for inner in inners}
        assert row.keys() == conversation.keys()
        for name, value in conversation.items():
            if name == "extra_params":
                assert json.loads(row[name]) == value
            elif isinstance(value, list):
                assert row[name] == ", ".join(value)
            elif isinstance(value, bool):
                assert row[name] == json.dumps(value)
            elif value == "=1+1":
                assert row[name] == "'=1+1"
            else:
                assert row[name] == ("" if value is None else str(value))


@pytest.mark.parametrize("number", ["+919000000001", "+918000000000"])
def test_numbers_in_csv_are_as_the_api_has_them_and_formulas_are_not(get, number: str) -> None:
    a_conversation(customer_number=number, external_id="+SUM(A1:A9)", hangup_cause="@x", request_id="+91 9000")
    [row] = csv.DictReader(io.StringIO(get(format="csv").decode(), newline=""))
    assert row["customer_number"] == number
    assert (row["external_id"], row["hangup_cause"], row["request_id"]) == ("'+SUM(A1:A9)", "'@x", "'+91 9000")


@pytest.mark.parametrize(
    "parameters",
    [
        {"account": "pune"},
        {"disposition": "answered"},
        {"tag": "vip,other"},
        {"state": "live"},
        {"started_after": "2021-09-22T12:00:01Z"},
        {"number": "0000 0001", "direction": "inbound"},
        {"min_cost": "0.45"},
    ],
)
def test_every_filter_of_the_list_holds(client: Client, get, parameters: dict[str, str]) -> None:
    various_calls()
    assert rows_of(get(**parameters)) == listed(client, **parameters)
    assert 0 < len(rows_of(get(**parameters))) < 4


def test_nothing_is_an_empty_file_or_a_header_alone(get) -> None:
    assert get() == b""
    assert len(get(format="csv").splitlines()) == 1


def test_it_can_be_sent_while_it_is_made(db: None) -> None:
    many_calls(CHUNK + 1)
    file, sizes = io.BytesIO(), []
    with snapshot():
        for _ in write(file, Conversation.objects.all(), "csv", Written(None)):
            sizes.append(file.getvalue().count(b"\n"))
    assert sizes == [1, 1 + CHUNK, 1 + CHUNK + 1]


def test_rows_beyond_one_chunk_are_there_once_each(get) -> None:
    many_calls(CHUNK + 7)
    ids = [row["id"] for row in rows_of(get())]
    assert ids == [str(pk) for pk in Conversation.objects.order_by("started_at", "id").values_list("pk", flat=True)]


# --- Breaking off and going on ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_what_follows_any_row_is_the_rest_of_the_file(get, form: str) -> None:
    many_calls(10)
    whole, rows = get(format=form), rows_of(get())
    lines = whole.splitlines(keepends=True)
    heading = len(lines) - len(rows)
    for number, row in enumerate(rows, 1):
        assert b"".join(lines[: heading + number]) + get(format=form, after=after(row)) == whole


def test_it_goes_on_after_a_row_that_is_gone_by_then(get) -> None:
    many_calls(6)
    rows = rows_of(get())
    Conversation.objects.filter(pk=rows[2]["id"]).delete()
    assert rows_of(get(after=after(rows[2]))) == rows[3:]
    # The same moment, written with another offset.
    moment = datetime.fromisoformat(rows[2]["started_at"]) + timedelta(hours=5, minutes=30)
    assert rows_of(get(after=f"{moment:%Y-%m-%dT%H:%M:%S.%f}+05:30,{rows[2]['id']}")) == rows[3:]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("size", [1, 3, 7, 10, 11])
def test_all_parts_together_are_the_whole_and_each_tells_its_rows_and_digest(
    client: Client, get, form: str, size: int
) -> None:
    many_calls(10)
    whole, together, counts = get(format=form), b"", []
    address = f"{EXPORT}?format={form}&account=delhi-support&part_size={size}"
    while address:
        response = client.get(address)
        part = b"".join(response.streaming_content)
        digest = base64.b64encode(hashlib.sha256(part).digest()).decode()
        assert response["Content-Digest"] == f"sha-256=:{digest}:"
        assert response["Content-Length"] == str(len(part))
        told = client.head(address)
        assert b"".join(told.streaming_content) == b""
        for name in ("Content-Digest", "Content-Length", "Row-Count", "Content-Type"):
            assert told[name] == response[name]
        counts.append(int(response["Row-Count"]))
        together += part
        link = response.get("Link", "")
        assert not link or link.endswith('>; rel="next"')
        address = link.removesuffix('>; rel="next"').removeprefix("<http://testserver")
    assert together == whole
    assert counts == [size] * (10 // size) + ([10 % size] if 10 % size else [])


def test_a_part_may_be_larger_than_what_is_read_at_once(client: Client, get) -> None:
    many_calls(CHUNK + 7)
    response = client.get(EXPORT, {"part_size": CHUNK + 3})
    part = rows_of(b"".join(response.streaming_content))
    assert len(part) == CHUNK + 3
    assert part + rows_of(get(after=after(part[-1]))) == rows_of(get())


@pytest.mark.parametrize("count", [0, 5])
def test_the_last_line_tells_what_came_before_it_if_it_is_asked_for(get, count: int) -> None:
    many_calls(count)
    *lines, last = get(trailer="true").splitlines(keepends=True)
    rows = [json.loads(line) for line in lines]
    assert b"".join(lines) == get(trailer="false")
    assert json.loads(last) == {
        "_end": {
            "rows": count,
            "sha256": hashlib.sha256(b"".join(lines)).hexdigest(),
            "after": after(rows[-1]) if rows else None,
        }
    }
    if rows:
        rest = rows_of(get(trailer="true", after=after(rows[1])))
        assert rest[:-1] == rows[2:]
        assert rest[-1]["_end"]["rows"] == 3


@pytest.fixture(params=["asgi", "wsgi"])
def port(request: pytest.FixtureRequest, settings) -> Iterator[int]:
    """The port of a web server of one kind or the other."""
    if request.param == "wsgi":
        yield request.getfixturevalue("live_server").thread.port
        return
    settings.ALLOWED_HOSTS = ["127.0.0.1", "testserver"]
    config = uvicorn.Config(get_asgi_application(), port=free_port(), lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    assert until(lambda: server.started)
    yield config.port
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize("form", FORMATS)
def test_a_download_that_breaks_off_is_gone_on_with_to_the_same_digest(port: int, key: str, get, form: str) -> None:
    many_calls(CHUNK + 500, extra_params={"filling": "x" * 2000})
    whole = get(format=form)

    def ask(parameters: str) -> tuple[HTTPConnection, Any]:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", f"{EXPORT}?format={form}{parameters}", headers={"Authorization": f"Bearer {key}"})
        return connection, connection.getresponse()

    connection, response = ask("")
    assert response.status == 200
    received = response.read(len(whole) // 3)
    response.close()
    connection.close()
    assert until(lambda: not any(thread.name == "export" for thread in threading.enumerate()))

    kept = received[: received.rindex(b"\n") + 1]
    if form == "csv":
        names, *_, last = csv.reader(io.StringIO(kept.decode(), newline=""))
        row = dict(zip(names, last, strict=True))
    else:
        row = rows_of(kept)[-1]
    connection, response = ask(f"&after={after(row)}")
    rest = response.read()
    connection.close()
    assert len(rest) > len(whole) // 2
    assert hashlib.sha256(kept + rest).digest() == hashlib.sha256(whole).digest()


def test_twice_the_rows_take_no_more_memory(client: Client) -> None:
    def most() -> int:
        tracemalloc.start()
        try:
            for _ in client.get(EXPORT).streaming_content:
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    many_calls(2 * CHUNK)
    most()
    few = most()
    many_calls(2 * CHUNK)
    assert most() < 1.3 * few


# --- Who may have it -------------------------------------------------------------------------------------------------


def test_it_takes_the_scope_export_and_no_other(db: None) -> None:
    others = client_with(a_key(*(scope for scope in Scope if scope != Scope.EXPORT)))
    for parameters in ({}, {"part_size": 5}):
        response = others.get(EXPORT, parameters)
        assert response.status_code == 403
        assert "“export”" in response.json()["detail"]
    assert Client().get(EXPORT).status_code == 401
    assert client_with(a_key(Scope.EXPORT)).get(EXPORT).status_code == 200


def test_a_key_of_some_accounts_has_no_rows_of_others(client: Client, key: str, get) -> None:
    various_calls()
    whole = rows_of(get())
    ApiKey.of_text(key).accounts.add(an_account("pune"))
    assert {row["account"] for row in rows_of(get())} == {"pune"}
    assert rows_of(get(part_size=10)) == rows_of(get())
    assert client.get(EXPORT, {"account": "delhi-support"}).status_code == 400
    of_another = next(row for row in whole if row["account"] != "pune")
    assert {row["account"] for row in rows_of(get(after=after(of_another)))} <= {"pune"}


def test_who_took_what_is_in_the_audit_log_without_full_numbers(client: Client, key: str, get) -> None:
    various_calls()
    get(customer_number="+919000000001", format="csv")
    get(part_size=2)
    client.head(EXPORT)
    client.head(EXPORT, {"part_size": "2"})
    client.get(EXPORT, {"format": "xlsx"})
    part, whole = AuditEntry.objects.filter(action=AuditEntry.Action.EXPORT)
    assert whole.api_key == part.api_key == ApiKey.of_text(key)
    assert whole.target_name == "conversations as CSV"
    assert whole.details == {"filters": "customer_number: +91 •••• ••01; format: csv", "rows": 3}
    assert part.details == {"filters": "part_size: 2", "rows": 2}


@pytest.mark.parametrize(
    ("parameters", "field", "remedy"),
    [
        ({"format": "xlsx"}, "format", "Give one of: ndjson, csv."),
        ({"format": "x" * 10_000}, "format", "Give one of: ndjson, csv."),
        ({"after": "2021-09-22T13:48:30Z"}, "after", "Give “started_at” and “id” of the last row you have"),
        ({"after": "x" * 10_000}, "after", "Give “started_at” and “id” of the last row you have"),
        ({"after": "2021-09-22T13:48:30,01997d5e-8a4c-7c3a-9d0a-3f2b1c4d5e6f"}, "after", "Give “started_at”"),
        ({"after": "2021-09-22T13:48:30Z,7"}, "after", "Give “started_at”"),
        ({"after": ",01997d5e-8a4c-7c3a-9d0a-3f2b1c4d5e6f"}, "after", "Give “started_at”"),
        ({"part_size": "0"}, "part_size", f"Give a whole number from 1 to {LARGEST_PART}."),
        ({"part_size": str(LARGEST_PART + 1)}, "part_size", "Give a whole number"),
        ({"part_size": "9" * 10_000}, "part_size", "Give a whole number"),
        ({"part_size": "٣"}, "part_size", "Give a whole number"),
        ({"trailer": "yes"}, "trailer", "Give one of: true, false."),
        ({"trailer": "true", "format": "csv"}, "trailer", "Only NDJSON"),
        ({"trailer": "true", "part_size": "5"}, "trailer", "Only NDJSON"),
        ({"page_size": "5"}, "page_size", "Did you mean “part_size”?"),
        ({"disposition": "answerd"}, "disposition", "Did you mean “answered”?"),
    ],
)
def test_what_cannot_be_answered_is_named_with_a_remedy(
    client: Client, parameters: dict[str, str], field: str, remedy: str
) -> None:
    response = client.get(EXPORT, parameters)
    assert response.status_code == 400
    assert response["Content-Type"] == "application/problem+json"
    [error] = response.json()["errors"]
    assert error["field"] == field
    assert remedy in error["message"]


@pytest.mark.parametrize(
    ("moment", "count"), [("0001-01-01T00:00:00+14:00", 1), ("9999-12-31T23:59:59-12:00", 0), ("2021-09-22 12:00Z", 0)]
)
def test_any_moment_may_be_gone_on_after(get, moment: str, count: int) -> None:
    call = a_conversation(started_at=NOON)
    assert len(rows_of(get(after=f"{moment},{call.pk}"))) == count
