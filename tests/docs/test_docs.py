"""The pages for programs: what they tell to type is typed, at a real server, and must answer what they show.

A page's ``bash`` blocks are one session. A ``python`` block is saved under the name in its first line. What follows a
``bash`` block as ``json``, ``http`` or ``text`` is what it prints, "…" standing for anything; of an object, at least
the members that are shown.
"""

import io
import json
import os
import re
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.core.management import call_command
from django.db import connection
from pytest_django.live_server_helper import LiveServer

from calls.choices import Scope
from calls.ids import new_id
from calls.models import ApiKey
from tests.serving import ROOT

pytestmark = pytest.mark.django_db(transaction=True)

DOCS = ROOT / "docs/api"
PAGES = ["first-key.md", "sync-and-follow.md", "export-and-figures.md", "write-back.md", "errors-and-limits.md"]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
END = "end-of-a-block"
TOKEN = "try-it-with-this-token"


def call(number: int, status: str = "answered", **values: Any) -> dict[str, Any]:
    """The report of a call that came in on this number of days before the README's."""
    started = 1632318510 - number * 86_400
    report = {
        "type": "cdr", "direction": "inbound", "leg": "a", "status": status, "from": 919000000001 + number,
        "to": 918000000000, "appid": 2222222, "conversation_uuid": f"call-{number}", "cmiuuid": f"leg-{number}",
        "time": started * 1000, "start_time": started, "end_time": started + 18,
    }  # fmt: skip
    if status == "answered":
        report |= {"answer_time": started + 5, "duration": 13, "call_rate": "0.450000", "balance": "878.900000"}
    return report | values


@dataclass
class Session:
    """A server with an answered call and two that were missed on the days before, and a shell beside it."""

    url: str
    directory: Path

    def __post_init__(self) -> None:
        (self.directory / "manage.py").symlink_to(ROOT / "manage.py")
        (self.directory / ".venv").symlink_to(sys.prefix)
        call_command("add_account", "delhi-support", "--provider=piopiy", f"--token={TOKEN}", stdout=io.StringIO())
        self.deliver(call(0), call(1, status="missed"), call(2, status="missed"))

    def deliver(self, *reports: dict[str, Any]) -> None:
        """Be the provider, and have the reports processed."""
        for report in reports:
            httpx.post(f"{self.url}/webhooks/piopiy/{TOKEN}/", json=report).raise_for_status()
        call_command("drain", stdout=io.StringIO())

    def save(self, page: str) -> None:
        """Save the Python programs of a page."""
        for language, text in blocks(page):
            if language == "python":
                (self.directory / text.partition("\n")[0].removeprefix("# ")).write_text(text)

    def run(self, *programs: str) -> list[str]:
        """Run the programs one after the other in one shell, and return what each printed."""
        text = "".join(f"{program}\necho {END}\n" for program in programs)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text.replace("http://127.0.0.1:8000", self.url)],
            cwd=self.directory, env=self._environment(), capture_output=True, text=True, timeout=180,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.split(f"{END}\n")[:-1]

    def _environment(self) -> dict[str, str]:
        _, key = ApiKey.issue(new_id().hex, [Scope.READ, Scope.EXPORT])
        database = connection.settings_dict
        place = f"{database['USER']}@{database['HOST']}:{database['PORT']}"
        address = "sqlite://" if connection.vendor == "sqlite" else f"postgres://{place}"
        return {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DATA_DIR": os.environ["DATA_DIR"],
            "DATABASE_URL": f"{address}/{database['NAME']}",
            "RINGLEDGER": self.url,
            "RINGLEDGER_KEY": key,
        }


@pytest.fixture
def session(live_server: LiveServer, tmp_path: Path) -> Session:
    return Session(live_server.url, tmp_path)


def blocks(page: str) -> list[tuple[str, str]]:
    """Return the language and the text of each block of a page."""
    return BLOCK.findall((DOCS / page).read_text())


def is_as_shown(shown: Any, found: Any) -> bool:
    """Return whether ``found`` is what ``shown`` says, "…" standing for anything."""
    if isinstance(shown, dict):
        return isinstance(found, dict) and all(
            name in found and is_as_shown(shown[name], found[name]) for name in shown
        )
    if isinstance(shown, list):
        return len(shown) == len(found) and all(map(is_as_shown, shown, found))
    if isinstance(shown, str) and isinstance(found, str):
        return fnmatchcase(found, re.sub(r"([\[?*])", r"[\1]", shown).replace("…", "*"))
    return shown == found and type(shown) is type(found)


def headers_of(text: str) -> dict[str, str]:
    """Return the headers in ``text``, by their names in small letters."""
    pairs = (line.partition(": ") for line in text.splitlines() if ": " in line)
    return {name.lower(): value for name, _, value in pairs}


READ_AS = {"json": json.loads, "http": headers_of, "text": str.strip}


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_tells_to_type_answers_as_it_shows(name: str, session: Session) -> None:
    session.save(name)
    found = blocks(name)
    printed = iter(session.run(*(text for language, text in found if language == "bash")))
    output = ""
    for language, text in found:
        if language == "bash":
            output = next(printed)
        elif language in READ_AS:
            shown, real = READ_AS[language](text), READ_AS[language](output)
            assert is_as_shown(shown, real), f"{name} shows\n{text}\nand this came\n{output}"


def test_the_copy_follows_what_changes_from_where_it_left_off(session: Session) -> None:
    session.save("sync-and-follow.md")

    def copy() -> dict[str, str]:
        """Sync once more; returns how each call ended, by the customer's number."""
        session.run("python sync.py --once")
        with sqlite3.connect(session.directory / "calls.sqlite3") as database:
            calls = [json.loads(body) for (body,) in database.execute("SELECT body FROM conversation")]
        return {call["customer_number"]: call["disposition"] for call in calls}

    before = copy()
    assert before["+919000000002"] == "missed"
    session.deliver(call(7), call(1))
    assert copy() == before | {"+919000000008": "answered", "+919000000002": "answered"}


def test_every_page_is_in_the_index_and_every_program_is_run() -> None:
    index = (DOCS / "README.md").read_text()
    pages = {path.name for path in DOCS.glob("*.md")} - {"README.md"}
    assert {*re.findall(r"\(([a-z-]+\.md)\)", index)} == pages
    assert pages > {*PAGES}
    for page in pages - {*PAGES, "verify-webhooks.md"}:  # which has a test of its own
        assert not {language for language, _ in blocks(page)} & {"bash", "python"}
    for page in PAGES:
        assert {language for language, _ in blocks(page)} <= {"bash", "python", *READ_AS}
    assert "docs/api/README.md" in (ROOT / "README.md").read_text()
