"""Rebuilds: a dry run says what applying does, applying can be undone, and neither is stopped for good by a kill."""

import json
import re
from datetime import timedelta
from html import unescape

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from calls.choices import Disposition
from calls.models import Account, Alert, AlertRule, Conversation, ConversationRedirect, StoredRecord
from calls.tasks import review_alerts
from tests.calls.tables import call_log
from tests.webhooks.inbox import NOON, deliver
from webhooks import processing, rebuilding, rederiving
from webhooks.admin import rebuild as rebuild_admin
from webhooks.models import Delivery, Rebuild, RebuildAhead, RebuildChange, RebuildSource
from webhooks.providers import PROVIDERS, Provider, piopiy
from webhooks.tasks import rebuild as task

pytestmark = pytest.mark.django_db

State = Rebuild.State
PARSE = PROVIDERS["piopiy"].parse
CALLS = 5


def payloads(number: int) -> list[dict]:
    """Return the two live events and the final report of one inbound call."""
    start = 1793620000 + number
    common = {
        "appid": 2222222, "conversation_uuid": f"call-{number}", "cmiuuid": f"call-{number}", "leg": "a",
        "direction": "inbound", "from": 919000000000 + number, "to": 918000000000, "time": start * 1000,
    }  # fmt: skip
    report = {
        "status": "answered", "start_time": start, "answer_time": start + 5, "end_time": start + 18, "duration": 13,
        "call_rate": "0.450000", "balance": f"{900 - number}.5",
    }  # fmt: skip
    return [common | {"status": "in_answered"}, common | {"status": "in_hangup"}, common | report]


@pytest.fixture
def calls(account) -> list[Conversation]:
    """Calls whose deliveries are spread: all first events, all second ones, all reports; then each report again."""
    for turn in range(4):
        for number in range(CALLS):
            payload = payloads(number)[min(turn, 2)]
            deliver(account, payload, received_at=NOON + timedelta(minutes=turn, seconds=number))
    processing.drain()
    assert Delivery.objects.filter(status="repeat").count() == CALLS
    return list(Conversation.objects.order_by("customer_number"))


@pytest.fixture
def small_batches(monkeypatch):
    """Batches that hold only a part of each call's deliveries."""
    monkeypatch.setattr(rederiving, "BATCH", 2)


@pytest.fixture
def fix(monkeypatch):
    """Return a way to give the adapter a fix: a function from the payload and its records to other records."""

    def fix(change) -> None:
        def parse(payload, **context):
            return change(payload, PARSE(payload, **context))

        monkeypatch.setitem(PROVIDERS, "piopiy", Provider("PIOPIY", parse))

    return fix


def with_fields(record, **fields):
    return type(record)(**({name: getattr(record, name) for name in record.__struct_fields__} | fields))


def longer_talk(payload, records):
    """Every report says a longer talk, every event another party: each call differs by two deliveries at least."""
    if payload["status"] == "answered":
        return [with_fields(record, talk_seconds=14) for record in records]
    return [with_fields(record, to_number="918000000009") for record in records]


def run(**scope) -> Rebuild:
    """Run a rebuild to its end."""
    rebuild = Rebuild.objects.create(**scope)
    finish()
    rebuild.refresh_from_db()
    return rebuild


def finish() -> None:
    rebuilding.work_off(timedelta(minutes=1))


def tables(account: Account) -> tuple:
    """Return the call log with its ids, its stored records and what is said of each delivery."""
    ids = list(Conversation.objects.order_by("pk").values_list("pk", "external_id"))
    records = list(StoredRecord.objects.order_by("source", "position").values_list("source", "conversation", "body"))
    said = ("pk", "status", "error_class", "error_field", "error_value", "error_message", "repeats")
    return call_log(account), ids, records, list(Delivery.objects.order_by("pk").values_list(*said))


def changes(rebuild: Rebuild) -> dict:
    return {change.conversation_id: (change.kind, change.fields) for change in rebuild.changes.all()}


# --- Dry run, apply, again, undo -------------------------------------------------------------------------------------


def test_a_rebuild_without_a_fix_changes_nothing(account, calls):
    before = tables(account)
    rebuild = run(is_dry_run=False)
    assert (rebuild.state, rebuild.calls_changed) == (State.DONE, 0)
    assert rebuild.deliveries_done == rebuild.deliveries_total == 3 * CALLS, "repeats are not read"
    assert not RebuildChange.objects.exists()
    assert not RebuildSource.objects.exists()
    assert tables(account) == before


