"""Exports: the rows of a list as a file, at once or in the background, for those who may have them."""

import csv
import io
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Event, Thread
from zoneinfo import ZoneInfo

import openpyxl
import pytest
import time_machine
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from calls.choices import Disposition, ExportFormat
from calls.exports import jobs, lists
from calls.exports.cells import csv_cell, defuse
from calls.exports.columns import CHUNK, column
from calls.exports.snapshot import directory, read_along, snapshot
from calls.exports.writers import write
from calls.models import (
    Account,
    Agent,
    AuditEntry,
    Contact,
    ContactNumber,
    Conversation,
    Export,
    MissedCaller,
    Tag,
)
from tests.calls.rows import a_call
from tests.serving import ROOT, until

# Rows are read in transactions of their own, by threads of their own.
pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/calls/conversation/"
EXPORT = f"{LIST}export-list/"
PAGE = "/admin/calls/export/"
START = datetime(2026, 11, 2, 20, 0, tzinfo=UTC)  # the day after in Kolkata
KOLKATA = ZoneInfo("Asia/Kolkata")


@pytest.fixture
def account() -> Account:
    return Account.objects.create(slug="delhi-support", name="Delhi support", provider="piopiy")


@pytest.fixture
def manager() -> User:
    return make_user("manager", "view_conversation", "see_all_calls", "see_numbers", "export_calls")


@pytest.fixture
def client(manager: User) -> Client:
    return signed_in(manager)


@pytest.fixture(autouse=True)
def _clean_directory() -> Iterator[None]:
    """Leave no file behind: the directory is one for all tests."""
    yield
    Export.objects.all().delete()
    jobs.remove_old()


def make_user(name: str, *permissions: str) -> User:
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return User.objects.get(pk=user.pk)


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    client.cookies["zone"] = "Asia/Kolkata"
    return client


def make_calls(account: Account, count: int, **columns: object) -> list[Conversation]:
    """Store calls a minute apart, all with the columns given."""
    started = columns.pop("started_at", START)
    return Conversation.objects.bulk_create(
        a_call(account, started_at=started + timedelta(minutes=number), **columns) for number in range(count)
    )


def lines_of(table: str) -> list[dict[str, str]]:
    """Return the list of a table as somebody exports it who may see all its rows, but not the numbers."""
    user = make_user(table, f"view_{table}", "see_all_calls", "export_calls")
    return csv_rows(body(signed_in(user).post(f"/admin/calls/{table}/export-list/", {"format": "csv"})))


def body(response) -> bytes:
    assert response.status_code == 200, response
    return b"".join(response.streaming_content)


def csv_rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def in_background(client: Client, query: str = "", form: str = "xlsx") -> Export:
    """Ask for an export and have it made, as a worker does."""
    client.post(f"{EXPORT}?{query}", {"format": form})
    jobs.work_off()
    return Export.objects.latest("created_at")


def download(client: Client, export: Export):
    return client.get(f"{PAGE}{export.pk}/download/")


def sheet_rows(content: bytes) -> list[tuple]:
    return list(openpyxl.load_workbook(io.BytesIO(content), read_only=True).worksheets[0].iter_rows(values_only=True))


# --- Cells -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝"])
def test_a_text_that_a_spreadsheet_would_compute_is_written_as_a_text(start: str):
    assert defuse(f"{start}SUM(A1)") == f"'{start}SUM(A1)"


def test_harmless_texts_and_our_own_numbers_stay_as_they_are():
    assert defuse("Delhi =1") == "Delhi =1"
    assert csv_cell(Decimal("-0.450000"), UTC) == "-0.450000"
    assert csv_cell(Decimal("1E+3"), UTC) == "1000"
    assert [csv_cell(value, UTC) for value in (None, True, False, 7)] == ["", "yes", "no", "7"]


# --- Short lists, at once --------------------------------------------------------------------------------------------


