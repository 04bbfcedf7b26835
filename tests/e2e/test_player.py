"""A recording in a real browser, through the real server: it plays, it is sought in, and it says why it does not."""

import re
from collections.abc import Iterator

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Response, Route, expect

from tests.audio import Reply, Store, audio_store
from tests.serving import Running, free_port, log_in, start, until

pytestmark = pytest.mark.browser

TOKEN = "token-of-the-care-account"


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with audio_store(seconds=60) as store:
        yield store


@pytest.fixture(scope="module")
def running(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The whole thing, which may fetch from this machine, with one call whose recording is in the store."""
    data, port = tmp_path_factory.mktemp("data"), free_port()
    running = Running(start(data, port, ALLOWED_PRIVATE_TARGETS="127.0.0.1/32"), data, port)
    try:
        running.wait_for("Ctrl-C")
        running.manage("add_account", "pune-care", "--provider", "callerdesk", "--token", TOKEN)
        report = {
            "type": "call_report", "SourceNumber": "09000000001", "DestinationNumber": "08000000000",
            "DialWhomNumber": "09000000002", "Status": "ANSWER", "StartTime": "2026-11-02 12:43:19",
            "EndTime": "2026-11-02 12:44:24", "CallDuration": "65", "TalkDuration": "60", "CallSid": "8397472",
            "CallRecordingUrl": f"{store.url}/kept/1.wav", "Direction": "IVR", "Uniqueid": "8397472",
        }  # fmt: skip
        assert httpx.post(f"{running.url}/webhooks/callerdesk/{TOKEN}/", json=report).status_code == 200
        running.manage("drain")
        yield running
    finally:
        if running.process.poll() is None:
            running.stop()


@pytest.fixture
def call_page(running: Running, page: Page) -> Page:
    """The page of the call, for the administrator."""
    log_in(page, running.url, "admin", running.password)
    page.goto(f"{running.url}/admin/calls/conversation/")
    page.locator("#result_list a[href*='/change/']").first.click()
    expect(page.locator("audio")).to_be_attached()
    return page


def test_staff_plays_a_recording_and_seeks_in_it(running: Running, store: Store, call_page: Page):
    answers: list[Response] = []
    call_page.on("response", lambda answer: answers.append(answer) if "/recording/" in answer.url else None)
    audio = call_page.locator("audio")
    audio.evaluate("audio => { audio.muted = true; return audio.play(); }")
    expect(call_page.locator("[data-total]")).to_have_text("1:00")
    call_page.wait_for_function("document.querySelector('audio').currentTime > 0.2")

    call_page.get_by_role("button", name="On 10 seconds").click()
    call_page.wait_for_function("document.querySelector('audio').currentTime > 10")
    call_page.get_by_role("button", name="On 10 seconds").press("ArrowRight")
    call_page.wait_for_function("document.querySelector('audio').currentTime > 15")
    call_page.get_by_label("Speed").select_option("2")
    assert audio.evaluate("audio => audio.playbackRate") == 2
    call_page.wait_for_function("document.querySelector('audio').currentTime > 16")
    expect(call_page.locator("[data-elapsed]")).to_have_text(re.compile("0:(1[5-9]|[2-5].)"))
    assert {answer.status for answer in answers} == {206}
    assert all(answer.url.startswith(running.url) for answer in answers)
    assert "kept" not in call_page.content()

    call_page.goto(running.url + call_page.locator("a[href*='/webhooks/delivery/0']").first.get_attribute("href"))
    expect(call_page.locator("pre").first).to_contain_text("CallRecordingUrl")
    assert "kept" not in call_page.content()

    call_page.go_back()
    expect(call_page.get_by_role("heading", name="Played by").locator("+ ul")).to_have_text(re.compile(r"^\s*admin"))
    found = Axe().run(call_page, context=".rl-player")
    assert found.response["violations"] == [], found.generate_report()
    call_page.goto(f"{running.url}/admin/calls/recording/")
    expect(call_page.get_by_role("row").filter(has_text="pune-care")).to_contain_text("Ready")


def test_the_player_says_why_it_does_not_play(store: Store, call_page: Page):
    store.reply = lambda ask: Reply(410)
    call_page.locator("audio").evaluate("audio => { audio.play().catch(() => {}); }")
    expect(call_page.get_by_text("The provider does not have it any more (410).")).to_be_visible()
    call_page.reload()
    expect(call_page.locator(".rl-player")).to_contain_text("Expired")
    store.reply = lambda ask: None
    with call_page.expect_download() as download:
        call_page.get_by_role("link", name="Download", exact=True).click()
    assert re.fullmatch(r"recording-2026-11-02-\d{6}\.wav", download.value.suggested_filename)
    assert until(lambda: download.value.path().read_bytes() == store.file)


def test_the_player_says_why_when_its_script_comes_after_the_refusal(store: Store, call_page: Page):
    store.reply = lambda ask: Reply(410)
    held: list[Route] = []
    call_page.route("**/player.js*", lambda route: held.append(route))
    call_page.reload(wait_until="commit")
    call_page.locator("audio").evaluate("audio => { audio.play().catch(() => {}); }")
    call_page.wait_for_function("document.querySelector('audio').error")
    held[0].continue_()
    expect(call_page.get_by_text("The provider does not have it any more (410).")).to_be_visible()
