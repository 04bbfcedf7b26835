"""How the tests run: settings from a clean environment, a private database server when one is asked for."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack

import hypothesis
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.servers import postgresql_server, redis_server

# What a developer's shell may hold and the tests must not see.
ENVIRONMENT = [
    "ALLOWED_HOSTS", "ALLOWED_PRIVATE_TARGETS", "API_RATE_PER_MINUTE", "CSRF_TRUSTED_ORIGINS", "DATABASE_URL",
    "DATA_DIR", "DEBUG", "DEFAULT_FROM_EMAIL", "EMAIL_URL", "METRICS", "PORT", "PUBLIC_URL", "REDIS_URL",
    "REQUIRE_TOTP", "SECRET_KEY", "TIME_ZONE_DISPLAY", "TRUSTED_PROXIES",
]  # fmt: skip

CHROMIUM = next(
    filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"])), None
)
PROGRAMS = {"browser": (CHROMIUM, "Chromium", "chromium"), "node": (shutil.which("node"), "Node", "nodejs")}
"""What tests with these markers need: the program, where it is; its name; its package."""

# The same cases every time, so that a red run is a change of ours; the nightly profile looks for new ones.
hypothesis.settings.register_profile("default", max_examples=200, deadline=None, derandomize=True)
hypothesis.settings.register_profile("nightly", max_examples=2000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# A page is there in an instant on a machine that is not busy; how fast is measured elsewhere.
expect.set_options(timeout=30_000)

_resources = ExitStack()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database", choices=["sqlite", "postgresql"], default="sqlite", help="which database the tests use"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment before Django's settings are read: hence no DJANGO_SETTINGS_MODULE in pyproject.toml."""
    for program, name, package in PROGRAMS.values():
        if os.environ.get("REQUIRE_CHROMIUM") and not program:
            raise pytest.UsageError(f"REQUIRE_CHROMIUM is set and there is no {name}: apt-get install {package}")
    # A shell has what it runs in the background ignore Ctrl-C, and so would all that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    is_worker = hasattr(config, "workerinput")
    database_url = os.environ.get("DATABASE_URL", "") if is_worker else ""
    for name in ENVIRONMENT:
        os.environ.pop(name, None)
    if config.getoption("database") == "postgresql":
        # With xdist the controller starts the server; its workers inherit the address.
        os.environ["DATABASE_URL"] = database_url or _resources.enter_context(postgresql_server()).url
    os.environ["DATA_DIR"] = tempfile.mkdtemp(prefix="ringledger-tests-")
    os.environ["SECRET_KEY"] = "only-for-tests-" * 5
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    _resources.callback(shutil.rmtree, os.environ["DATA_DIR"], ignore_errors=True)

    import django
    from django.conf import settings

    # Half a second for each password is for attackers.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    if config.getoption("database") == "sqlite":
        # A file, as in use: in the database in memory, threads do not wait for each other's locks but fail.
        database = settings.DATABASES["default"]
        database.setdefault("TEST", {})["NAME"] = os.path.join(os.environ["DATA_DIR"], "test.sqlite3")
        # No test pulls the plug, and thousands of syncs take minutes.
        database["OPTIONS"]["init_command"] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"
    django.setup()
    if not is_worker and config.getoption("numprocesses", None):
        # Or its workers would have read these settings, and with them this DATA_DIR, before they come to lines above.
        del os.environ["DJANGO_SETTINGS_MODULE"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of the browser and of Node where there is none; the summary says so."""
    missing = [marker for marker, (program, _, _) in PROGRAMS.items() if not program]
    left_out = [item for item in items if any(map(item.get_closest_marker, missing))]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for marker, (program, name, package) in PROGRAMS.items():
        if not program:
            terminalreporter.section(f"No {name}: the tests marked {marker} were left out", yellow=True)
            terminalreporter.line(f"To have them: apt-get install {package}")


def pytest_unconfigure() -> None:
    _resources.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """DATABASE_URL of a private PostgreSQL, whatever database the tests themselves run on."""
    with postgresql_server() as server:
        yield server.url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """REDIS_URL of a private Redis."""
    with redis_server() as server:
        yield server.url


@pytest.fixture(autouse=True)
def counts_of_its_own() -> None:
    """Each test starts with the API's limits unused: ids of keys come again from test to test."""
    from calls import rates

    rates.here.clear()


@pytest.fixture(autouse=True)
def urls_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts without the webhook URLs that the one before it knew: they are remembered for a moment."""
    from webhooks import inbox

    monkeypatch.setattr(inbox, "ways", type(inbox.ways)())


@pytest.fixture
def account(db):
    """An account at PIOPIY with everything as it comes."""
    from calls.models import Account

    return Account.objects.create(slug="delhi-support", provider="piopiy")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium. Not for the whole session, as pytest-playwright has it: its event loop would disturb other tests."""
    # Playwright's loop runs in this thread, where Django then takes every query for one from a coroutine.
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        # A sandbox cannot be had as root or in most containers; the rest keeps it from calling home.
        flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
        flags += ["--disable-component-update", "--disable-sync"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of a browser without cookies."""
    with browser.new_context() as context:
        yield context.new_page()