def test_a_csv_file_has_the_rows_of_the_list_in_its_order_with_times_in_the_viewers_zone(client: Client, account):
    agent = Agent.objects.create(account=account, external_id="201", name="Asha")
    kept = make_calls(account, 3, disposition=Disposition.MISSED, cost=Decimal("0.45"), cost_unit="INR", agent=agent)
    make_calls(account, 2)
    Tag.objects.create(name="VIP").conversations.add(kept[0])
    Tag.objects.create(name="Angry").conversations.add(kept[0])

    response = client.post(f"{EXPORT}?disposition__exact=missed", {"format": "csv"})
    found = csv_rows(body(response))

    assert response["Content-Disposition"].startswith('attachment; filename="conversations-2')
    assert [row["Id"] for row in found] == [str(call.pk) for call in reversed(kept)]
    first = found[-1]
    assert first["Started (Asia/Kolkata)"] == "2026-11-03 01:30:00"
    assert (first["Account"], first["Agent"], first["Cost"]) == ("Delhi support", "Asha", "0.450000")
    assert (first["Customer"], first["Tags"], first["Recording"]) == ("'+919000000001", "Angry, VIP", "no")
    assert found[0]["Tags"] == ""


def test_every_filter_and_the_search_of_the_list_hold_for_its_export(client: Client, account):
    other = Account.objects.create(slug="agra", provider="piopiy")
    make_calls(other, 3)
    make_calls(account, 4, customer_number="+919000000077")
    make_calls(account, 5)
    since = "started_at_from_0=2026-11-03&started_at_from_1=01:31"
    counts = {"": 12, "q=00077": 4, f"account__id__exact={account.pk}": 9, since: 9}
    for query, count in counts.items():
        assert client.get(f"{LIST}?{query}").context["cl"].result_count == count
        assert len(csv_rows(body(client.post(f"{EXPORT}?{query}", {"format": "csv"})))) == count


def test_an_export_has_all_pages_of_a_list_whichever_is_shown(client: Client, account):
    make_calls(account, 120)
    assert len(csv_rows(body(client.post(f"{EXPORT}?p=2", {"format": "csv"})))) == 120


def test_rows_beyond_one_chunk_are_there_once_each(client: Client, account):
    calls = make_calls(account, CHUNK + 5)
    found = csv_rows(body(client.post(EXPORT, {"format": "csv"})))
    assert sorted(row["Id"] for row in found) == sorted(str(call.pk) for call in calls)


def test_ndjson_has_a_line_for_each_row_with_offsets_and_exact_amounts(client: Client, account):
    make_calls(account, 2, cost=Decimal("0.45"), recording="https://files.example/secret.mp3", hangup_cause="=1+1")
    content = body(client.post(EXPORT, {"format": "ndjson"}))
    lines = [json.loads(line) for line in content.splitlines()]
    assert len(lines) == 2
    assert lines[1]["started_at"] == "2026-11-03T01:30:00+05:30"
    assert (lines[1]["cost"], lines[1]["answered_at"], lines[1]["tags"]) == ("0.450000", None, None)
    assert (lines[1]["has_recording"], lines[1]["hangup_cause"]) == (True, "=1+1")
    assert b"secret.mp3" not in content


def test_formulas_in_what_a_provider_sent_are_defused(client: Client, account):
    make_calls(account, 1, hangup_cause='=HYPERLINK("http://evil.example")', external_id="@cmd")
    (row,) = csv_rows(body(client.post(EXPORT, {"format": "csv"})))
    assert row["Hang-up cause"] == '\'=HYPERLINK("http://evil.example")'
    assert row["Provider’s id"] == "'@cmd"