@pytest.mark.usefixtures("small_batches")
def test_a_dry_run_changes_nothing_and_says_exactly_what_applying_does(account, calls, fix):
    before = tables(account)
    fix(longer_talk)
    dry = run()
    assert tables(account) == before
    assert dry.calls_changed == CALLS
    assert dry.deliveries_done == dry.deliveries_total == 3 * CALLS
    _, fields = changes(dry)[calls[0].pk]
    assert ["", "talk_seconds", 13, 14] in fields
    assert [f"leg a {calls[0].external_id}", "talk_seconds", 13, 14] in fields

    applied = rebuilding.apply(dry, None)
    finish()
    applied.refresh_from_db()
    assert applied.state == State.DONE
    assert changes(applied) == changes(dry)
    assert set(Conversation.objects.values_list("talk_seconds", flat=True)) == {14}
    assert not RebuildAhead.objects.exists()


def test_a_fix_changes_exactly_the_fields_that_it_is_about(account, calls, fix):
    def one_call(payload, records):
        return longer_talk(payload, records) if payload["cmiuuid"] == "call-3" and "duration" in payload else records

    fix(one_call)
    rebuild = run(is_dry_run=False)
    (change,) = rebuild.changes.all()
    assert change.conversation_id == calls[3].pk
    assert (change.number, change.kind) == ("+919000000003", "changed")
    assert change.fields == [["", "talk_seconds", 13, 14], ["leg a call-3", "talk_seconds", 13, 14]]


@pytest.mark.usefixtures("small_batches")
def test_a_second_rebuild_changes_nothing(account, calls, fix):
    fix(longer_talk)
    run(is_dry_run=False)
    after = tables(account)
    again = run(is_dry_run=False)
    assert (again.calls_changed, again.sources.count()) == (0, 0)
    assert tables(account) == after


@pytest.mark.usefixtures("small_batches")
def test_undo_puts_every_row_back_and_can_itself_be_undone(account, calls, fix):
    before = tables(account)
    fix(longer_talk)
    applied = run(is_dry_run=False)
    after = tables(account)
    undone = rebuilding.undo(applied, None)
    finish()
    undone.refresh_from_db()
    assert (undone.state, undone.calls_changed) == (State.DONE, CALLS)
    assert tables(account) == before
    assert not rebuilding.can_undo(applied)
    rebuilding.undo(undone, None)
    finish()
    assert tables(account) == after
    assert rebuilding.can_undo(applied), "the undo does not hold any more"


@pytest.mark.usefixtures("small_batches")
def test_a_word_that_was_unknown_gives_calls_and_undo_quarantines_it_again(account, calls, monkeypatch):
    for number in (7, 8):
        report = payloads(number)[2] | {"status": "declined"}
        deliver(account, report, received_at=NOON + timedelta(minutes=5, seconds=number))
    processing.drain()
    before = tables(account)
    monkeypatch.setitem(piopiy.CDR_WORDS, "declined", Disposition.MISSED)
    dry = run()
    assert tables(account) == before
    assert sorted(dry.changes.values_list("kind", "number")) == [("new", "+919000000007"), ("new", "+919000000008")]
    applied = rebuilding.apply(dry, None)
    finish()
    assert Conversation.objects.filter(disposition="missed").count() == 2

    def fields(rebuild):
        return sorted((change.number, change.kind, change.fields) for change in rebuild.changes.all())

    assert fields(applied) == fields(dry)
    notable = applied.sources.filter(is_notable=True).values_list("status_before", "status_after")
    assert list(notable) == [("quarantined", "processed")] * 2
    rebuilding.undo(applied, None)
    finish()
    assert tables(account) == before


@pytest.mark.usefixtures("small_batches")
def test_calls_that_a_fix_merges_are_told_as_such_and_come_apart_again(account, calls, fix):
    tag = calls[1].tags.create(name="callback")
    before = call_log(account)

    def together(payload, records):
        alias = piopiy.Alias("request", "the-same") if payload["cmiuuid"] in {"call-0", "call-1"} else None
        return [with_fields(record, aliases=(*record.aliases, alias)) if alias else record for record in records]

    fix(together)
    dry = run()
    assert call_log(account) == before
    assert {pk: kind for pk, (kind, _) in changes(dry).items()} == {calls[0].pk: "changed", calls[1].pk: "gone"}
    applied = rebuilding.apply(dry, None)
    finish()
    assert changes(applied) == changes(dry)
    assert applied.changes.get(kind="gone").joined == calls[0].pk
    assert ConversationRedirect.objects.get(pk=calls[1].pk).conversation == calls[0]
    rebuilding.undo(applied, None)
    finish()
    assert call_log(account) == before
    # What cannot come back: the id of the call that was merged away, and where its tag was.
    assert Conversation.objects.filter(pk=calls[0].pk).exists()
    assert ConversationRedirect.objects.filter(pk=calls[1].pk).exists()
    assert list(tag.conversations.all()) == [calls[0]]


