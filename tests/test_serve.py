"""The one command that runs everything: it starts, refuses clearly, mends itself and leaves nothing behind."""

import os
import signal
import socket
import sys
import threading
from pathlib import Path

import httpx
import pytest

from config import serve as runner
from tests.serving import Running, free_port, processes_of, serve, start, until


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory):
    with serve(tmp_path_factory.mktemp("data")) as server:
        yield server


def test_it_makes_a_first_login_that_works(running: Running):
    with httpx.Client(base_url=running.url, follow_redirects=True) as client:
        client.get("/admin/login/")
        form = {"username": "admin", "password": running.password, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
        assert client.post("/admin/login/?next=/admin/", data=form).url.path == "/admin/"


def test_a_second_start_on_the_same_data_directory_is_refused(running: Running):
    second = start(running.data_directory, free_port())
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 1
    assert f"already runs with DATA_DIR={running.data_directory}" in output
    assert "Traceback" not in output


def test_a_web_server_that_was_killed_is_started_again_while_callers_wait(running: Running):
    (web,) = [pid for pid, command in processes_of(running.data_directory).items() if "uvicorn" in command]
    os.kill(web, signal.SIGKILL)
    assert httpx.get(f"{running.url}/admin/login/", timeout=30).status_code == 200
    running.wait_for("The web server has died (exit code -9) and is started again.")


def test_a_worker_that_was_killed_leaves_no_pool_process_behind(running: Running):
    def workers() -> set[int]:
        return {pid for pid, command in processes_of(running.data_directory).items() if "config worker" in command}

    assert until(lambda: len(workers()) == 3)
    old = workers()
    os.kill(min(old), signal.SIGKILL)
    assert until(lambda: len(workers()) == 3 and not workers() & old)


def test_ctrl_c_stops_everything_and_a_restart_keeps_the_data(tmp_path: Path):
    with serve(tmp_path) as first:
        assert "First login" in first.output
        assert first.stop() == 0
    assert processes_of(tmp_path) == {}
    with serve(tmp_path) as second:
        assert "First login" not in second.output
        second.process.terminate()
        assert second.process.wait(60) == 0


def test_children_go_when_the_runner_itself_is_killed(tmp_path: Path):
    with serve(tmp_path) as server:
        assert len(processes_of(tmp_path)) >= 4
        server.process.kill()
        assert until(lambda: not processes_of(tmp_path)), processes_of(tmp_path)


def test_a_port_in_use_is_refused_by_name(tmp_path: Path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        process = start(tmp_path, port)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert output == (
        f"Ringledger cannot start: PORT {port} is in use by another program. Set another, such as PORT={port + 1}.\n"
    )


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "http", "PORT is 'http'; allowed: a whole number from 1 to 65535."),
        ("PORT", "70000", "PORT is '70000'; allowed: a whole number from 1 to 65535."),
        ("DEBUG", "maybe", "DEBUG is 'maybe'; allowed: 1, true, yes, on, 0, false, no or off."),
        ("TIME_ZONE_DISPLAY", "India", "TIME_ZONE_DISPLAY is 'India'; allowed: an IANA time zone"),
        ("DATABASE_URL", "mysql://root:secret@db/x", "DATABASE_URL is 'mysql:…'; allowed: a URL that starts with"),
        ("REDIS_URL", "http://cache", "REDIS_URL is 'http:…'; allowed: a URL that starts with redis://"),
        ("CSRF_TRUSTED_ORIGINS", "calls.example.com", "CSRF_TRUSTED_ORIGINS is 'calls.example.com'; allowed: origins"),
        ("TRUSTED_PROXIES", "-1", "TRUSTED_PROXIES is '-1'; allowed: a whole number from 0 to 10."),
        ("SECRET_KEY", "short", "SECRET_KEY is too short: at least 50 random characters are needed."),
        ("DATA_DIR", "/dev/null/data", "DATA_DIR is '/dev/null/data'; allowed: a directory that can be made"),
    ],
)
def test_a_wrong_setting_stops_the_start_in_one_line_that_names_it(tmp_path: Path, name: str, value: str, said: str):
    process = start(tmp_path, free_port(), **{name: value})
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert output.startswith(f"Ringledger cannot start: {said}")
    assert output.count("\n") == 1


def test_a_database_that_is_not_there_is_said_without_a_traceback(tmp_path: Path):
    process = start(tmp_path, free_port(), DATABASE_URL=f"postgres://nobody:secret@127.0.0.1:{free_port()}/none")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert output.splitlines()[-1].startswith("Ringledger cannot start: the database of DATABASE_URL does not answer")
    assert "Traceback" not in output
    assert "secret" not in output


def test_a_child_that_keeps_dying_stops_everything(capfd: pytest.CaptureFixture[str]):
    steady = runner.Child("steady one", [sys.executable, "-c", "import time; time.sleep(600)"])
    broken = runner.Child("broken one", [sys.executable, "-c", "raise SystemExit(3)"])
    for child in (steady, broken):
        child.start()
    try:
        assert runner._supervise([steady, broken], threading.Event()) == 1
    finally:
        runner._stop([steady, broken])
    assert "The broken one has died 6 times within 60 seconds (last exit code 3)" in capfd.readouterr().out
    assert steady.process.returncode == -signal.SIGTERM


def test_a_child_that_ignores_the_request_to_stop_is_killed_with_its_own_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(runner, "STOP_SECONDS", 0.5)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    program = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "os.fork()\n"
        "open(os.path.join(os.environ['DATA_DIR'], str(os.getpid())), 'w').close()\n"
        "time.sleep(600)\n"
    )
    stubborn = runner.Child("stubborn one", [sys.executable, "-c", program])
    stubborn.start()
    assert until(lambda: len(list(tmp_path.iterdir())) == 2)
    runner._stop([stubborn])
    assert until(lambda: not processes_of(tmp_path))


def test_the_demo_has_calls_of_every_account_within_a_minute(tmp_path: Path):
    with serve(tmp_path, "--demo") as server:
        key = server.manage("create_api_key", "test").strip()

        def accounts() -> set[str]:
            url = f"{server.url}/api/v1/conversations/"
            calls = httpx.get(url, headers={"Authorization": f"Bearer {key}"}, timeout=30).json()["results"]
            return {call["account"] for call in calls}

        assert until(lambda: accounts() == set(runner.DEMO_ACCOUNTS), 60), accounts()
        assert "has died" not in server.output
