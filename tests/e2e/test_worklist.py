"""The worklist in a real browser: a caller is missed, somebody takes it, a call back closes it."""

import json
import time
from collections.abc import Iterator

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.serving import Running, serve

pytestmark = pytest.mark.browser

WORKLIST = "/admin/calls/missedcaller/"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serve(tmp_path_factory.mktemp("data")) as server:
        server.manage("add_account", "delhi-support", "--provider", "piopiy", "--token", "try-it-with-this-token")
        yield server


def post(running: Running, name: str, status: str, direction: str, start: int, **numbers: int) -> None:
    """Send the provider's final report on a call that began at ``start``, and have it read."""
    payload = {
        "type": "cdr", "direction": direction, "leg": "a", "status": status, "appid": 2222222,
        "conversation_uuid": name, "cmiuuid": name, "duration": 8,
        "start_time": start, "end_time": start + 20, "time": start * 1000,
    } | ({"answer_time": start + 12} if status == "answered" else {}) | numbers  # fmt: skip
    url = f"{running.url}/webhooks/piopiy/try-it-with-this-token/"
    assert httpx.post(url, json=payload).status_code == 200
    running.manage("drain")


def no_serious_findings(page: Page) -> None:
    found = Axe().run(page).response["violations"]
    serious = [rule for rule in found if rule["impact"] in {"serious", "critical"}]
    assert not serious, json.dumps(serious, indent=1)[:3000]


def test_staff_takes_a_missed_caller_and_the_call_back_closes_the_entry(running: Running, staff: Page):
    caller, did, start = 919000000061, 918000000000, int(time.time()) - 600
    staff.goto(f"{running.url}{WORKLIST}")
    expect(staff.locator("#rl-worklist")).to_contain_text("Nobody waits for a call back")
    post(running, "missed", "missed", "inbound", start, **{"from": caller, "to": did})

    staff.goto(f"{running.url}{WORKLIST}")
    row = staff.get_by_role("row").filter(has_text="+91 90000 00061")
    expect(row).to_contain_text("Waits for")
    no_serious_findings(staff)
    row.get_by_role("button", name="Take").click()
    expect(staff.get_by_text("It is yours now.")).to_be_visible()
    expect(row.get_by_role("button", name="Give back")).to_be_visible()

    row.get_by_role("link").click()
    expect(staff.get_by_role("link", name="Call", exact=True)).to_have_attribute("href", f"tel:+{caller}")
    staff.get_by_label("What have you found out or done?").fill("Rings at noon")
    staff.get_by_role("button", name="Comment").click()
    expect(staff.get_by_text("Rings at noon")).to_be_visible()
    no_serious_findings(staff)
    staff.get_by_role("button", name="1 hour").click()
    expect(staff.get_by_text("Put off for")).to_be_visible()
    staff.get_by_role("button", name="Put it on the list again").click()

    post(running, "back", "answered", "outbound", start + 120, **{"from": did, "to": caller, "callerid": did})
    staff.reload()
    expect(staff.locator(".rl-head-word")).to_contain_text("Called back")
    expect(staff.get_by_role("row").filter(has_text="Outbound")).to_contain_text("Called back")
    staff.goto(f"{running.url}{WORKLIST}")
    expect(staff.locator("#rl-worklist")).to_contain_text("Nobody waits for a call back")
    staff.get_by_role("link", name="How quickly callers are called back").click()
    expect(staff.get_by_role("row").filter(has_text="delhi-support")).to_contain_text("100 %")
    no_serious_findings(staff)


def test_the_arrow_keys_lead_from_entry_to_entry(running: Running, staff: Page):
    start = int(time.time()) - 600
    for number in (71, 72):
        numbers = {"from": 919000000000 + number, "to": 918000000000}
        post(running, f"missed-{number}", "missed", "inbound", start + number, **numbers)
    staff.goto(f"{running.url}{WORKLIST}")
    links = staff.locator(".rl-worklist-open")
    links.first.focus()
    staff.keyboard.press("ArrowDown")
    expect(links.nth(1)).to_be_focused()
    staff.keyboard.press("ArrowUp")
    expect(links.first).to_be_focused()