def test_undo_passes_over_what_was_read_differently_since(account, calls, fix):
    fix(longer_talk)
    applied = run(is_dry_run=False, conversation=calls[0], account=account)
    fix(lambda payload, records: [with_fields(one, from_number="919000000055") for one in records])
    processing.requeue(applied.sources.values_list("delivery", flat=True)[:1])
    processing.drain()
    undone = rebuilding.undo(applied, None)
    finish()
    undone.refresh_from_db()
    assert undone.state == State.DONE
    (left,) = undone.sources.exclude(problem="")
    assert "read differently again since" in left.problem
    assert StoredRecord.objects.get(source=left.delivery_id).body.count("919000000055") == 1


def test_the_scope_is_one_call_a_range_or_an_account(account, calls, fix):
    other = Account.objects.create(slug="other", provider="piopiy")
    deliver(other, payloads(0)[2])
    processing.drain()
    fix(longer_talk)
    assert run(account=account, conversation=calls[2]).changes.get().conversation_id == calls[2].pk
    ranged = run(since=NOON + timedelta(minutes=2, seconds=3), until=NOON + timedelta(minutes=2, seconds=4))
    assert ranged.changes.get().conversation_id == calls[3].pk
    assert (run(account=other).calls_changed, run(account=account).calls_changed) == (1, CALLS)
    everything = run()
    assert (everything.calls_changed, everything.deliveries_done) == (CALLS + 1, 3 * CALLS + 1)


def test_a_rebuild_alerts_nobody(account, calls, fix):
    AlertRule.objects.create(name="Low", kind="low_balance", opens_at=10)
    fix(
        lambda payload, records: [
            with_fields(one, balance_after=1) if "balance" in payload and payload["from"] < 919000000003 else one
            for one in records
        ]
    )
    run(is_dry_run=False)
    review_alerts()
    assert not Alert.objects.exists(), "the newest reading is well above the mark"


# --- Kills, cancelling, company --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_batches")
def test_a_killed_rebuild_goes_on_after_its_lease_and_comes_out_the_same(account, calls, fix, time_machine):
    fix(longer_talk)
    expected = changes(run())
    rebuild = Rebuild.objects.create(is_dry_run=False)
    rebuilding.claim(rebuild)
    steps = rebuilding.run(rebuild)
    next(steps), next(steps)
    steps.close()  # as when its process is killed between two batches
    assert 0 < rebuild.deliveries_done < 3 * CALLS
    other = Rebuild.objects.get(pk=rebuild.pk)
    assert not rebuilding.claim(other), "its lease has not ended"
    time_machine.move_to(timezone.now() + rebuilding.LEASE + timedelta(seconds=1))
    finish()
    rebuild.refresh_from_db()
    assert (rebuild.state, rebuild.deliveries_done) == (State.DONE, 3 * CALLS)
    assert changes(rebuild) == expected


def test_a_rebuild_whose_workers_keep_dying_is_given_up(account, calls, time_machine):
    rebuild = Rebuild.objects.create()
    for _ in range(rebuilding.ATTEMPTS):
        assert rebuilding.claim(rebuild)
        time_machine.move_to(timezone.now() + rebuilding.LEASE + timedelta(seconds=1))
    task()
    rebuild.refresh_from_db()
    assert rebuild.state == State.FAILED
    assert "killed 3 times" in rebuild.reason


@pytest.mark.usefixtures("small_batches")
def test_a_worker_that_lost_its_lease_writes_nothing_more(account, calls, fix, time_machine):
    fix(longer_talk)
    slow = Rebuild.objects.create(is_dry_run=False)
    rebuilding.claim(slow)
    steps = rebuilding.run(slow)
    next(steps)
    time_machine.move_to(timezone.now() + rebuilding.LEASE + timedelta(seconds=1))
    finish()
    after = tables(account)
    assert list(steps) == []
    assert tables(account) == after
    assert Rebuild.objects.get().state == State.DONE


