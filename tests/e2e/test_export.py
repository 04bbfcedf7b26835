"""Exports in a real browser: narrow a list down, have it made, see it come on, download it, open it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import openpyxl
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.serving import Running, serve

pytestmark = pytest.mark.browser

MAKE = """
from datetime import timedelta
from django.utils import timezone
from calls.models import Account, Conversation
account = Account.objects.get(slug="delhi-support")
now = timezone.now()
Conversation.objects.bulk_create((
    Conversation(
        account=account, direction="inbound", state="ended", disposition="missed" if i % 100 == 0 else "answered",
        customer_number=f"+9190000000{i % 100:02}", did="+918000000000", started_at=now - timedelta(minutes=i),
        last_heard_at=now,
    ) for i in range(30_000)), batch_size=2000)
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serve(tmp_path_factory.mktemp("data")) as server:
        server.manage("add_account", "delhi-support", "--provider", "piopiy")
        server.manage("shell", "-c", MAKE)
        yield server


def ask(page: Page, form: str) -> None:
    page.locator("summary", has_text="Export").click()
    page.get_by_role("button", name=form, exact=True).click()


def no_serious_findings(page: Page) -> None:
    found = Axe().run(page).response["violations"]
    serious = [rule for rule in found if rule["impact"] in {"serious", "critical"}]
    assert not serious, json.dumps(serious, indent=1)[:3000]


def test_staff_exports_the_missed_calls_as_a_spreadsheet(running: Running, staff: Page, tmp_path: Path):
    staff.goto(f"{running.url}/admin/calls/conversation/?disposition__exact=missed")
    ask(staff, "XLSX")
    staff.wait_for_url(re.compile("/admin/calls/export/"))
    staff.evaluate("window.isTheSamePage = true")
    export = staff.locator("article").first
    expect(export).to_contain_text("disposition: Missed")
    link = export.get_by_role("link", name="Download")
    expect(link).to_be_visible()
    assert staff.evaluate("window.isTheSamePage"), "the page kept itself up to date without a reload"
    expect(export).to_contain_text("300 rows")
    no_serious_findings(staff)
    with staff.expect_download() as started:
        link.click()
    started.value.save_as(tmp_path / "calls.xlsx")
    sheet = openpyxl.load_workbook(tmp_path / "calls.xlsx", read_only=True).worksheets[0]
    header, *found = sheet.iter_rows(values_only=True)
    assert len(found) == 300
    assert {row[header.index("Disposition")] for row in found} == {"missed"}


def test_a_long_export_shows_its_progress_and_can_be_cancelled(running: Running, staff: Page):
    staff.goto(f"{running.url}/admin/calls/conversation/")
    ask(staff, "XLSX")
    staff.wait_for_url(re.compile("/admin/calls/export/"))
    export = staff.locator("article").first
    expect(export.get_by_text(re.compile(r"[1-9][\d,]* of 30,000 rows"))).to_be_visible()
    no_serious_findings(staff)
    export.get_by_role("button", name="Cancel").click()
    expect(staff.locator("article").first).to_contain_text("Cancelled")


def test_a_short_list_comes_at_once(running: Running, staff: Page, tmp_path: Path):
    staff.goto(f"{running.url}/admin/calls/conversation/?disposition__exact=missed")
    with staff.expect_download() as started:
        ask(staff, "CSV")
    started.value.save_as(tmp_path / "calls.csv")
    assert (tmp_path / "calls.csv").read_bytes().count(b"\r\n") == 301
    staff.locator("summary", has_text="Export").click()
    no_serious_findings(staff)
    staff.keyboard.press("Escape")
    expect(staff.get_by_role("button", name="NDJSON")).to_be_hidden()