def test_other_lists_are_exported_too(account):
    staff = make_user("boss", "view_agent", "see_all_calls", "see_numbers", "export_calls")
    Agent.objects.create(account=account, external_id="201", name="Asha", phone="+919000000055")
    response = signed_in(staff).post("/admin/calls/agent/export-list/", {"format": "csv"})
    (row,) = csv_rows(body(response))
    assert (row["Name"], row["Phone"], row["Account"]) == ("Asha", "'+919000000055", "Delhi support")
    for table in ("alert", "balancereading"):
        assert lines_of(table) == [], "a header and no row"


def test_missed_callers_contacts_and_the_audit_log_are_exported(account):
    MissedCaller.objects.create(
        account=account, customer_number="+919000000077", misses=2, attempts=0, first_missed_at=START,
        last_missed_at=START, due_at=START + timedelta(minutes=30),
    )  # fmt: skip
    contact = Contact.objects.create(name="=Ravi", company="Tea House")
    for number in ("+919000000078", "+919000000079"):
        ContactNumber.objects.create(number=number, contact=contact)

    (missed,) = lines_of("missedcaller")
    assert (missed["Caller"], missed["Missed calls"]) == ("'+91 •••• ••77", "2")
    assert missed["Promised by (Asia/Kolkata)"] == "2026-11-03 02:00:00"
    (found,) = lines_of("contact")
    assert (found["Name"], found["Numbers"]) == ("'=Ravi", "'+91 •••• ••78, +91 •••• ••79")
    done = [(entry["Who"], entry["Did"], entry["What"]) for entry in lines_of("auditentry")]
    assert ("contact", "Exported", "contacts as CSV") in done


def test_a_query_that_the_list_does_not_take_is_told_and_nothing_is_exported(client: Client, account):
    response = client.post(f"{EXPORT}?started_at_from_0=soon", {"format": "csv"}, follow=True)
    assert "Choose them again" in response.text
    assert not AuditEntry.objects.filter(action=AuditEntry.Action.EXPORT).exists()


# --- Who may ---------------------------------------------------------------------------------------------------------


def test_without_the_permission_there_is_no_button_and_no_file(account):
    viewer = signed_in(make_user("viewer", "view_conversation", "see_all_calls", "see_numbers"))
    assert "export-list" not in viewer.get(LIST).text
    assert viewer.post(EXPORT, {"format": "csv"}).status_code == 403
    assert viewer.get(PAGE).status_code == 403


def test_a_list_that_one_may_not_look_at_cannot_be_exported():
    blind = signed_in(make_user("blind", "see_all_calls", "export_calls"))
    assert blind.post(EXPORT, {"format": "csv"}).status_code == 403


def test_numbers_are_masked_for_those_who_may_not_see_them(account):
    user = make_user("masked", "view_conversation", "see_all_calls", "export_calls")
    agent = Agent.objects.create(account=account, external_id="919000000066")
    make_calls(account, 2, agent=agent, external_id="call 919000000077")
    for form in ("csv", "ndjson"):
        content = body(signed_in(user).post(EXPORT, {"format": form})).decode()
        assert "+91 •••• ••01" in content
        assert not [number for number in ("9000000001", "9000000066", "9000000077") if number in content]
    export = in_background(signed_in(user))
    cells = {str(cell) for row in sheet_rows(body(download(signed_in(user), export))) for cell in row}
    assert "+91 •••• ••01" in cells
    assert "+919000000001" not in cells


def test_an_export_has_only_the_rows_within_reach(account):
    user = make_user("out-of-reach", "view_conversation", "see_numbers", "export_calls")
    make_calls(account, 2)
    assert csv_rows(body(signed_in(user).post(EXPORT, {"format": "csv"}))) == []