@pytest.mark.usefixtures("small_batches")
def test_a_rebuild_can_be_cancelled_while_it_waits_and_while_it_runs(account, calls, fix):
    waiting = Rebuild.objects.create()
    rebuilding.cancel(waiting)
    waiting.refresh_from_db()
    assert waiting.state == State.CANCELLED

    before = tables(account)
    fix(longer_talk)
    running = Rebuild.objects.create(is_dry_run=False)
    rebuilding.claim(running)
    steps = rebuilding.run(running)
    next(steps)
    rebuilding.cancel(Rebuild.objects.get(pk=running.pk))
    list(steps)
    running.refresh_from_db()
    assert (running.state, running.calls_changed) == (State.CANCELLED, 2)
    assert not RebuildAhead.objects.exists()
    rebuilding.undo(running, None)
    finish()
    assert tables(account) == before


@pytest.mark.usefixtures("small_batches")
def test_live_deliveries_go_on_in_between(account, calls, fix):
    fix(longer_talk)
    rebuild = Rebuild.objects.create(is_dry_run=False)
    rebuilding.claim(rebuild)
    for number, _ in enumerate(rebuilding.run(rebuild), start=20):
        for payload in payloads(number):
            deliver(account, payload, received_at=timezone.now())
        processing.drain()
    rebuild.refresh_from_db()
    assert (rebuild.state, rebuild.calls_changed, rebuild.deliveries_done) == (State.DONE, CALLS, 3 * CALLS)
    assert Conversation.objects.count() > CALLS
    assert set(Conversation.objects.values_list("talk_seconds", flat=True)) == {14}
    assert run(is_dry_run=False).calls_changed == 0


def test_a_delivery_that_cannot_be_written_is_left_as_it_is_and_listed(account, calls, fix):
    def broken(payload, records):
        if payload["cmiuuid"] == "call-2" and "duration" in payload:
            return [with_fields(record, aliases=()) for record in records]
        return longer_talk(payload, records)

    fix(broken)
    rebuild = run(is_dry_run=False)
    assert (rebuild.state, rebuild.calls_changed) == (State.DONE, CALLS - 1)
    left = rebuild.sources.exclude(problem="")
    assert {source.delivery.status for source in left} == {"processed"}
    assert len(left) == 3, "the report, and the events that are read together with it"
    assert Conversation.objects.get(pk=calls[2].pk).talk_seconds == 13


def test_a_single_call_goes_before_a_long_rebuild_and_one_is_done_at_a_time(account, calls):
    everything = Rebuild.objects.create()
    one_call = Rebuild.objects.create(account=account, conversation=calls[0])
    assert rebuilding.claim(one_call)
    assert not rebuilding.claim(everything)
    rebuilding.release(one_call)
    assert rebuilding.claim(everything)
    assert not rebuilding.claim(Rebuild.objects.create())
    assert rebuilding.claim(one_call)
    rebuilding.release(one_call)
    rebuilding.release(everything)
    rebuilding.work_off(timedelta(minutes=1))
    one_call.refresh_from_db()
    everything.refresh_from_db()
    assert one_call.finished_at < everything.finished_at


def test_only_what_makes_sense_can_be_applied_or_undone(account, calls, fix):
    dry = run()
    with pytest.raises(rebuilding.NotPossible):
        rebuilding.undo(dry, None)
    applied = rebuilding.apply(dry, None)
    with pytest.raises(rebuilding.NotPossible):
        rebuilding.apply(dry, None)
    finish()
    applied.refresh_from_db()
    with pytest.raises(rebuilding.NotPossible):  # it changed nothing
        rebuilding.undo(applied, None)


# --- The command -----------------------------------------------------------------------------------------------------


def test_the_command_prints_each_field_and_the_sum(account, calls, fix, capsys):
    fix(longer_talk)
    call_command("rebuild", "--dry-run", "--account", account.slug)
    *lines, last = capsys.readouterr().out.splitlines()
    assert f"{calls[0].pk} talk_seconds: 13 → 14" in lines
    total = json.loads(last)
    assert (total["deliveries"], total["conversations"], total["changes"]) == (3 * CALLS, CALLS, len(lines))
    assert total["dry_run"] is True
    assert set(Conversation.objects.values_list("talk_seconds", flat=True)) == {13}


