"""The door, asked over real HTTP: the fast one under uvicorn and Django's own view under the development server."""

import hashlib
import io
import json
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.webhooks.door import COMMANDS, Door

MIB = 1024 * 1024


@pytest.fixture(scope="module", params=sorted(COMMANDS))
def door(request, tmp_path_factory) -> Iterator[Door]:
    running = Door(request.param, tmp_path_factory.mktemp("door"))
    yield running
    running.stop()


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'{"status": "answered"}'),
        ("", b"{ to: 440000000000, type: 'cdr' }"),
        ("text/klingon; charset=klingon", bytes(range(256))),
        ("application/x-www-form-urlencoded", b"a=1&a=2&%ZZ=%FF"),
        ("multipart/form-data; boundary=x", b"--x\r\nnot really"),
        ("application/json", b"\x00" * 1024),
        ("application/json", b"[" * 100_000),
        ("application/json", b" " * MIB),
    ],
    ids=["json", "javascript", "binary", "form", "multipart", "nul", "deep", "exactly 1 MiB"],
)
def test_any_body_is_kept_byte_for_byte(door: Door, content_type, body):
    answer = door.ask("POST", door.path, body, Content_Type=content_type)
    assert (answer.status, answer.content["status"]) == (200, "accepted")
    assert answer.headers["cache-control"] == "no-store"
    stored = door.row(answer, "method, content_type, body, query, size, digest, status, remote_address")
    digest = hashlib.sha256(body).hexdigest()
    assert stored == ("POST", content_type, body, b"", len(body), digest, "pending", "127.0.0.1")


def test_a_get_keeps_its_query_letter_by_letter(door: Door):
    query = "token=SECRET?SourceNumber=99&x=%FF%00&plus=+91"
    answer = door.ask("GET", f"{door.path}?{query}")
    assert answer.status == 200
    assert door.row(answer, "method, query, body, size") == ("GET", query.encode(), b"", 0)
    assert door.row(answer, "digest") == (hashlib.sha256(query.encode()).hexdigest(),)


def test_the_last_slash_may_be_left_out_and_nothing_is_redirected(door: Door):
    assert door.ask("POST", door.path.rstrip("/"), b"{}").status == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
def test_another_method_is_refused_with_those_allowed(door: Door, method):
    before = door.count()
    answer = door.ask(method, door.path, Origin="https://evil.example")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, POST")
    assert "access-control-allow-origin" not in answer.headers
    assert door.count() == before


def test_whatever_is_wrong_with_the_address_the_answer_is_the_same(door: Door):
    before = door.count()
    token = door.account["token"]
    paths = [
        "/webhooks/piopiy/nobody/", f"/webhooks/telecmi/{token}/", f"/webhooks/unknown/{token}/",
        f"/webhooks/piopiy/{token[:-1]}/", f"/webhooks/piopiy/{token}%0A", f"/webhooks/piopiy/{token}%00/",
        f"/webhooks/piopiy/{token.swapcase()}/", f"/webhooks/piopiy//{token}/", "/webhooks/piopiy/%ff%fe/",
        "/webhooks/piopiy/" + "x" * 5000, f"/webhooks/piopiy/{token}/more/",
    ]  # fmt: skip
    answers = [door.ask("POST", path, b"{}") for path in paths]
    assert {(answer.status, json.dumps(answer.content)) for answer in answers} == {(404, '{"status": "not found"}')}
    assert door.count() == before