def test_exports_and_downloads_are_in_the_audit_log_without_full_numbers(client: Client, account, manager):
    make_calls(account, 2, customer_number="+919000000077")
    client.post(f"{EXPORT}?q=919000000077&direction__exact=inbound", {"format": "csv"})
    entry = AuditEntry.objects.get(action=AuditEntry.Action.EXPORT)
    assert (entry.user, entry.target_name, entry.details["rows"]) == (manager, "conversations as CSV", 2)
    assert "direction: Inbound" in entry.details["filters"]
    assert "9000000077" not in json.dumps(entry.details)
    export = in_background(client, f"account__id__exact={account.pk}")
    body(download(client, export))
    entry = AuditEntry.objects.get(action=AuditEntry.Action.DOWNLOAD)
    assert (entry.target_id, entry.details["rows"]) == (str(export.pk), 2)
    assert entry.details["filters"] == "account: Delhi support"


# --- In the background -----------------------------------------------------------------------------------------------


def test_an_xlsx_file_has_real_dates_and_numbers_and_no_formulas(client: Client, account):
    make_calls(account, 2, cost=Decimal("0.45"), talk_seconds=61, hangup_cause="=1+1")
    export = in_background(client)
    assert (export.state, export.rows_done, export.rows_expected) == ("done", 2, 2)
    response = download(client, export)
    content = body(response)
    assert len(content) == export.size == int(response["Content-Length"])
    header, *found = sheet_rows(content)
    row = dict(zip(header, found[-1], strict=True))
    assert row["Started (Asia/Kolkata)"] == datetime(2026, 11, 3, 1, 30)  # noqa: DTZ001 - a sheet knows no zones
    assert (row["Cost"], row["Talk seconds"], row["Hang-up cause"]) == (0.45, 61, "=1+1")
    assert row["Customer"] == "+919000000001"
    book = openpyxl.load_workbook(io.BytesIO(content))
    assert not [cell for line in book.worksheets[0].iter_rows() for cell in line if cell.data_type == "f"]


