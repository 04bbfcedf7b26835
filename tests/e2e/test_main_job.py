"""The main job in a real browser, against the real processes: from a provider's POST to a call on the screen."""

import json
import re
import subprocess

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.serving import ROOT, Running, serve, until

pytestmark = pytest.mark.browser

README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory):
    with serve(tmp_path_factory.mktemp("data")) as server:
        server.manage(
            "add_account", "delhi-support", "--provider", "piopiy", "--app-id", "2222222",
            "--token", "try-it-with-this-token",
        )  # fmt: skip
        server.manage(
            "add_account", "agra-sales", "--provider", "piopiy", "--app-id", "1111111",
            "--token", "another-token-of-agra",
        )  # fmt: skip
        yield server


@pytest.fixture(scope="module")
def readme_call(running: Running) -> None:
    """The call of the README, posted by the README's own command."""
    command = re.search(r"^curl -H 'Content-Type.*?'\n(?=```)", README, re.MULTILINE | re.DOTALL)
    assert command
    text = command[0].replace("http://127.0.0.1:8000", running.url)
    answer = subprocess.run(["sh", "-c", text], check=True, capture_output=True, text=True).stdout
    assert json.loads(answer)["status"] == "accepted"
    running.manage("drain")


@pytest.mark.usefixtures("readme_call")
def test_staff_finds_a_call_by_part_of_a_number_and_sees_its_timeline(running: Running, staff: Page):
    staff.goto(f"{running.url}/admin/calls/conversation/")
    search = staff.locator("input[name=q]:visible").first
    search.fill("00000 01")
    search.press("Enter")
    row = staff.get_by_role("row").filter(has_text="00001")
    expect(row).to_contain_text(re.compile("answered", re.IGNORECASE))
    row.get_by_role("link").first.click()
    whole_page = staff.locator("body")
    expect(whole_page).to_contain_text("+91 90000 00001")
    expect(whole_page).to_contain_text(re.compile(r"Timeline.*Started.*\+5 s.*Answered.*\+13 s.*Ended", re.DOTALL))
    expect(whole_page).to_contain_text("0.45 INR")
    expect(whole_page).to_contain_text("Akil")


@pytest.mark.usefixtures("readme_call")
def test_the_readme_call_is_in_the_api(running: Running):
    key = running.manage("create_api_key", "first-look").strip()
    url = f"{running.url}/api/v1/conversations/?account=delhi-support"
    (call,) = httpx.get(url, headers={"Authorization": f"Bearer {key}"}).json()["results"]
    assert (call["provider"], call["direction"], call["disposition"]) == ("piopiy", "inbound", "answered")
    assert (call["ring_seconds"], call["talk_seconds"], call["duration_seconds"]) == (5, 13, 18)
    assert (call["customer_number"], call["did"]) == ("+919000000001", "+918000000000")
    assert (call["cost"], call["cost_unit"]) == ("0.450000", "INR")
    assert call["extra_params"] == {"Name": "Akil", "ID": 8915726}


def test_staff_mends_the_account_and_processes_a_quarantined_delivery_again(running: Running, staff: Page):
    payload = {
        "type": "cdr", "direction": "inbound", "leg": "a", "status": "missed", "appid": 2222222,
        "from": 919000000077, "to": 918000000000, "conversation_uuid": "e2e-1", "cmiuuid": "e2e-1",
        "time": 1632318510000, "start_time": 1632318510, "end_time": 1632318528,
    }  # fmt: skip
    url = f"{running.url}/webhooks/piopiy/another-token-of-agra/"
    assert httpx.post(url, json=payload).status_code == 200
    running.manage("drain")

    inbox = f"{running.url}/admin/webhooks/delivery/?status__exact=quarantined"
    staff.goto(inbox)
    row = staff.get_by_role("row").filter(has_text="agra-sales")
    expect(row).to_contain_text("WrongAccount")

    staff.goto(f"{running.url}/admin/calls/account/")
    staff.get_by_role("link", name="agra-sales").click()
    staff.locator("input[name=app_id]").fill("2222222")
    staff.get_by_role("button", name="Save", exact=True).click()

    staff.goto(inbox)
    row.get_by_role("checkbox").check()
    staff.locator("select[name=action]:visible").select_option(label="Process again")
    staff.get_by_role("button", name=re.compile("^(run|go)", re.IGNORECASE)).click()

    def is_mended() -> bool:
        staff.goto(f"{running.url}/admin/webhooks/delivery/?status__exact=processed")
        return staff.get_by_role("row").filter(has_text="agra-sales").count() == 1

    assert until(is_mended)
    staff.goto(f"{running.url}/admin/calls/conversation/?q=00077")
    expect(staff.get_by_role("row").filter(has_text="00077")).to_contain_text(re.compile("missed", re.IGNORECASE))


def test_staff_changes_a_setting_and_has_an_accounts_calls_derived_again(running: Running, staff: Page):
    running.manage(
        "add_account", "pune-desk", "--provider", "piopiy", "--app-id", "1111111", "--token", "the-token-of-pune-desk",
    )  # fmt: skip
    payload = {
        "type": "cdr", "direction": "inbound", "leg": "a", "status": "missed", "appid": 2222222,
        "from": 919000000078, "to": 918000000000, "conversation_uuid": "e2e-2", "cmiuuid": "e2e-2",
        "time": 1632318510000, "start_time": 1632318510, "end_time": 1632318528,
    }  # fmt: skip
    url = f"{running.url}/webhooks/piopiy/the-token-of-pune-desk/"
    assert httpx.post(url, json=payload).status_code == 200
    running.manage("drain")

    staff.goto(f"{running.url}/admin/calls/account/")
    staff.get_by_role("link", name="pune-desk").click()
    staff.locator("input[name=app_id]").fill("2222222")
    staff.get_by_role("button", name="Save and continue editing").click()
    staff.get_by_role("link", name="Derive its calls again").click()
    staff.get_by_role("button", name="Start dry run").click()
    staff.evaluate("window.isTheSamePage = true")
    shown = staff.locator("#rl-rebuild")
    expect(shown.get_by_role("button", name="Apply")).to_be_visible()
    assert staff.evaluate("window.isTheSamePage"), "the page kept itself up to date without a reload"
    expect(shown).to_contain_text("Calls that would change1")
    expect(shown).to_contain_text("New call")
    expect(shown).to_contain_text(re.compile(r"Quarantined\s*→\s*Processed"))

    staff.on("dialog", lambda dialog: dialog.accept())
    shown.get_by_role("button", name="Apply").click()
    expect(shown.get_by_role("button", name="Undo")).to_be_visible()
    shown.get_by_role("link", name="+91 90000 00078").click()
    expect(staff.locator("body")).to_contain_text(re.compile("missed", re.IGNORECASE))
