"""Periodic jobs: once per slot, whoever comes, however often and from wherever."""

import subprocess
import sys
from collections import Counter
from datetime import timedelta

import psycopg
import pytest
from django.conf import settings

from calls.periodic import claim_slot
from calls.tasks import in_turn
from config.celery import app
from tests.serving import ROOT, environment

JOBS, RACERS = 200, 4
RACE = f"""
import sys, django; django.setup()
from calls.periodic import claim_slot
print("ready", flush=True)
sys.stdin.readline()
print(*[number for number in range({JOBS}) if claim_slot(f"job {{number}}", 10**9)])
"""
CLAIMED_LONG_AGO = f"""
import django; django.setup()
from calls.models import PeriodicJob
PeriodicJob.objects.bulk_create(PeriodicJob(name=f"job {{number}}", last_slot=0) for number in range({JOBS}))
"""


def test_a_slot_is_claimed_once_and_the_next_one_again(db, time_machine):
    time_machine.move_to(1_793_000_000, tick=False)
    assert [claim_slot("sweep", 5) for _ in range(3)] == [True, False, False]
    assert claim_slot("review", 5)
    time_machine.shift(timedelta(seconds=4.9))
    assert not claim_slot("sweep", 5)
    time_machine.shift(timedelta(seconds=0.1))
    assert [claim_slot("sweep", 5) for _ in range(2)] == [True, False]


def test_a_job_goes_on_when_a_clock_that_was_ahead_is_put_right(db, time_machine):
    time_machine.move_to(1_793_000_000, tick=False)
    assert claim_slot("sweep", 5)
    time_machine.shift(timedelta(seconds=-30))
    assert not claim_slot("sweep", 5)
    time_machine.shift(timedelta(days=-1))
    assert [claim_slot("sweep", 5) for _ in range(2)] == [True, False]


@pytest.mark.parametrize("has_rows", [False, True], ids=["first use", "later"])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_of_many_processes_that_come_at_once_one_gets_each_job(kind, has_rows, request, tmp_path):
    url = f"sqlite:///{tmp_path / 'race.sqlite3'}"
    if kind == "postgresql":
        server_url, name = request.getfixturevalue("postgres"), f"race_{has_rows}".lower()
        with psycopg.connect(server_url, autocommit=True) as server:
            server.execute(f"CREATE DATABASE {name}")
        url = server_url.rpartition("/")[0] + f"/{name}"

    def python(*arguments: str) -> subprocess.Popen[str]:
        variables = environment(tmp_path, 8000) | {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "config.settings"}
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT, env=variables, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    assert python("manage.py", "migrate", "-v0").wait(120) == 0
    if has_rows:
        assert python("-c", CLAIMED_LONG_AGO).wait(120) == 0
    racers = [python("-c", RACE) for _ in range(RACERS)]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    claimed = [name for racer in racers for name in racer.communicate(timeout=120)[0].split()]
    assert Counter(claimed) == dict.fromkeys(map(str, range(JOBS)), 1)


def test_a_task_runs_in_its_turn_and_no_second_time(account):
    turns = []

    @app.task(name="tests.take_a_turn")
    def take_a_turn() -> None:
        turns.append(1)

    for _ in range(3):
        in_turn(take_a_turn.name, 10**9)
    assert turns == [1]


def test_every_periodic_task_takes_turns_in_slots_of_its_interval():
    app.loader.import_default_modules()
    for entry in settings.CELERY_BEAT_SCHEDULE.values():
        name, seconds = entry["args"]
        assert name in app.tasks
        assert entry["task"] == in_turn.name
        assert entry["schedule"] == seconds == entry["options"]["expires"]
