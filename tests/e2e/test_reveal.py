"""A masked viewer reveals a number, and sets up the code that is asked for after the password, as a browser does it."""

import re
import time
from base64 import b32decode
from collections.abc import Iterator

import pytest
from django_otp.oath import TOTP
from playwright.sync_api import Page, expect

from tests.serving import Running, log_in, serve

pytestmark = pytest.mark.browser

AUDITOR = """
from django.contrib.auth.models import Group, User
asha = User.objects.create_user("asha", password="a long password", is_staff=True)
asha.groups.add(Group.objects.get(name="auditor"))
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serve(tmp_path_factory.mktemp("data")) as server:
        server.manage("add_account", "delhi-support", "--provider", "piopiy")
        server.manage("simulate", "--calls", "5", "--rate", "200", "--seed", "5", "--speed", "1000")
        server.manage("drain")
        server.manage("shell", "-c", AUDITOR)
        yield server


def code_for(secret: str) -> str:
    totp = TOTP(b32decode(secret.replace(" ", "")))
    totp.time = time.time()
    return f"{totp.token():06}"


def test_a_number_is_revealed_by_keyboard_and_the_reveal_is_in_the_log(page: Page, running: Running):
    log_in(page, running.url, "asha", "a long password")
    page.goto(f"{running.url}/admin/calls/conversation/?count=1")
    page.locator("#result_list tbody a[href*='/conversation/']").first.click()
    number = page.locator("h2 .rl-party .rl-number")
    expect(number).to_contain_text("••")
    page.locator("h2").get_by_role("button", name="Reveal").focus()
    page.keyboard.press("Enter")
    expect(number).to_have_text(re.compile(r"^\+[\d -]{9,}$"))
    expect(page.locator("h2").get_by_role("button", name="Reveal")).to_have_count(0)
    page.goto(f"{running.url}/admin/calls/auditentry/")
    row = page.locator("#result_list tbody tr").first
    expect(row).to_contain_text("Revealed a number")
    expect(row).to_contain_text("asha")


def test_an_app_is_set_up_and_its_code_is_asked_for(page: Page, running: Running):
    log_in(page, running.url, "asha", "a long password")
    page.goto(f"{running.url}/admin/code/set-up/")
    expect(page.get_by_role("img", name=re.compile("QR code"))).to_be_visible()
    page.get_by_label("Code").fill(code_for(page.locator(".rl-secret").inner_text()))
    page.get_by_role("button", name="Use this app from now on").click()
    codes = page.locator(".rl-codes code")
    expect(codes).to_have_count(8)
    backup = codes.first.inner_text()
    page.get_by_role("link", name="I have kept them").click()
    page.wait_for_url(f"{running.url}/admin/")
    page.context.clear_cookies()
    log_in(page, running.url, "asha", "a long password")
    page.get_by_label("Code").fill("000000")
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_text("That code is not right")).to_be_visible()
    page.get_by_label("Code").fill(backup)
    page.get_by_role("button", name="Go on").click()
    page.wait_for_url(f"{running.url}/admin/")
