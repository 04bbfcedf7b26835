"""Several workers drain one inbox on PostgreSQL, with the calls of their batches interleaved."""

import json
import os
import subprocess
import sys

import psycopg
import pytest

from tests.serving import ROOT

WORKERS = 4


@pytest.fixture
def drained(postgres, tmp_path):
    """Return a way to fill an inbox, have it drained by some workers at once, and get what came of it."""

    def run(name: str, workers: int) -> str:
        with psycopg.connect(postgres, autocommit=True) as server:
            server.execute(f"CREATE DATABASE {name}")
        environment = os.environ | {"DATABASE_URL": postgres.rpartition("/")[0] + f"/{name}", "DATA_DIR": str(tmp_path)}

        def python(*arguments: str) -> subprocess.Popen[str]:
            command = [sys.executable, *arguments]
            return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE)

        assert python("manage.py", "migrate", "-v0").wait(60) == 0
        assert python("-m", "tests.webhooks.interleaved", "fill").wait(60) == 0
        running = [python("manage.py", "drain") for _ in range(workers)]
        outputs = [process.communicate(timeout=120)[0] for process in running]
        assert [process.returncode for process in running] == [0] * workers
        assert sum(json.loads(output)["processed"] for output in outputs) > 0
        return python("-m", "tests.webhooks.interleaved", "log").communicate(timeout=60)[0]

    return run


def test_four_workers_at_once_give_the_same_tables_as_one(drained):
    alone, together = drained("alone", 1), drained("together", WORKERS)
    assert "'pending'" not in alone
    assert "'quarantined'" not in alone
    assert together == alone
