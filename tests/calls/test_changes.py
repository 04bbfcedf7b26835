"""The feed of changes: everything that changes is in it once, in order, and nothing else is."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from calls import changes
from calls.api import representation
from calls.changes import BadCursor, Cursor
from calls.choices import Direction, Disposition, EventKind, Label, Role
from calls.intake import Arrival, close_silent, editing, lock_account, take_in
from calls.models import Account, Change, Conversation, Tag
from calls.records import Alias, LegCdr, LiveEvent, Record
from tests.api.factories import a_conversation, an_account
from tests.calls.followed import ACCOUNTS
from tests.calls.test_merge import EACH_ROLLED_BACK, plays
from tests.serving import ROOT

START = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


def an_event_record(call: str, kind: EventKind, seconds: int = 0, **values: Any) -> LiveEvent:
    defaults: dict[str, Any] = {
        "aliases": (Alias("uuid", call),),
        "leg_id": f"leg-{call}",
        "label": Label.A,
        "role": Role.CUSTOMER,
        "call_direction": Direction.INBOUND,
        "kind": kind,
        "provider_status": str(kind),
        "occurred_at": START + timedelta(seconds=seconds),
        "is_answer": kind == EventKind.ANSWERED,
    }
    return LiveEvent(**(defaults | values))


def a_cdr(*calls: str, **values: Any) -> LegCdr:
    defaults: dict[str, Any] = {
        "aliases": tuple(sorted(Alias("uuid", call) for call in calls)),
        "leg_id": f"leg-{calls[0]}",
        "label": Label.A,
        "role": Role.CUSTOMER,
        "call_direction": Direction.INBOUND,
        "disposition": Disposition.ANSWERED,
        "started_at": START,
        "answered_at": START + timedelta(seconds=5),
        "ended_at": START + timedelta(seconds=18),
        "talk_seconds": 13,
    }
    return LegCdr(**(defaults | values))


def take(account: Account, *records: Record, source: UUID | None = None, withdrawn: Iterable[UUID] = ()) -> None:
    """Take in one delivery of these records."""
    arrivals = [Arrival(source or uuid4(), START + timedelta(minutes=1), records)] if records else []
    with transaction.atomic():
        take_in(lock_account(account.pk), arrivals, withdrawn=withdrawn)


def told(account: Account) -> list[tuple[str, str]]:
    """Return kind and steps of all changes of the account."""
    return [(change.kind, change.steps) for change in changes.read([account.pk], Cursor(), 1000)]


def shown(account: Account) -> dict[str, Any]:
    rows = Conversation.objects.filter(account=account).order_by("pk")
    return {row["id"]: row for row in representation.conversations(rows, ("legs", "events"))}


# --- What is written -------------------------------------------------------------------------------------------------


@settings(EACH_ROLLED_BACK, max_examples=40)
@given(play=plays())
def test_whoever_follows_the_feed_has_at_all_times_what_the_tables_hold(account, play):
    _, batches = play
    with transaction.atomic():
        mirror, now, cursor = {}, {}, Cursor()
        for batch in batches:
            before = now
            with transaction.atomic():
                take_in(lock_account(account.pk), batch)
            now = shown(account)
            page = changes.read([account.pk], cursor, 1000)
            cursor = cursor.after(page)
            for change in page:
                pk = str(change.conversation)
                if change.kind in (Change.Kind.MERGED, Change.Kind.ERASED):
                    del mirror[pk]
                else:
                    assert (pk in mirror) == (change.kind != Change.Kind.CREATED)
                    mirror[pk] = now[pk]
            assert mirror == now
            mentioned = {str(change.conversation) for change in page}
            assert len(page) == len(mentioned)
            assert mentioned >= {pk for pk in before.keys() | now.keys() if before.get(pk) != now.get(pk)}
        for batch in batches:  # what says nothing new is no change
            take_in(lock_account(account.pk), batch)
        assert changes.read([account.pk], cursor, 10) == []
        transaction.set_rollback(True)


def test_each_step_of_a_call_is_told_once(account):
    take(account, an_event_record("one", EventKind.STARTED))
    take(account, an_event_record("one", EventKind.ANSWERED, 5))
    take(account, an_event_record("one", EventKind.ANSWERED, 5))
    take(account, a_cdr("one"))
    take(account, a_cdr("one", hangup_cause="NORMAL"))
    assert told(account) == [
        ("created", "started"),
        ("updated", "answered"),
        ("updated", "ended"),
        ("corrected", ""),
    ]


def test_a_call_that_is_told_of_when_it_is_over_has_all_its_steps_at_once(account):
    take(account, a_cdr("one"))
    take(account, a_cdr("two", disposition=Disposition.MISSED, answered_at=None, talk_seconds=None))
    assert told(account) == [("created", "started,answered,ended"), ("created", "started,ended")]


def test_a_call_that_fell_silent_ends_by_a_change(account):
    take(account, an_event_record("one", EventKind.STARTED))
    close_silent(account, START + timedelta(days=1))
    assert told(account) == [("created", "started"), ("updated", "ended")]


def test_calls_that_turn_out_to_be_one_are_merged_into_the_older_after_it_has_changed(account):
    take(account, a_cdr("one"))
    take(account, a_cdr("two"))
    take(account, a_cdr("one", "two", leg_id="bridge"))
    first, second, corrected, merged = changes.read([account.pk], Cursor(), 10)
    assert (corrected.conversation, corrected.kind) == (first.conversation, "corrected")
    assert (merged.conversation, merged.kind, merged.into) == (second.conversation, "merged", first.conversation)


def test_a_call_whose_deliveries_are_withdrawn_is_erased(account):
    source = uuid4()
    take(account, a_cdr("one"), source=source)
    take(account, withdrawn=[source])
    assert [kind for kind, _ in told(account)] == ["created", "erased"]


def test_an_annotation_that_waits_for_its_call_is_no_change(account):
    take(account, an_event_record("one", EventKind.STREAM_CONNECTED))
    assert told(account) == []


def test_what_is_rolled_back_is_not_told(account):
    take(account, a_cdr("one"))
    with transaction.atomic():
        take(account, a_cdr("two"))
        transaction.set_rollback(True)
    take(account, a_cdr("three"))
    assert len(told(account)) == 2
    assert len(Conversation.objects.all()) == 2


# --- What staff change -----------------------------------------------------------------------------------------------


def test_notes_outcome_and_tags_are_changes(db, admin_client: Client):
    call, tag = a_conversation(), Tag.objects.create(name="VIP")
    page = f"/admin/calls/conversation/{call.pk}"
    posts: list[tuple[str, dict[str, Any]]] = [
        (f"{page}/note/", {"text": "Called back"}),
        (f"{page}/outcome/", {"kind": "resolved"}),
        (f"{page}/outcome/", {"kind": ""}),
        (f"{page}/change/", {"tags": [tag.pk]}),
        ("/admin/calls/conversation/", {"action": "remove_tag", "_selected_action": [str(call.pk)], "tag": tag.pk}),
        ("/admin/calls/conversation/", {"action": "add_tag", "_selected_action": [str(call.pk)], "tag": tag.pk}),
    ]
    for number, (address, data) in enumerate(posts, 1):
        assert admin_client.post(address, data).status_code == 302
        assert told(call.account) == [("updated", "")] * number
    for note in call.notes.all():
        admin_client.post(f"{page}/note/{note.pk}/", {"text": "Called back twice"})
        admin_client.post(f"{page}/note/{note.pk}/delete/")
    assert told(call.account) == [("updated", "")] * (len(posts) + 2)


def test_a_tag_that_is_renamed_or_deleted_changes_the_calls_that_have_it(db, admin_client: Client):
    call, _ = a_conversation("VIP"), a_conversation()
    page = f"/admin/calls/tag/{call.tags.get().pk}"
    admin_client.post(f"{page}/change/", {"name": "VIP"})
    assert told(call.account) == []
    admin_client.post(f"{page}/change/", {"name": "Important"})
    assert told(call.account) == [("updated", "")]
    admin_client.post(f"{page}/delete/", {"post": "yes"})
    assert told(call.account) == [("updated", "")] * 2
    assert not call.tags.exists()


def test_what_staff_leave_as_it_is_is_no_change(db, admin_client: Client):
    call = a_conversation("VIP")
    tag = call.tags.get()
    page = f"/admin/calls/conversation/{call.pk}"
    admin_client.post(f"{page}/change/", {"tags": [tag.pk]})
    admin_client.post(f"{page}/note/", {"text": ""})
    admin_client.post(
        "/admin/calls/conversation/", {"action": "add_tag", "_selected_action": [str(call.pk)], "tag": tag.pk}
    )
    assert told(call.account) == []


def test_editing_calls_of_several_accounts_tells_each(db):
    calls = [a_conversation(account=an_account(slug)) for slug in ("delhi", "pune")]
    with editing([call.pk for call in calls]):
        pass
    for call in calls:
        (change,) = changes.read([call.account_id], Cursor(), 10)
        assert (change.conversation, change.kind) == (call.pk, "updated")


# --- Cursors ---------------------------------------------------------------------------------------------------------

positions = st.dictionaries(st.integers(1, 2**63 - 1), st.integers(0, 2**63 - 1), max_size=60)


@given(positions)
def test_a_cursor_comes_back_from_its_text(found: dict[int, int]):
    text = str(Cursor(found))
    assert Cursor.parse(text).positions == found
    assert text.isascii()
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@given(positions, st.data())
def test_a_part_of_a_cursor_is_none(found: dict[int, int], data):
    text = str(Cursor(found))
    kept = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(BadCursor):
        Cursor.parse(text[:kept])


@given(st.text(max_size=80) | st.text("ABCab01-_=", max_size=80))
def test_any_other_text_is_refused_or_a_position(text: str):
    try:
        cursor = Cursor.parse(text)
    except BadCursor:
        return
    assert all(0 <= position < 2**63 for position in cursor.positions.values())


@pytest.mark.parametrize("text", ["A" * 70_000, "A" * 20_000, "é", "\0", "====", " "])
def test_what_cannot_be_a_cursor_is_refused(text: str):
    with pytest.raises(BadCursor):
        Cursor.parse(text)


# --- Reading ---------------------------------------------------------------------------------------------------------


def write(account: Account, *conversations: UUID) -> None:
    changes.write(account.pk, [(pk, Change.Kind.UPDATED, "", None) for pk in conversations])


def test_pages_of_any_length_give_the_same_changes(db):
    accounts = [an_account(slug) for slug in ("delhi", "pune", "goa")]
    for number in range(20):
        write(accounts[number % 3 if number < 15 else 0], uuid4())
    pks = [account.pk for account in accounts]
    whole = changes.read(pks, Cursor(), 100)
    assert len(whole) == 20
    for limit in (1, 3, 7):
        cursor, found = Cursor(), []
        while page := changes.read(pks, cursor, limit):
            assert len(page) <= limit
            found += page
            cursor = Cursor.parse(str(cursor.after(page)))
        assert found == whole


def test_a_change_that_took_its_number_early_and_is_committed_late_is_read_late(db):
    """As between transactions of two accounts: the later number is read first, and the earlier one is not skipped."""
    slow, quick = an_account("delhi"), an_account("pune")
    write(quick, uuid4(), uuid4())
    late, seen = Change.objects.order_by("pk")
    cursor = Cursor().after(changes.read([slow.pk, quick.pk], Cursor(), 10))
    Change.objects.filter(pk=late.pk).update(account=slow)  # what nobody could see until now
    assert changes.read([slow.pk, quick.pk], cursor, 10) == [late]
    assert seen not in changes.read([slow.pk, quick.pk], cursor, 10)


def test_an_account_that_a_cursor_does_not_know_is_read_from_the_start(db):
    first = an_account("delhi")
    write(first, uuid4())
    cursor = changes.now([first.pk])
    second = an_account("pune")
    write(second, uuid4())
    assert [change.account_id for change in changes.read([first.pk, second.pk], cursor, 10)] == [second.pk]


def test_the_cursor_of_now_has_everything_behind_it(db):
    account, empty = an_account("delhi"), an_account("pune")
    write(account, uuid4())
    cursor = changes.now([account.pk, empty.pk])
    assert changes.read([account.pk, empty.pk], cursor, 10) == []
    write(empty, uuid4())
    assert len(changes.read([account.pk, empty.pk], cursor, 10)) == 1


def test_a_page_is_one_query_whatever_the_number_of_accounts(db):
    accounts = [an_account(f"account-{number}") for number in range(30)]
    for account in accounts:
        write(account, uuid4())
    with CaptureQueriesContext(connection) as queries:
        assert len(changes.read([account.pk for account in accounts], Cursor(), 100)) == 30
    assert len(queries) == 1


def test_nothing_is_read_of_no_accounts(db):
    write(an_account(), uuid4())
    assert changes.read([], Cursor(), 10) == []


# --- Sweeping --------------------------------------------------------------------------------------------------------


def test_of_what_is_long_past_the_newest_change_of_each_conversation_stays(db, monkeypatch):
    monkeypatch.setattr(changes, "SWEPT_AT_ONCE", 3)
    account, now = an_account(), timezone.now()
    old, busy, gone = uuid4(), uuid4(), uuid4()
    write(account, old, busy, old, gone, busy, old)
    changes.write(account.pk, [(gone, Change.Kind.ERASED, "", None)])
    Change.objects.update(changed_at=now - changes.KEPT - timedelta(days=1))
    write(account, busy)
    before = changes.read([account.pk], Cursor(), 100)
    assert changes.sweep(now) == 4
    left = changes.read([account.pk], Cursor(), 100)
    assert left == before[4:]
    assert {change.conversation for change in left} == {old, busy, gone}
    assert changes.sweep(now) == 0


def test_nothing_is_swept_that_somebody_a_month_behind_has_not_read(db):
    account, now = an_account(), timezone.now()
    pk = uuid4()
    write(account, pk)
    Change.objects.update(changed_at=now - changes.KEPT - timedelta(days=1))
    write(account, pk)
    Change.objects.filter(changed_at__gt=now - timedelta(days=1)).update(changed_at=now - changes.KEPT / 2)
    assert changes.sweep(now) == 0


# --- Many at once ----------------------------------------------------------------------------------------------------


@pytest.fixture
def start(postgres: str, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start a part of ``tests.calls.followed`` on a database of its own, which is there."""
    with psycopg.connect(postgres, autocommit=True) as server:
        server.execute("DROP DATABASE IF EXISTS followed")
        server.execute("CREATE DATABASE followed")
    url = f"{postgres.rpartition('/')[0]}/followed"
    environment = os.environ | {"DATABASE_URL": url, "DATA_DIR": str(tmp_path)}

    def start(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.calls.followed", *arguments], cwd=ROOT, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    assert start("prepare").wait(120) == 0
    return start


def test_who_follows_many_writers_misses_nothing_and_hears_nothing_that_was_rolled_back(postgres: str, start):
    followers = [start("follow", limit) for limit in ("1", "7")]
    writers = [start("write", str(seed)) for seed in range(2)]
    assert [writer.wait(120) for writer in writers] == [0] * len(writers)
    # Their input ends: they read what is left, and stop.
    found = [json.loads(follower.communicate(timeout=120)[0]) for follower in followers]

    with psycopg.connect(f"{postgres.rpartition('/')[0]}/followed") as database:
        written = database.execute("SELECT account_id, id, changed_at FROM calls_change ORDER BY id").fetchall()
        calls = {str(pk) for (pk,) in database.execute("SELECT id FROM calls_conversation")}
        (used,) = database.execute("SELECT last_value FROM calls_change_id_seq").fetchone() or (0,)
    accounts = {account for account, _, _ in written}
    assert len(accounts) == ACCOUNTS
    assert used > len(written)  # some were rolled back
    for account in accounts:
        times = [at for of, _, at in written if of == account]
        assert times == sorted(times)  # numbers are in the order in which the account was written to
    for one in found:
        for account in accounts:
            assert [pk for of, pk in one["read"] if of == account] == [pk for of, pk, _ in written if of == account]
        assert one["copy"].keys() == calls
    assert found[0]["copy"] == found[1]["copy"]

    # One number for all accounts would be too simple a cursor: this is what it would miss.
    [[_, quick]], [[is_slow, slow]] = json.loads(start("overtake").communicate(timeout=120)[0])
    assert is_slow
    assert slow < quick
