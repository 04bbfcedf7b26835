"""The live board in a real browser: a call appears while its events are posted, changes, and leaves."""

import os
import signal
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from tests.serving import Running, log_in, processes_of, serve, until

pytestmark = pytest.mark.browser

TOKEN = "the-token-of-the-live-board"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serve(tmp_path_factory.mktemp("data")) as server:
        server.manage("add_account", "mumbai-sales", "--provider", "telecmi", "--app-id", "2222223", "--token", TOKEN)
        yield server


@pytest.fixture
def board(running: Running, page: Page) -> Page:
    """A browser with the live board open."""
    log_in(page, running.url, "admin", running.password)
    page.goto(f"{running.url}/admin/live/")
    expect(page.locator("#rl-live-link")).to_have_text("Connected")
    return page


def teller(running: Running, call: str, number: str) -> Callable[..., None]:
    """Return a function that posts a live event of an inbound call."""

    def tell(status: str, leg: str = "a") -> None:
        payload = {
            "type": "event", "direction": "inbound", "status": status, "app_id": 2222223,
            "conversation_uuid": call, "cmiuuid": call, "time": round(time.time() * 1000),
            "from": number, "to": "918000000000",
        }  # fmt: skip
        if leg == "b":
            payload |= {"leg": "b", "direction": "outbound", "cmiuuid": f"{call}-b", "user": "204_2222223"}
            del payload["to"]
        assert httpx.post(f"{running.url}/webhooks/telecmi/{TOKEN}/", json=payload).status_code == 200

    return tell


def call_of(board: Page, ending: str) -> Locator:
    return board.locator(".rl-live-call").filter(has_text=ending)


def test_a_call_appears_while_it_is_posted_and_changes_and_leaves(running: Running, board: Page):
    complaints: list[str] = []
    board.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    board.on("pageerror", lambda error: complaints.append(str(error)))
    expect(board.locator("#rl-live-none")).to_be_visible()
    tell = teller(running, "live-1", "919000000021")

    tell("waiting")
    call = call_of(board, "+91 90000 00021")
    expect(call.locator("[data-part=phase]")).to_have_text("Waiting")
    expect(call).to_contain_text("mumbai-sales")
    tell("started", "b")
    tell("answered", "b")
    expect(call.locator("[data-part=phase]")).to_have_text("Talking")
    expect(call.locator("[data-part=agents]")).to_contain_text("204")
    clock = call.locator("[data-part=since]")
    shown = clock.inner_text()
    expect(clock).not_to_have_text(shown)
    agent = board.locator(".rl-live-agent-row").filter(has_text="204")
    expect(agent).to_contain_text("Talking")
    expect(board.locator("[data-count=talking]")).to_have_text("1")
    expect(board.locator("#rl-live-said")).to_contain_text("is now talking")
    serious = [
        violation
        for violation in Axe().run(board).response["violations"]
        if violation["impact"] in {"serious", "critical"}
    ]
    assert serious == []

    tell("hangup", "b")
    tell("hangup")
    expect(call).to_have_count(0)
    expect(agent).to_contain_text("Free")
    expect(board.locator("#rl-live-none")).to_be_visible()
    assert complaints == []


def test_the_board_goes_on_by_itself_when_the_server_was_restarted(running: Running, board: Page):
    tell = teller(running, "live-2", "919000000022")
    tell("waiting")
    expect(call_of(board, "00022")).to_have_count(1)
    board.evaluate("window.isTheSamePage = true")

    web_server = next(pid for pid, line in processes_of(running.data_directory).items() if "uvicorn" in line)
    os.kill(web_server, signal.SIGTERM)
    expect(board.locator("#rl-live-link")).to_have_text("Reconnecting …")
    running.wait_for("The web server has died")
    assert "timeout" not in running.output, "it did not have to wait for the stream to end"
    assert until(lambda: _answers(running))
    teller(running, "live-3", "919000000023")("waiting")
    expect(board.locator("#rl-live-link")).to_have_text("Connected")
    expect(call_of(board, "00022")).to_have_count(1)
    expect(call_of(board, "00023")).to_have_count(1)
    assert board.evaluate("window.isTheSamePage"), "it needed no reload"


def test_a_browser_that_can_have_no_stream_polls_and_says_so(running: Running, board: Page):
    board.context.route("**/admin/live/stream/**", lambda route: route.abort())
    board.reload()
    expect(board.locator("#rl-live-link")).to_have_text("Polling every 3 seconds")
    teller(running, "live-4", "919000000024")("waiting")
    expect(call_of(board, "00024")).to_have_count(1)
    board.context.clear_cookies()
    expect(board.locator("#rl-live-trouble")).to_contain_text("signed out")


def _answers(running: Running) -> bool:
    try:
        return httpx.get(f"{running.url}/healthz").status_code == 200
    except httpx.HTTPError:
        return False
