"""Subscriptions in a real browser: make one, try it, have it told of a call, look into what was sent, send it again."""

import json
import re
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from standardwebhooks.webhooks import Webhook

from tests.serving import Running, serve, until
from tests.sinks import WebSink, web_sink

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serve(tmp_path_factory.mktemp("data"), ALLOWED_PRIVATE_TARGETS="127.0.0.0/8") as server:
        server.manage("add_account", "delhi-support", "--provider", "piopiy")
        yield server


@pytest.fixture
def sink() -> Iterator[WebSink]:
    with web_sink() as receiver:
        yield receiver


def no_serious_findings(page: Page) -> None:
    found = Axe().run(page).response["violations"]
    serious = [rule for rule in found if rule["impact"] in {"serious", "critical"}]
    assert not serious, json.dumps(serious, indent=1)[:3000]


def test_staff_subscribes_a_program_tries_it_and_sends_again_what_it_lost(running: Running, staff: Page, sink: WebSink):
    staff.goto(f"{running.url}/admin/calls/subscription/")
    expect(staff.locator("body")).to_contain_text("A program is told here of what happens")
    staff.get_by_role("link", name="Add subscription").first.click()
    staff.get_by_label("Name").fill("crm")
    staff.get_by_label("Address").fill(sink.url)
    staff.get_by_label("Call started").check()
    staff.get_by_label("Call ended").check()
    no_serious_findings(staff)
    staff.get_by_role("button", name="Save and continue editing").click()
    shown = staff.get_by_text("shown only this once")
    expect(shown).to_be_visible()
    secret = re.search(r"whsec_[A-Za-z0-9+/=]+", shown.inner_text())[0]
    page_of_it = staff.url

    staff.get_by_role("button", name="Send test").click()
    expect(staff.locator("body")).to_contain_text("The test message was delivered: the receiver answered 200.")
    expect(staff.locator("article")).to_contain_text("webhook-signature")
    assert Webhook(secret).verify(sink.posts[0].body, dict(sink.posts[0].headers))["type"] == "test"
    no_serious_findings(staff)

    running.manage("simulate", "--calls", "2", "--rate", "50", "--seed", "5", "--speed", "1000")
    running.manage("drain")
    assert until(lambda: {"conversation.started", "conversation.ended"} <= types(sink))
    staff.goto(page_of_it)
    no_serious_findings(staff)
    staff.get_by_role("link", name="What was sent").click()
    expect(staff.get_by_role("row").filter(has_text="Call ended").first).to_contain_text("Delivered")
    no_serious_findings(staff)
    staff.get_by_role("row").filter(has_text="Call ended").first.get_by_role("link").first.click()
    expect(staff.locator("article")).to_contain_text('"type": "conversation.ended"')
    sent = len(sink.posts)
    staff.get_by_role("button", name="Send again").click()
    expect(staff.locator("body")).to_contain_text("1 message will be sent again.")
    assert until(lambda: len(sink.posts) > sent)
    assert sink.posts[-1].headers["webhook-id"] in {post.headers["webhook-id"] for post in sink.posts[:sent]}
    assert sink.posts[-1].headers["webhook-id"] in staff.locator("article").inner_text()

    staff.goto(page_of_it)
    staff.get_by_role("button", name="Pause").click()
    expect(staff.locator("body")).to_contain_text("It is paused.")
    staff.get_by_role("button", name="Resume").click()
    expect(staff.locator("body")).to_contain_text("It goes on.")


def types(sink: WebSink) -> set[str]:
    return {json.loads(post.body)["type"] for post in sink.posts}