def test_the_command_rebuilds_one_call_and_undoes(account, calls, fix, capsys):
    before = tables(account)
    fix(longer_talk)
    call_command("rebuild", "--conversation", str(calls[1].pk))
    total = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert total["conversations"] == 1
    assert Conversation.objects.get(talk_seconds=14) == calls[1]
    call_command("rebuild", "--undo", str(total["rebuild"]))
    assert tables(account) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--account", "delhi"], "delhi-support"),
        (["--since", "yesterday"], "2026-11-21"),
        (["--conversation", "01990000-0000-7000-8000-000000000000"], "no call"),
        (["--undo", "77"], "no rebuild 77"),
        (["--undo", "77", "--dry-run"], "no other option"),
        (["--undo", "77", "--all"], "not allowed with"),
    ],
)
def test_the_command_says_what_is_wrong(account, arguments, said):
    with pytest.raises(CommandError, match=said):
        call_command("rebuild", *arguments)
    assert not Rebuild.objects.exists()


def test_ctrl_c_cancels(account, calls, fix, capsys, monkeypatch):
    monkeypatch.setattr(rederiving, "BATCH", 2)
    reads = iter(range(100))

    def interrupted(payload, records):
        if next(reads) == 8:
            raise KeyboardInterrupt
        return longer_talk(payload, records)

    fix(interrupted)
    with pytest.raises(SystemExit, match="130"):
        call_command("rebuild")
    rebuild = Rebuild.objects.get()
    assert (rebuild.state, rebuild.calls_changed) == (State.CANCELLED, 2)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["state"] == "cancelled"


# --- Size ------------------------------------------------------------------------------------------------------------


def test_the_queries_of_a_batch_do_not_grow_with_it(account, fix, django_assert_max_num_queries):
    for number in range(60):
        for payload in payloads(number):
            deliver(account, payload, received_at=NOON + timedelta(seconds=number))
    processing.drain()
    fix(longer_talk)
    rebuild = Rebuild.objects.create(is_dry_run=False)
    rebuilding.claim(rebuild)
    with django_assert_max_num_queries(130):
        next(rebuilding.run(rebuild))
    assert rebuild.deliveries_done >= 100


# --- The admin -------------------------------------------------------------------------------------------------------

LIST = "/admin/webhooks/rebuild/"


@pytest.fixture
def viewer_client(client):
    """A login that may look at everything and change nothing."""
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__regex="^view_|^see_"))
    client.force_login(viewer)
    return client


def text_of(response) -> str:
    assert response.status_code == 200
    return " ".join(re.sub(r"<[^>]*>", " ", unescape(response.content.decode())).split())


def test_staff_starts_a_dry_run_applies_it_and_undoes_it(admin_client, account, calls, fix):
    before = tables(account)
    fix(longer_talk)
    assert "Start dry run" in text_of(admin_client.get(f"{LIST}add/?account={account.pk}"))
    answer = admin_client.post(f"{LIST}add/", {"account": account.pk})
    dry = Rebuild.objects.get()
    assert answer.url == f"{LIST}{dry.pk}/change/"
    assert (dry.is_dry_run, dry.account, str(dry.requested_by)) == (True, account, "admin")
    assert "Waiting" in text_of(admin_client.get(answer.url))
    task()
    page = text_of(admin_client.get(answer.url))
    assert "Calls that would change 5" in page
    assert "+91 90000 00003" in page
    assert "Call Talk seconds 0:13 0:14" in page
    assert "A-leg Talk seconds 0:13 0:14" in page

    answer = admin_client.post(f"{LIST}{dry.pk}/apply/")
    task()
    page = text_of(admin_client.get(answer.url))
    assert f"applies Dry run {dry.pk}" in page
    assert set(Conversation.objects.values_list("talk_seconds", flat=True)) == {14}
    admin_client.post(answer.url.replace("change", "undo"))
    task()
    assert tables(account) == before
    listed = text_of(admin_client.get(LIST))
    assert all(word in listed for word in ("Dry run", "Rebuild", "Undo", "Done", "15 of 15"))
    assert "cannot be applied" not in text_of(admin_client.get(f"{LIST}{dry.pk}/change/"))


def test_a_call_is_derived_again_from_its_page_and_an_account_from_its_own(admin_client, account, calls):
    page = admin_client.get(reverse("admin:calls_conversation_change", args=[calls[2].pk])).content.decode()
    (url,) = re.findall(r'action="(/admin/webhooks/rebuild/of-call/[^"]*)"', page)
    answer = admin_client.post(url)
    rebuild = Rebuild.objects.get()
    assert (rebuild.conversation, rebuild.account, rebuild.is_dry_run) == (calls[2], account, True)
    task()
    page = text_of(admin_client.get(answer.url))
    assert "+91 90000 00002" in page
    assert "gives what is there already" in page
    account_page = admin_client.get(reverse("admin:calls_account_change", args=[account.pk])).content.decode()
    assert f"{LIST}add/?account={account.pk}" in account_page


