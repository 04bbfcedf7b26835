"""The list of conversations in a real browser: narrow it down, save that as a view, page, tag all that match."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.serving import serve

pytestmark = pytest.mark.browser

CALLS = """
from datetime import timedelta
from django.utils import timezone
from calls.models import Account, Conversation, Tag
account = Account.objects.get(slug="delhi-support")
Tag.objects.create(name="Call back")
now = timezone.now()
for number in range(130):
    Conversation.objects.create(
        account=account, direction="inbound", state="ended", disposition="missed" if number % 2 else "answered",
        reason="customer_cdr", customer_number=f"+91900000{number:04}", did="+918000000000",
        started_at=now - timedelta(minutes=number), last_heard_at=now,
    )
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory):
    with serve(tmp_path_factory.mktemp("data")) as server:
        server.manage("add_account", "delhi-support", "--provider", "piopiy", "--app-id", "2222222")
        server.manage("shell", "-c", CALLS)
        yield server


def test_staff_saves_a_view_pages_through_it_and_tags_all_that_match(running, staff: Page):
    staff.goto(f"{running.url}/admin/calls/conversation/?disposition__exact=missed")

    views = staff.get_by_role("navigation", name="Views")
    expect(staff.get_by_role("list", name="Narrowed down by")).to_contain_text("disposition Missed")
    staff.locator("summary", has_text="Columns").click()
    staff.get_by_role("checkbox", name="cost").uncheck()
    staff.get_by_role("button", name="Move talk up").click()
    staff.get_by_role("button", name="Show these").click()
    expect(staff.locator("#result_list thead")).not_to_contain_text("Cost")
    staff.locator("summary", has_text="Save view").click()
    staff.get_by_label("Name of the view").fill("Missed calls")
    staff.get_by_role("button", name="Save", exact=True).click()
    expect(views.locator("[aria-current=page]")).to_have_text("Missed calls")
    problems = Axe().run(staff, context="#content-main").response["violations"]
    assert [problem["id"] for problem in problems if problem["impact"] in {"serious", "critical"}] == []

    views.get_by_role("link", name="All calls").click()
    expect(views.locator("[aria-current=page]")).to_have_text("All calls")
    views.get_by_role("link", name="Missed calls").click()
    expect(staff.locator("#result_list tbody").first).to_contain_text("+91 90000 00001")
    staff.get_by_role("link", name="Next").click()
    expect(staff.locator("#result_list tbody").first).to_contain_text("+91 90000 00101")
    staff.go_back()
    expect(staff.locator("#result_list tbody").first).to_contain_text("+91 90000 00001")

    staff.get_by_role("checkbox", name="Select all").check()
    staff.get_by_role("link", name="Select all that match (65)").click()
    staff.get_by_label("Select action to run").select_option("add_tag")
    staff.get_by_label("Tag", exact=True).select_option("Call back")
    staff.get_by_role("button", name="Run").click()
    expect(staff.get_by_text("“Call back” is now on 65 calls.")).to_be_visible()
