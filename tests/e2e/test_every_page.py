"""Every page of the admin, on a phone and on a desk, light and dark: nothing cut off, nothing axe-core calls serious.

The screenshots are kept in artefacts/screenshots.
"""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.serving import ROOT, Running, log_in, serve

pytestmark = pytest.mark.browser

SCREENSHOTS = ROOT / "artefacts" / "screenshots"
WIDTHS = {"phone": 360, "desk": 1366}
CHECKED = {("light", "desk"), ("dark", "phone")}
"""Where axe-core looks: at each theme and each width once, which is what its findings depend on."""
SERIOUS = {"serious", "critical"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with calls of all providers, a rule that has opened alerts, and something on every list."""
    with serve(tmp_path_factory.mktemp("data")) as server:
        for provider in ("piopiy", "telecmi", "callerdesk"):
            server.manage("add_account", f"{provider}-desk", "--provider", provider)
        server.manage("simulate", "--calls", "60", "--rate", "200", "--seed", "5", "--speed", "1000")
        server.manage("drain")
        yield server


@pytest.fixture(scope="module")
def cookies(running: Running, browser: Browser) -> list:
    """The cookies of a signed-in administrator."""
    with browser.new_context() as context:
        page = context.new_page()
        log_in(page, running.url, "admin", running.password)
        return context.cookies()


def addresses(page: Page, url: str) -> list[str]:
    """Return the address of each page in the sidebar, of the first row of each list, and of each form to add a row."""
    page.goto(f"{url}/admin/")
    found = page.locator("a[href^='/admin/']").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    lists = sorted({link for link in found if re.fullmatch(r"/admin/[a-z/-]*(\?[a-z_]+=[a-z0-9]+)?", link)})
    pages = list(lists)
    for address in lists:
        page.goto(url + address)
        first_row = page.locator("#result_list tbody tr th a, #result_list tbody tr td a").first
        if first_row.count():
            pages.append(str(first_row.get_attribute("href")))
        add = page.locator("a[href$='/add/']")
        if add.count():
            pages.append(str(add.first.get_attribute("href")).partition("?")[0])
    unwanted = ("logout", "jsi18n")
    return [link for link in dict.fromkeys(pages) if not any(word in link for word in unwanted)]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_holds_on_every_screen(running: Running, browser: Browser, cookies: list, theme: str):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    complaints = []
    with browser.new_context(color_scheme=theme, reduced_motion="reduce") as context:
        context.add_cookies(cookies)
        page = context.new_page()
        pages = addresses(page, running.url)
        assert len(pages) > 30
        for address in pages:
            for screen, width in WIDTHS.items():
                page.set_viewport_size({"width": width, "height": 900})
                page.goto(running.url + address)
                # Asked of the browser: now and then Playwright has no answer to give of a page that it has opened.
                status = page.evaluate("performance.getEntriesByType('navigation')[0].responseStatus")
                if status != 200:
                    complaints.append(f"{address}: {status}")
                    break
                name = re.sub(
                    r"[^a-z0-9]+", "-", re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+", "one", urlsplit(address).path)
                )
                query = re.sub(r"[^a-z0-9]+", "-", urlsplit(address).query)
                page.screenshot(path=SCREENSHOTS / f"{name.strip('-')}{query}-{screen}-{theme}.png", full_page=True)
                overflow = page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth")
                if overflow > 0:
                    complaints.append(f"{address} {screen}: {overflow} px cut off")
                if (theme, screen) not in CHECKED:
                    continue
                for violation in Axe().run(page).response["violations"]:
                    if violation["impact"] in SERIOUS:
                        targets = [node["target"] for node in violation["nodes"][:3]]
                        complaints.append(f"{address} {screen} {theme}: {violation['id']} at {targets}")
    assert not complaints, "\n".join(complaints)