def test_the_progress_is_told_and_a_rebuild_can_be_cancelled(admin_client, account, calls):
    rebuild = Rebuild.objects.create()
    answer = admin_client.get(f"{LIST}{rebuild.pk}/progress/").json()
    assert answer == {
        "state": "queued", "done": 0, "total": None, "read": "–", "changed": "0", "is_finished": False,
    }  # fmt: skip
    admin_client.post(f"{LIST}{rebuild.pk}/cancel/")
    answer = admin_client.get(f"{LIST}{rebuild.pk}/progress/").json()
    assert (answer["state"], answer["is_finished"]) == ("cancelled", True)
    assert "Cancelled" in text_of(admin_client.get(f"{LIST}{rebuild.pk}/change/"))


def test_who_may_only_look_can_start_and_change_nothing(viewer_client, account, calls):
    rebuild = run()
    page = viewer_client.get(f"{LIST}{rebuild.pk}/change/").content.decode()
    assert "Apply" not in text_of(viewer_client.get(f"{LIST}{rebuild.pk}/change/"))
    assert 'method="post" action="/admin/webhooks/' not in page
    call_page = viewer_client.get(reverse("admin:calls_conversation_change", args=[calls[0].pk]))
    assert "Derive again" not in call_page.content.decode()
    assert viewer_client.get(f"{LIST}add/").status_code == 403
    assert viewer_client.post(f"{LIST}of-call/{calls[0].pk}/").status_code == 403
    for action in ("apply", "undo", "cancel"):
        assert viewer_client.post(f"{LIST}{rebuild.pk}/{action}/").status_code == 403
        assert viewer_client.get(f"{LIST}{rebuild.pk}/{action}/").status_code == 405
    assert viewer_client.post(f"{LIST}{rebuild.pk}/change/").status_code == 403
    assert Rebuild.objects.count() == 1


def test_many_changes_are_paged_and_cost_the_same(admin_client, account, calls, fix, monkeypatch):
    monkeypatch.setattr(rebuild_admin, "SHOWN", 2)
    fix(longer_talk)
    url = f"{LIST}{run().pk}/change/"

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(url)
        return len(queries)

    cost()  # the first one may ask for what is cached from then on
    few = cost()
    seen = []
    while url:
        page = admin_client.get(url)
        seen += [change.number for change, *_ in page.context["changes"]]
        after = page.context["next_after"]
        url = f"{url.partition('?')[0]}?after={after}" if after else ""
    assert seen == [call.customer_number for call in calls]
    for nonsense in ("x", "-1", "9" * 5000):
        assert admin_client.get(f"{LIST}{Rebuild.objects.get().pk}/change/?after={nonsense}").status_code == 200
    monkeypatch.setattr(rebuild_admin, "SHOWN", 5)
    url = f"{LIST}{Rebuild.objects.get().pk}/change/"
    assert cost() == few


def test_the_page_tells_of_new_merged_and_left_ones_without_raw_ids(admin_client, account, calls, fix, monkeypatch):
    deliver(account, payloads(7)[2] | {"status": "declined"}, received_at=NOON + timedelta(minutes=9))
    processing.drain()
    monkeypatch.setitem(piopiy.CDR_WORDS, "declined", Disposition.MISSED)

    def change(payload, records):
        if payload["cmiuuid"] in {"call-0", "call-1"}:
            return [with_fields(one, aliases=(*one.aliases, piopiy.Alias("request", "same"))) for one in records]
        return [with_fields(one, aliases=()) for one in records] if payload["cmiuuid"] == "call-2" else records

    fix(change)
    page = text_of(admin_client.get(f"{LIST}{run().pk}/change/"))
    assert "New call" in page
    assert "It would become part of another call" in page
    assert "Quarantined → Processed" in page
    assert "It is left as it is" in page
    assert str(calls[1].pk) not in page


def test_the_empty_list_says_what_to_do(admin_client):
    assert "It begins with a dry run" in text_of(admin_client.get(LIST))


@pytest.mark.parametrize(
    "form",
    [{"since_0": "2026-11-03", "since_1": "00:00", "until_0": "2026-11-02", "until_1": "00:00"}, {"account": "77"}],
)
def test_a_senseless_scope_is_refused(admin_client, form):
    assert admin_client.post(f"{LIST}add/", form).status_code == 200
    assert not Rebuild.objects.exists()