def test_a_body_over_the_limit_is_refused_and_its_beginning_kept_in_quarantine(door: Door):
    body = b"ab" * (MIB // 2) + b"c"
    answer = door.ask("POST", door.path, body)
    assert answer.status == 413
    kept = door.row(answer, "body, size, digest, status, error_class")
    assert kept == (body[: 64 * 1024], MIB + 1, hashlib.sha256(body).hexdigest(), "quarantined", "TooLarge")


def test_a_large_body_to_an_unknown_address_is_read_before_the_answer(door: Door):
    assert door.ask("POST", "/webhooks/piopiy/nobody/", b"x" * (5 * MIB)).status == 404


def test_a_body_that_was_cut_short_is_never_acknowledged(door: Door):
    before = door.count()
    head = f"POST {door.path} HTTP/1.1\r\nHost: localhost\r\n"
    answer = door.raw(f"{head}Content-Length: 100\r\n\r\n".encode() + b'{"half": ', hang_up=True)
    assert b" 200 " not in answer.split(b"\r\n", 1)[0]
    answer = door.raw(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + b"9\r\n{half", hang_up=True)
    assert b" 200 " not in answer.split(b"\r\n", 1)[0]
    assert door.count() == before


def test_a_chunked_body_is_kept_whole_or_refused(door: Door):
    before = door.count()
    chunks = b'4\r\n{"a"\r\n5\r\n: 1}\n\r\n0\r\n\r\n'
    head = f"POST {door.path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    status = door.raw(head.encode() + chunks).split(b" ", 2)[1]
    if door.kind == "uvicorn":
        assert status == b"200"
        assert door.rows("body", "body = ?", b'{"a": 1}\n')
    else:  # the development server does not decode chunks: the body would look empty
        assert status == b"411"
        assert door.count() == before


def test_many_at_once_are_all_kept_once(door: Door):
    bodies = [json.dumps({"number": number, "door": door.kind}).encode() for number in range(50)]
    # The development server lets no more than ten wait at its door.
    with ThreadPoolExecutor(50 if door.kind == "uvicorn" else 8) as pool:
        answers = list(pool.map(lambda body: door.ask("POST", door.path, body), bodies))
    assert {answer.status for answer in answers} == {200}
    for body, answer in zip(bodies, answers, strict=True):
        assert door.row(answer, "body") == (body,)
        assert len(door.rows("id", "body = ?", body)) == 1


def test_a_new_address_works_at_once_and_a_retired_one_stops_within_a_second(door: Door):
    account = json.loads(door.manage("add_account", f"second-{door.kind}", "--provider", "telecmi"))
    path = f"/webhooks/telecmi/{account['token']}/"
    assert door.ask("POST", path, b"{}").status == 200
    with sqlite3.connect(door.data_directory / "ringledger.sqlite3", timeout=10) as database:
        database.execute(
            "UPDATE webhooks_endpoint SET retired_at = '2026-01-01' WHERE digest = ?",
            [hashlib.sha256(account["token"].encode()).hexdigest()],
        )
    time.sleep(1)
    assert door.ask("POST", path, b"{}").status == 404


def test_an_account_may_be_reached_only_from_its_networks(door: Door):
    account = json.loads(door.manage("add_account", f"fenced-{door.kind}", "--provider", "telecmi"))
    path = f"/webhooks/telecmi/{account['token']}/"
    with sqlite3.connect(door.data_directory / "ringledger.sqlite3", timeout=10) as database:
        database.execute("UPDATE calls_account SET allowed_networks = '203.0.113.0/24' WHERE slug LIKE 'fenced%'")
    time.sleep(1)
    # Without a proxy of ours in front, nobody may say where they come from.
    assert door.ask("POST", path, b"{}", X_Forwarded_For="203.0.113.9").status == 404


def test_behind_a_proxy_the_address_is_the_one_that_our_proxy_saw(tmp_path):
    door = Door("uvicorn", tmp_path, TRUSTED_PROXIES="1")
    try:
        with sqlite3.connect(tmp_path / "ringledger.sqlite3", timeout=10) as database:
            database.execute("UPDATE calls_account SET allowed_networks = '203.0.113.0/24\n2001:db8::/32'")
        time.sleep(1)
        assert door.ask("POST", door.path, b"{}").status == 404
        asked = {
            "203.0.113.9": 200, "198.51.100.1, 203.0.113.9": 200, "203.0.113.9, 198.51.100.1": 404, "2001:db8::1": 200,
            "::ffff:203.0.113.9": 200, "nonsense": 404, ", ".join(["203.0.113.9"] * 499 + ["198.51.100.1"]): 404,
        }  # fmt: skip
        answers = {hops: door.ask("POST", door.path, b"{}", X_Forwarded_For=hops).status for hops in asked}
        assert answers == asked
    finally:
        door.stop()


def test_no_token_reaches_the_log(door: Door):
    door.ask("POST", door.path, b"{}")
    door.ask("PUT", door.path, b"{}")
    door.log.flush()
    assert door.account["token"] not in (door.data_directory / "server.log").read_text()


@pytest.mark.django_db(transaction=True)  # the application closes its connection at the end of a request
def test_a_wsgi_server_that_decodes_chunks_gets_the_whole_body(account):
    from config.wsgi import application
    from webhooks import inbox
    from webhooks.models import Delivery, Endpoint

    _, token = Endpoint.issue(account)
    inbox.ways.read()
    body = b'{"sent": "in chunks"}'
    statuses = []
    application(
        {
            "REQUEST_METHOD": "POST", "PATH_INFO": f"/webhooks/piopiy/{token}/", "SERVER_NAME": "localhost",
            "SERVER_PORT": "80", "HTTP_HOST": "localhost", "wsgi.input": io.BytesIO(body), "wsgi.url_scheme": "http",
            "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True, "REMOTE_ADDR": "127.0.0.1",
        },
        lambda status, headers: statuses.append(status),
    )  # fmt: skip
    assert statuses == ["200 OK"]
    assert bytes(Delivery.objects.get().body) == body
