"""Recorded deliveries come back into the inbox once each, as they were, and a bad line stops nothing."""

import base64
import hashlib
import io
import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from rest_framework.renderers import JSONRenderer

from calls.models import Account, Conversation
from tests.webhooks.inbox import deliver
from webhooks import importing, processing
from webhooks.api import DeliverySerializer
from webhooks.models import Delivery

pytestmark = pytest.mark.django_db

CDR = {
    "type": "cdr", "direction": "inbound", "leg": "a", "status": "answered", "appid": 2222222, "from": 919000000001,
    "to": 918000000000, "conversation_uuid": "import-1", "cmiuuid": "import-1", "time": 1632318510000,
    "start_time": 1632318510, "answer_time": 1632318515, "end_time": 1632318528, "duration": 13,
}  # fmt: skip
LINE = {
    "method": "POST",
    "content_type": "application/json",
    "query": "",
    "body": json.dumps(CDR),
    "received_at": "2021-09-22T13:48:49.250000Z",
}
ID = "0199a5c0-0000-7000-8000-000000000001"


@pytest.fixture
def run(account: Account, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Import lines (objects as JSON, bytes as they are) and return the counts; what was said is in ``run.said``."""

    def run(*lines: object, name: str = "deliveries.ndjson", options: Sequence[str] = ()) -> dict[str, int]:
        file = tmp_path / name
        raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        file.write_bytes(b"\n".join(raw) + b"\n")
        call_command("import_deliveries", str(file), "--account", account.slug, *options)
        printed = capsys.readouterr()
        run.said = printed.err
        return json.loads(printed.out)

    return run


def counts(read: int = 0, added: int = 0, already: int = 0, other: int = 0, bad: int = 0) -> dict[str, int]:
    return {"read": read, "added": added, "already": already, "other": other, "bad": bad}


def test_it_puts_a_delivery_in_the_inbox_as_it_was(run, account: Account):
    assert run(LINE | {"id": ID, "query": "a=1"}) == counts(read=1, added=1)
    delivery = Delivery.objects.get()
    assert (delivery.pk, delivery.account, delivery.status) == (UUID(ID), account, "pending")
    assert delivery.received_at == datetime(2021, 9, 22, 13, 48, 49, 250000, tzinfo=UTC)
    assert (delivery.method, delivery.content_type) == ("POST", "application/json")
    body = LINE["body"].encode()
    assert (bytes(delivery.body), bytes(delivery.query)) == (body, b"a=1")
    assert (delivery.size, delivery.digest) == (len(body), hashlib.sha256(body).hexdigest())
    processing.drain()
    assert Conversation.objects.get().talk_seconds == 13


def test_a_delivery_without_a_body_has_the_digest_of_its_query(run):
    run({"method": "GET", "query": "status=answered", "received_at": LINE["received_at"]})
    delivery = Delivery.objects.get()
    assert (delivery.size, delivery.digest) == (0, hashlib.sha256(b"status=answered").hexdigest())


def test_a_body_that_is_no_text_comes_as_base64(run):
    content = b"\xff\x00\x80 no text"
    run(LINE | {"body": base64.b64encode(content).decode(), "body_encoding": "base64"})
    assert bytes(Delivery.objects.get().body) == content


def test_it_takes_what_the_api_gives(run, account: Account):
    bodies = [json.dumps(CDR).encode(), b"\xff\x00", b"{ to: 440000000000 }", "नमस्ते".encode()]
    before = {delivery.pk: bytes(delivery.body) for delivery in (deliver(account, body) for body in bodies)}
    processing.drain()
    context = {"conversations": {}}
    lines = [
        JSONRenderer().render(DeliverySerializer(delivery, context=context).data)
        for delivery in Delivery.objects.select_related("account")
    ]
    Delivery.objects.all().delete()
    # The recording may be played on a later day than it was made, not on an earlier one.
    lines = [line.replace(b"2026-11-02", b"2025-11-02") for line in lines]
    assert run(*lines) == counts(read=4, added=4)
    assert {delivery.pk: bytes(delivery.body) for delivery in Delivery.objects.all()} == before
    assert set(Delivery.objects.values_list("status", flat=True)) == {"pending"}


def test_a_second_run_adds_nothing(run):
    lines = [LINE | {"id": ID}, LINE, LINE | {"body": "{}"}]
    assert run(*lines) == counts(read=3, added=3)
    assert run(*lines) == counts(read=3, already=3)
    assert Delivery.objects.count() == 3


def test_it_goes_on_where_an_earlier_run_stopped(run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importing, "BATCH", 2)
    lines = [LINE | {"body": json.dumps({"n": n})} for n in range(7)]
    run(*lines[:3])
    assert run(*lines) == counts(read=7, added=4, already=3)


def test_what_was_sent_twice_is_kept_twice_and_what_is_recorded_twice_once(run):
    assert run(LINE, LINE) == counts(read=2, added=2)
    assert run(LINE | {"id": ID}, LINE | {"id": ID}, name="other.ndjson") == counts(read=2, added=1, already=1)


def test_bad_lines_are_named_and_kept_apart_and_the_others_go_in(run, tmp_path: Path):
    bad = b'{"method": "POST"'
    assert run(LINE, bad, b"", b"   ", LINE | {"method": "PUT"}) == counts(read=3, added=1, bad=2)
    assert "line 2: no JSON object" in run.said
    assert "line 5: method: 'PUT' is not one of GET, POST" in run.said
    kept = (tmp_path / "deliveries.bad.ndjson").read_bytes().splitlines()
    assert kept == [bad, json.dumps(LINE | {"method": "PUT"}).encode()]


def test_no_file_of_bad_lines_is_made_when_there_are_none(run, tmp_path: Path):
    run(LINE)
    assert not (tmp_path / "deliveries.bad.ndjson").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"received_at": "2021-09-22T13:48:49"}, "$.received_at"),
        ({"received_at": "yesterday"}, "$.received_at"),
        ({"received_at": "1970-01-01T00:00:00Z"}, "received_at: 1970-01-01T00:00:00+00:00 is not between 2005 and now"),
        ({"body": 5}, "Expected `str`, got `int` - at `$.body`"),
        ({"body": "&&", "body_encoding": "base64"}, "body: no base64"),
        ({"body_encoding": "gzip"}, "body_encoding: 'gzip' is neither text nor base64"),
        ({"body": "x" * (1024 * 1024 + 1)}, "body: 1048577 bytes; 1048576 are allowed"),
        ({"id": "17"}, "$.id"),
        ({"provider": "telecmi"}, "provider: 'telecmi', but the account is one of piopiy"),
    ],
)
def test_a_bad_line_is_told_with_field_and_reason(run, change: dict[str, object], said: str):
    assert run(LINE | change) == counts(read=1, bad=1)
    assert re.search(rf"line 1: .*{re.escape(said)}", run.said)
    assert not Delivery.objects.exists()


def test_a_line_of_tomorrow_is_bad(run):
    assert run(LINE | {"received_at": (datetime.now(UTC) + timedelta(days=1)).isoformat()})["bad"] == 1


@pytest.mark.parametrize("line", [b"null", b"[]", b'"text"', b"\xff\xfe{", b"[" * 100_000, b'{"body": "\\ud800"}'])
def test_a_line_of_anything_else_is_bad(run, line: bytes):
    assert run(line, LINE) == counts(read=2, added=1, bad=1)


def test_it_takes_an_id_of_another_account_for_a_bad_line(run):
    other = Account.objects.create(slug="another", provider="piopiy")
    delivery = deliver(other, CDR)
    assert run(LINE | {"id": str(delivery.pk)}) == counts(read=1, bad=1)
    assert "line 1: id: a delivery of another account has this id" in run.said
    assert Delivery.objects.get().account == other


def test_lines_of_another_account_are_left_out_unless_they_are_asked_for(run, account: Account):
    lines = [LINE | {"account": slug, "body": f'{{"of": "{slug}"}}'} for slug in (account.slug, "pune", "pune", "goa")]
    assert run(*lines, LINE) == counts(read=5, added=2, other=3)
    assert "Lines of other accounts were left out: “pune” (2), “goa” (1)." in run.said
    assert run(*lines, options=("--from", "pune")) == counts(read=4, added=2, other=2)
    told = [json.loads(bytes(body)).get("of") for body in Delivery.objects.values_list("body", flat=True)]
    assert told.count("pune") == 2


def test_it_reads_the_standard_input(account: Account, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    content = json.dumps(LINE).encode() + b"\nbad\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    call_command("import_deliveries", "-", "--account", account.slug)
    assert json.loads(capsys.readouterr().out) == counts(read=2, added=1, bad=1)
    assert (tmp_path / "stdin.bad.ndjson").read_bytes() == b"bad\n"


@pytest.mark.parametrize("tail", [b"", b"\n" + json.dumps(LINE).encode()])
def test_of_a_line_without_end_only_the_beginning_is_read(
    account: Account, monkeypatch: pytest.MonkeyPatch, tail: bytes
):
    monkeypatch.setattr(importing, "LONGEST_LINE", 1000)
    lines = list(importing.read_lines(io.BytesIO(b"x" * 5000 + tail)))
    assert [len(line) for line in lines] == [1001, len(tail) - 1][: 1 + bool(tail)]
    found = list(importing.import_deliveries(account, lines))
    assert [line.reason for batch in found for line in batch.rejected] == [
        "longer than 1000 bytes; only its beginning is kept apart"
    ]
    assert sum(batch.added for batch in found) == bool(tail)


def test_a_batch_ends_when_it_has_many_bytes(account: Account, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importing, "BATCH_BYTES", 2000)
    lines = [json.dumps(LINE | {"body": "x" * 700, "query": str(n)}).encode() for n in range(9)]
    sizes = [batch.added for batch in importing.import_deliveries(account, lines)]
    assert sizes == [3, 3, 3, 0]


def test_a_byte_order_mark_and_windows_line_ends_are_no_trouble(run):
    line = json.dumps(LINE).encode()
    assert run(b"\xef\xbb\xbf" + line + b"\r", line + b"\r") == counts(read=2, added=2)


def test_an_empty_file_is_an_empty_import(run):
    assert run() == counts()


@pytest.mark.parametrize(
    ("file", "slug", "said"),
    [
        ("absent.ndjson", "delhi-support", "absent.ndjson cannot be read"),
        (".", "delhi-support", "cannot be read"),
        ("absent.ndjson", "nobody", "There is no account “nobody”. Accounts: delhi-support."),
    ],
)
@pytest.mark.usefixtures("account")
def test_it_says_what_is_wrong(tmp_path: Path, file: str, slug: str, said: str):
    with pytest.raises(CommandError, match=re.escape(said)):
        call_command("import_deliveries", str(tmp_path / file), "--account", slug)
