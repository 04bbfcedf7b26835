"""The page of a call and that of its number, in a real browser: what staff write there and how they move about."""

import re
import time
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.serving import Running, serve

pytestmark = pytest.mark.browser

NOW = int(time.time())
"""A report and a live event of one call must agree about the time, and a live event happens when it arrives."""
REPORT = {
    "type": "cdr", "direction": "inbound", "leg": "a", "status": "missed", "appid": 2222222, "to": 918000000000,
    "time": NOW * 1000, "start_time": NOW - 18, "end_time": NOW,
}  # fmt: skip


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with two missed calls of one number, one of another, and one that was answered after nine seconds."""
    with serve(tmp_path_factory.mktemp("data")) as server:
        server.manage(
            "add_account", "delhi-support", "--provider", "piopiy", "--app-id", "2222222",
            "--token", "try-it-with-this-token",
        )  # fmt: skip
        url = f"{server.url}/webhooks/piopiy/try-it-with-this-token/"
        for number, caller in enumerate((919000000077, 919000000077, 919000000078)):
            told = {"conversation_uuid": f"e2e-{number}", "cmiuuid": f"e2e-{number}", "from": caller}
            assert httpx.post(url, json=REPORT | told).status_code == 200
        taken = {"conversation_uuid": "e2e-3", "cmiuuid": "e2e-3", "from": 919000000079, "status": "answered"}
        hung_up = {"conversation_uuid": "e2e-0", "cmiuuid": "e2e-0", "from": 919000000077, "status": "hangup"}
        assert httpx.post(url, json=REPORT | taken | {"answer_time": NOW - 9}).status_code == 200
        assert httpx.post(url, json=REPORT | hung_up | {"type": "event"}).status_code == 200
        server.manage("drain")
        yield server


def test_staff_note_what_came_of_a_call_name_its_number_and_merge_another_into_it(running: Running, staff: Page):
    staff.goto(f"{running.url}/admin/calls/conversation/?q=00077")
    staff.get_by_role("row").filter(has_text="00077").get_by_role("link").first.click()
    staff.get_by_label("What came of it?").select_option("Call back")
    staff.get_by_label("In your words (optional)").fill("after five")
    staff.get_by_role("button", name="Set outcome").click()
    expect(staff.get_by_role("region", name="Outcome")).to_contain_text("Call back: after five")
    staff.get_by_label("New note").fill("Asked for the invoice")
    staff.get_by_role("button", name="Add note").click()
    notes = staff.get_by_role("region", name="Notes")
    expect(notes).to_contain_text("Asked for the invoice")
    notes.get_by_text("Edit", exact=True).click()
    notes.get_by_label("Your note").fill("Asked for the invoice of May")
    notes.get_by_role("button", name="Save note").click()
    expect(notes).to_contain_text("Asked for the invoice of May")

    staff.get_by_role("link", name="Everything about this number").click()
    expect(staff).to_have_url(re.compile(r"/admin/calls/number/\d+/$"))
    expect(staff.get_by_role("region", name="Its calls").get_by_role("row")).to_have_count(3)
    staff.get_by_label("Name", exact=True).fill("Akil Rao")
    staff.get_by_role("button", name="Save contact").click()
    expect(staff.get_by_role("heading", name="Akil Rao").last).to_be_visible()
    staff.get_by_label("Same person as").fill("090000 00078")
    staff.get_by_role("button", name="Merge").click()
    expect(staff.get_by_role("region", name="Its calls").get_by_role("row")).to_have_count(4)
    expect(staff.get_by_role("region", name="Numbers")).to_contain_text("+91 90000 00078")


def test_a_mark_of_the_timeline_is_reached_by_keyboard_and_leads_to_what_happened(running: Running, staff: Page):
    staff.goto(f"{running.url}/admin/calls/conversation/?q=e2e-0")
    staff.get_by_role("row").filter(has_text="00077").get_by_role("link").first.click()
    mark = staff.get_by_label(re.compile("^Hung up at"))
    mark.focus()
    staff.keyboard.press("Enter")
    expect(staff.locator(".rl-moment:target")).to_contain_text("Hung up")


def test_a_cursor_on_the_timeline_follows_the_recording_from_the_answer_on(running: Running, staff: Page):
    staff.goto(f"{running.url}/admin/calls/conversation/?q=e2e-3")
    staff.get_by_role("row").filter(has_text="00079").get_by_role("link").first.click()
    cursor = staff.locator("#rl-lanes .rl-cursor").first
    expect(cursor).to_have_attribute("visibility", "hidden")
    staff.wait_for_load_state()  # the lanes are there before the script that moves their cursor
    staff.evaluate("""() => {
        const player = document.createElement("audio");
        document.body.append(player);
        player.dispatchEvent(new Event("timeupdate"));
    }""")
    expect(cursor).to_have_attribute("visibility", "visible")
    expect(cursor).to_have_attribute("x1", re.compile("^(49|50)"))
