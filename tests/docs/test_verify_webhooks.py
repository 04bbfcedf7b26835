"""The page on verifying webhooks: each of its programs is run, and tells a message of ours from a forged one."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
from pytest_django.live_server_helper import LiveServer

from tests.serving import free_port, until
from tests.sinks import web_sink

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = Path(__file__).parents[2] / "docs/api/verify-webhooks.md"
RECEIVERS = {"python": (sys.executable, "receiver.py"), "javascript": ("node", "receiver.js")}


def snippets(language: str) -> list[str]:
    """Return the programs of the page in this language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


VERIFY, CREATE, TEST, ROTATE = snippets("bash")


@pytest.fixture
def shell(live_server: LiveServer, tmp_path: Path, settings: Any) -> Any:
    """Run a program of the page with these variables, in a directory of its own; returns what it printed."""
    from calls.choices import Scope
    from calls.models import ApiKey

    settings.ALLOWED_PRIVATE_TARGETS = [ip_network("127.0.0.0/8")]
    _, key = ApiKey.issue("crm", [Scope.MANAGE])
    given = {"PATH": os.environ["PATH"], "RINGLEDGER": live_server.url, "RINGLEDGER_KEY": key}

    def run(program: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", program], cwd=tmp_path, env=given | variables,
            text=True, capture_output=True, timeout=120, check=False,
        )  # fmt: skip

    return run


@contextmanager
def receiver(language: str, directory: Path, port: int, secret: str) -> Iterator[Path]:
    """Run the page's receiver; yields the file of what it prints."""
    program, name = RECEIVERS[language]
    [text] = snippets(language)
    (directory / name).write_text(text)
    printed = directory / "printed"
    environment = {"PATH": os.environ["PATH"], "WEBHOOK_SECRET": secret, "PORT": str(port)}
    with printed.open("w") as output:
        process = subprocess.Popen(
            [program, name], cwd=directory, env=environment, stdout=output, stderr=subprocess.PIPE, text=True
        )
        try:
            assert until(lambda: process.poll() is not None or listens(port), pause=0.02)
            assert process.poll() is None, process.stderr.read()
            yield printed
        finally:
            process.kill()
            process.communicate()


def listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def made(shell: Any, url: str) -> dict[str, Any]:
    """Make a subscription by the page's command and return it, with its secret."""
    done = shell(CREATE, WEBHOOK_URL=url)
    assert done.returncode == 0, done.stdout
    return json.loads(done.stdout)


@pytest.mark.parametrize("language", ["python", pytest.param("javascript", marks=pytest.mark.node)])
def test_the_receiver_takes_what_is_ours_once_and_refuses_what_is_forged(
    language: str, shell: Any, tmp_path: Path
) -> None:
    port = free_port()
    subscription = made(shell, f"http://127.0.0.1:{port}/hook")
    with receiver(language, tmp_path, port, subscription["secret"]) as printed:
        attempt = json.loads(shell(TEST, SUBSCRIPTION=str(subscription["id"])).stdout)
        assert (attempt["status"], attempt["error"]) == (204, "")
        assert printed.read_text().startswith("test ")

        from calls.models import Message

        headers, body = attempt["request_headers"], bytes(Message.objects.get().body)
        again = httpx.post(f"http://127.0.0.1:{port}/hook", content=body, headers=headers)
        assert again.status_code == 204
        assert printed.read_text().count("test ") == 1, "what came twice is worked off once"
        forged = body.replace(b'"test"', b'"tess"')
        assert forged != body
        assert httpx.post(f"http://127.0.0.1:{port}/hook", content=forged, headers=headers).status_code == 400
        late = headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) - 600)}
        assert httpx.post(f"http://127.0.0.1:{port}/hook", content=body, headers=late).status_code == 400
        assert printed.read_text().count("\n") == 1

        rotated = shell(ROTATE, SUBSCRIPTION=str(subscription["id"]))
        assert json.loads(rotated.stdout)["secret"] != subscription["secret"]
        second = json.loads(shell(TEST, SUBSCRIPTION=str(subscription["id"])).stdout)
        assert second["status"] == 204, "the former secret goes on for a day"


def test_the_shell_tells_a_genuine_message_from_a_forged_one(shell: Any, tmp_path: Path) -> None:
    with web_sink() as sink:
        subscription = made(shell, sink.url)
        assert shell(TEST, SUBSCRIPTION=str(subscription["id"])).returncode == 0
        [post] = sink.posts
    variables = {
        "WEBHOOK_SECRET": subscription["secret"],
        "WEBHOOK_ID": post.headers["webhook-id"],
        "WEBHOOK_TIMESTAMP": post.headers["webhook-timestamp"],
        "WEBHOOK_SIGNATURE": post.headers["webhook-signature"],
    }
    (tmp_path / "body.json").write_bytes(post.body)
    assert shell(VERIFY, **variables).stdout == "genuine\n"
    (tmp_path / "body.json").write_bytes(post.body + b" ")
    forged = shell(VERIFY, **variables)
    assert (forged.returncode, forged.stderr) == (1, "forged\n")