def test_a_sheet_that_is_full_goes_on_on_another(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setattr("calls.exports.writers.MOST_ROWS_OF_SHEET", 3)
    file = io.BytesIO()
    chunks = [[[number] for number in range(5)]]
    assert list(write(file, ExportFormat.XLSX, [column("n", "N")], chunks, KOLKATA, tmp_path)) == [0, 5]
    first, second = openpyxl.load_workbook(file).worksheets
    assert [row[0].value for row in first.iter_rows()] == ["N", 0, 1, 2]
    assert [row[0].value for row in second.iter_rows()] == ["N", 3, 4]


def test_a_long_list_is_made_in_the_background_in_every_format(
    client: Client, account, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("calls.admin.export.CAP", 4)
    make_calls(account, 5)
    for form in ("csv", "ndjson"):
        response = client.post(EXPORT, {"format": form})
        assert response.status_code == 302
        jobs.work_off()
        export = Export.objects.latest("created_at")
        assert (export.state, export.rows_done) == ("done", 5)
        lines = body(download(client, export)).count(b"\n")
        assert lines == 5 + (form == "csv")


def test_files_are_for_their_owner_and_for_those_who_see_all_exports(client: Client, account):
    make_calls(account, 1)
    export = in_background(client)
    permissions = ["view_conversation", "see_all_calls", "export_calls"]
    other = signed_in(make_user("other", *permissions))
    assert download(other, export).status_code == 404
    assert str(export.pk) not in other.get(PAGE).text
    administrator = signed_in(make_user("administrator", *permissions, "see_numbers", "see_all_exports"))
    assert download(administrator, export).status_code == 200
    assert "By manager" in administrator.get(PAGE).text
    assert Client().get(f"{PAGE}{export.pk}/download/").status_code == 302
    file = jobs.file_of(export)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == stat.S_IMODE(directory().stat().st_mode) == 0o700


def test_who_has_lost_the_permission_gets_no_file_any_more(client: Client, account, manager):
    make_calls(account, 1)
    export = in_background(client)
    client.post(EXPORT, {"format": "xlsx"})
    manager.user_permissions.remove(Permission.objects.get(codename="view_conversation"))
    assert download(client, export).status_code == 403
    jobs.work_off()
    queued = Export.objects.latest("created_at")
    assert queued.state == "failed"
    assert "no longer export" in queued.problem


def test_a_file_with_full_numbers_is_not_for_those_who_may_not_see_them(client: Client, account, manager):
    make_calls(account, 1)
    export = in_background(client)
    manager.user_permissions.remove(Permission.objects.get(codename="see_numbers"))
    assert download(client, export).status_code == 403
    masked = in_background(client)
    assert download(client, masked).status_code == 200


def test_a_file_is_kept_for_a_day_and_then_removed(client: Client, account, manager):
    make_calls(account, 1)
    export = in_background(client)
    with time_machine.travel(timezone.now() + timedelta(hours=23, minutes=59), tick=False):
        jobs.remove_old()
        assert jobs.file_of(export).exists()
    with time_machine.travel(timezone.now() + timedelta(hours=24, minutes=1), tick=False):
        assert download(signed_in(manager), export).status_code == 404
        jobs.remove_old()
    export.refresh_from_db()
    assert export.state == "expired"
    assert list(directory().iterdir()) == []
    assert download(signed_in(manager), export).status_code == 404


def test_a_cancelled_export_stops_and_leaves_no_file(client: Client, account):
    make_calls(account, 1)
    client.post(EXPORT, {"format": "xlsx"})
    export = Export.objects.get()
    assert client.post(f"{PAGE}{export.pk}/cancel/").status_code == 302
    assert not jobs.work_off()
    export.refresh_from_db()
    assert export.state == "cancelled"
    assert "had ended" in client.post(f"{PAGE}{export.pk}/cancel/", follow=True).text


def test_one_person_may_have_three_exports_waiting(client: Client, account):
    for _ in range(jobs.MOST_UNFINISHED):
        client.post(EXPORT, {"format": "xlsx"})
    answer = client.post(EXPORT, {"format": "xlsx"}, follow=True)
    assert "cancel one" in answer.text
    assert Export.objects.count() == jobs.MOST_UNFINISHED


def test_only_one_export_is_made_at_a_time_and_the_oldest_first(client: Client, account):
    for _ in range(2):
        client.post(EXPORT, {"format": "xlsx"})
    second, first = Export.objects.all()
    Export.objects.filter(pk=first.pk).update(state="running", lease_until=timezone.now() + jobs.LEASE, attempts=1)
    assert not jobs.is_waiting()
    assert not jobs.work_off()
    with time_machine.travel(timezone.now() + jobs.LEASE + timedelta(seconds=1), tick=False):
        assert jobs.is_waiting(), "its worker was killed"
        assert jobs.work_off()
        first.refresh_from_db()
        assert (first.state, first.attempts) == ("done", 2)
        assert jobs.work_off()
    second.refresh_from_db()
    assert second.state == "done"
    assert not jobs.is_waiting()


def test_an_export_that_kills_its_worker_again_and_again_has_failed(client: Client, account):
    client.post(EXPORT, {"format": "xlsx"})
    Export.objects.update(state="running", attempts=jobs.ATTEMPTS, lease_until=timezone.now() - jobs.LEASE)
    assert not jobs.work_off()
    export = Export.objects.get()
    assert export.state == "failed"
    assert "Narrow the list down" in export.problem


def test_a_full_disk_is_told_in_words_and_leaves_no_file(account, manager):
    make_calls(account, 1)
    export = jobs.ask(manager, "calls.conversation", "", "csv", "Asia/Kolkata")
    # A device that is always full stands where the file will be.
    folder = directory() / f"{export.pk}-1"
    folder.mkdir()
    (folder / "rows.csv").symlink_to("/dev/full")
    jobs.work_off()
    export.refresh_from_db()
    assert export.state == "failed"
    assert "disk is full" in export.problem
    assert not folder.exists()


def test_an_export_whose_worker_is_killed_is_made_anew_with_every_row_once(account, manager):
    calls = make_calls(account, 10 * CHUNK)  # so many that the worker is not done before it is killed
    export = jobs.ask(manager, "calls.conversation", "", "csv", "Asia/Kolkata")
    database = connection.settings_dict["NAME"]
    url = f"sqlite:///{database}"
    if connection.vendor == "postgresql":
        url = f"{os.environ['DATABASE_URL'].rpartition('/')[0]}/{database}"
    script = "import django; django.setup(); from calls.exports import jobs; jobs.work_off()"
    worker = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env=os.environ | {"DATABASE_URL": url})
    half_written = directory() / f"{export.pk}-1" / "rows.csv"
    assert until(lambda: half_written.exists() and half_written.stat().st_size, pause=0.001)
    worker.kill()
    worker.wait()
    export.refresh_from_db()
    assert (export.state, export.attempts) == ("running", 1)
    assert not jobs.work_off(), "its lease has not ended"

    with time_machine.travel(timezone.now() + jobs.LEASE + timedelta(seconds=1), tick=False):
        assert jobs.work_off()
        jobs.remove_old()
    export.refresh_from_db()
    assert (export.state, export.attempts, export.rows_done) == ("done", 2, len(calls))
    found = csv_rows(jobs.file_of(export).read_bytes())
    assert sorted(row["Id"] for row in found) == sorted(str(call.pk) for call in calls)
    assert list(directory().iterdir()) == [jobs.folder_of(export)], "what the killed worker left is removed"


# --- One moment ------------------------------------------------------------------------------------------------------


def test_calls_that_come_in_while_rows_are_written_are_not_in_the_file(account, manager):
    make_calls(account, CHUNK + 1)
    model_admin = lists.admin_of("calls.conversation")
    file = io.BytesIO()
    with snapshot():
        rows = lists.list_of(manager, model_admin, "").queryset
        counted = rows.count()
        progress = lists.write_rows(file, manager, model_admin, rows, "csv", KOLKATA, directory())
        assert [next(progress), next(progress)] == [0, CHUNK]

        def add() -> None:
            make_calls(account, 3, started_at=START - timedelta(days=1))
            connection.close()

        writer = Thread(target=add)
        writer.start()
        writer.join()
        assert list(progress) == [CHUNK + 1] == [counted]
        assert rows.count() == counted
    assert Conversation.objects.count() == counted + 3


def test_a_reader_gets_what_is_written_while_the_rest_is_being_made():
    may_go_on, was_stopped = Event(), Event()

    def produce(file):
        try:
            file.write(b"first")
            yield
            may_go_on.wait(60)
            file.write(b"second")
            yield
        finally:
            was_stopped.set()

    pieces = read_along(produce)
    assert next(pieces) == b"first"
    may_go_on.set()
    assert b"".join(pieces) == b"second"

    may_go_on.clear()
    was_stopped.clear()
    pieces = read_along(produce)
    assert next(pieces) == b"first"
    pieces.close()
    may_go_on.set()
    assert was_stopped.wait(60), "a reader who goes away ends the work"


def test_an_error_in_the_middle_breaks_the_download_off():
    def produce(file):
        file.write(b"first")
        yield
        raise ValueError("no more")

    pieces = read_along(produce)
    assert next(pieces) == b"first"
    with pytest.raises(ValueError, match="no more"):
        next(pieces)


# --- The page --------------------------------------------------------------------------------------------------------


def test_the_page_costs_the_same_for_2_exports_and_for_22(client: Client, manager):
    def queries(count: int) -> int:
        for _ in range(count):
            Export.objects.create(user=manager, table="calls.conversation", format="csv", zone="Asia/Kolkata")
        client.get(PAGE)
        with CaptureQueriesContext(connection) as captured:
            assert client.get(PAGE).text.count("<article") == Export.objects.count()
        return len(captured)

    assert queries(2) == queries(20)


def test_the_page_says_what_to_do_when_there_is_none(client: Client):
    assert "No exports yet" in client.get(PAGE).text
