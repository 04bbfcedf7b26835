"""What is exported comes back by the import as it was, and an export that was stopped goes on."""

import io
import json
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.test import AsyncClient, Client
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from calls.models import Account, Conversation, StoredRecord
from tests.calls.tables import call_log
from tests.webhooks.inbox import NOON, deliver, deliver_file
from webhooks import exporting, inbox
from webhooks.importing import import_deliveries, read_lines
from webhooks.models import Delivery
from webhooks.processing import drain

EARLIER = NOON - timedelta(days=400)
KEPT = ("id", "received_at", "method", "content_type", "query", "body", "size", "digest")


def kept() -> list[tuple]:
    """Return what a delivery is, without what became of it."""
    rows = Delivery.objects.order_by("received_at", "id").values_list(*KEPT)
    return [tuple(bytes(value) if isinstance(value, memoryview) else value for value in row) for row in rows]


def states() -> list[tuple]:
    return list(
        Delivery.objects.order_by("received_at", "id").values_list("status", "repeats", "error_class", "error_value")
    )


def exported(file: Path, *options: str) -> list[dict]:
    call_command("export_deliveries", *options, "--file", str(file))
    return [json.loads(line) for line in file.read_bytes().splitlines()]


class RoundTrip(TestCase):
    @settings(max_examples=50)
    @given(st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=20), st.integers(0, 3)), max_size=12))
    def test_any_bytes_come_back_as_they_were(self, contents):
        account = Account.objects.create(slug="delhi-support", provider="piopiy")
        for body, query, minute in contents:
            deliver(account, body, received_at=EARLIER + timedelta(minutes=minute))
            Delivery.objects.filter(query=b"", body=body).update(query=query)
        before = kept()
        lines = b"".join(line for batch in exporting.export(Delivery.objects.all()) for line in batch)
        Delivery.objects.all().delete()
        added = sum(batch.added for batch in import_deliveries(account, read_lines(io.BytesIO(lines))))
        assert added == len(contents)
        assert [row[:6] for row in kept()] == [row[:6] for row in before]


@pytest.mark.django_db
def test_calls_come_out_the_same_after_export_and_import(account: Account, tmp_path: Path):
    for number, file in enumerate(sorted(Path("tests/deliveries/piopiy").glob("*.json"))):
        if not file.name.endswith(".records.json"):
            deliver_file(account, "piopiy", file.stem, received_at=EARLIER + timedelta(seconds=number))
    deliver(account, b"\xff", received_at=EARLIER)
    deliver(account, b"\xff", received_at=EARLIER + timedelta(hours=1))
    cut = deliver(account, b"x" * inbox.KEPT_OF_TOO_LARGE, received_at=EARLIER)
    Delivery.objects.filter(pk=cut.pk).update(
        status="quarantined", error_class="TooLarge", error_field="body", error_value="2000000 bytes", size=2000000,
        digest="ab" * 32, processed_at=EARLIER,
    )  # fmt: skip
    drain()
    before, became, calls = kept(), states(), call_log(account)
    assert len(exported(tmp_path / "out.ndjson", account.slug)) == len(before)
    Conversation.objects.all().delete()
    StoredRecord.objects.all().delete()
    Delivery.objects.all().delete()
    call_command("import_deliveries", str(tmp_path / "out.ndjson"), "--account", account.slug)
    assert kept() == before
    drain()
    assert states() == became
    assert call_log(account) == calls


