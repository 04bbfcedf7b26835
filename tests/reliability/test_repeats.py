"""Repeats and disorder change nothing: many workers, every report four times, all of it shuffled."""

import json
import random

import pytest

from tests.reliability.stage import IS_LONG, PATIENCE, Sender, call, stage_on
from tests.serving import until

CALLS = 300 if IS_LONG else 40
COPIES = 4
WORKERS = 4


@pytest.fixture
def stage(postgres, tmp_path):
    with stage_on(postgres, tmp_path) as stage:
        yield stage


def test_four_copies_of_each_report_in_any_order_give_the_rows_of_one_in_order(stage):
    in_order = [body for number in range(CALLS) for body in call(number)]
    reports = [body for body in in_order if "duration" in json.loads(body)]
    assert len(reports) == CALLS
    shuffled = in_order + (COPIES - 1) * reports
    random.Random(5).shuffle(shuffled)
    again = stage.add_account("again")

    stage.start_web()
    for number in range(WORKERS):
        stage.start_worker(f"worker-{number}")
    stage.start_beat()
    with Sender(stage, in_order, threads=1) as once, Sender(stage, shuffled, path=again) as repeated:
        once.finish()
        repeated.finish()
    assert until(stage.is_drained, PATIENCE), stage.log("worker-0")
    for sender in (once, repeated):
        assert set(sender.answers) == {200}
        sender.assert_all_kept_once()
    counted = stage.query("SELECT count(*), sum(repeats) FROM webhooks_delivery WHERE status = 'processed'")
    assert counted == [(2 * len(in_order), (COPIES - 1) * len(reports))]
    assert len(stage.derived("again").splitlines()) > CALLS
    assert stage.derived("again") == stage.derived("delhi")
