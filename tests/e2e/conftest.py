from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tests.serving import Running, log_in


@pytest.fixture
def staff(running: Running, page: Page) -> Iterator[Page]:
    """A page on which staff has signed in. What the browser complains of, such as a blocked script, fails the test.

    Each module says itself what is ``running``.
    """
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    log_in(page, running.url, "admin", running.password)
    yield page
    assert complaints == []