@pytest.mark.django_db
def test_it_goes_on_after_the_last_whole_line(account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exporting, "BATCH", 3)
    for number in range(10):
        deliver(account, {"n": number}, received_at=EARLIER + timedelta(minutes=number // 4))
    whole = exported(tmp_path / "whole.ndjson", "--all")
    assert len(whole) == 10
    content = (tmp_path / "whole.ndjson").read_bytes()
    for end in [0, 5, content.index(b"\n"), content.index(b"\n") + 1, len(content) // 2, len(content) - 1]:
        (tmp_path / "stopped.ndjson").write_bytes(content[:end])
        assert exported(tmp_path / "stopped.ndjson", "--all") == whole
    assert exported(tmp_path / "stopped.ndjson", "--all") == whole


@pytest.mark.django_db
def test_no_more_than_some_bytes_are_read_at_once(account: Account, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exporting, "BATCH_BYTES", 1000)
    for number in range(7):
        deliver(account, b"x" * 400, received_at=EARLIER + timedelta(minutes=number))
    deliver(account, b"x" * 5000, received_at=EARLIER)
    lines = list(exporting.export(Delivery.objects.all()))
    assert max(len(part) for part in lines) == 3
    ids = [json.loads(line)["id"] for part in lines for line in part]
    assert ids == [str(pk) for pk in Delivery.objects.order_by("received_at", "id").values_list("pk", flat=True)]


@pytest.mark.django_db
@pytest.mark.parametrize("content", [b"no export", b"no export\nat all\n", b'{"id": 5}\n', b"a\n" * 100_000])
def test_it_leaves_a_file_alone_that_is_something_else(account: Account, tmp_path: Path, content: bytes):
    file = tmp_path / "mine.txt"
    file.write_bytes(content)
    with pytest.raises(CommandError, match="left as it is"):
        exported(file, account.slug)
    assert file.read_bytes() == content


@pytest.mark.django_db
def test_it_writes_the_account_and_the_time_that_were_asked_for(account: Account, tmp_path: Path, capsysbinary):
    other = Account.objects.create(slug="pune", provider="piopiy")
    wanted = deliver(account, {"n": 1}, received_at=NOON)
    deliver(account, {"n": 2}, received_at=NOON + timedelta(hours=1))
    deliver(account, {"n": 3}, received_at=NOON - timedelta(hours=1))
    deliver(other, {"n": 4}, received_at=NOON)
    call_command("export_deliveries", account.slug, "--since", "2026-11-02T12:00:00Z", "--until", "2026-11-02T12:30:00")
    sys.stdout.flush()
    line = json.loads(capsysbinary.readouterr().out)
    assert (line["id"], line["account"], line["body"]) == (str(wanted.pk), account.slug, '{"n": 1}')
    with pytest.raises(CommandError, match="no account “nobody”"):
        exported(tmp_path / "out.ndjson", "nobody")


@pytest.mark.django_db
def test_the_list_is_exported_as_it_is_filtered(admin_client: Client, account: Account):
    first = deliver(account, {"n": 1})
    deliver(account, {"n": 2}, received_at=NOON + timedelta(days=1))
    answer = admin_client.get("/admin/webhooks/delivery/export/", {"received_at_to_0": "2026-11-02"})
    assert answer["Content-Type"] == "application/x-ndjson"
    assert [json.loads(line)["id"] for line in b"".join(answer.streaming_content).splitlines()] == [str(first.pk)]


@pytest.mark.django_db
def test_nobody_exports_without_the_permission(client: Client, django_user_model):
    guest = django_user_model.objects.create_user("guest", is_staff=True)
    client.force_login(guest)
    assert client.get("/admin/webhooks/delivery/export/").status_code == 403
    guest.user_permissions.set(Permission.objects.filter(codename="view_delivery"))
    assert client.get("/admin/webhooks/delivery/export/").status_code == 403
    guest.user_permissions.add(
        *Permission.objects.filter(codename__in=["export_calls", "see_all_calls", "see_numbers"])
    )
    assert client.get("/admin/webhooks/delivery/export/").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_under_asgi_it_streams_too(account: Account, django_user_model):
    deliver(account, {"n": 1})
    root = django_user_model.objects.create_superuser("root")

    async def pieces() -> list[bytes]:
        client = AsyncClient()
        await client.aforce_login(root)
        answer = await client.get("/admin/webhooks/delivery/export/")
        assert answer.is_async
        return [piece async for piece in answer.streaming_content]

    assert len(async_to_sync(pieces)()) == 1
