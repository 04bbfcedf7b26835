"""Two schedulers at once: each periodic job runs once per slot, and goes on when one of them dies."""

from collections import Counter

import pytest

from tests.reliability.stage import IS_LONG, PATIENCE, stage_on
from tests.serving import until

SLOTS = 24 if IS_LONG else 3
# Every claim leaves a line, by the database's own hand.
WATCH = """
CREATE TABLE claim (name text, slot bigint);
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO claim VALUES (NEW.name, NEW.last_slot); RETURN NULL; END';
CREATE TRIGGER tell AFTER INSERT OR UPDATE ON calls_periodicjob FOR EACH ROW EXECUTE FUNCTION tell();
"""


@pytest.fixture
def stage(postgres, tmp_path):
    with stage_on(postgres, tmp_path) as stage:
        yield stage


def test_two_schedulers_run_each_job_once_per_slot(stage):
    stage.query(WATCH)
    for name in ("one", "two"):
        stage.start_worker(f"worker-{name}")
        stage.start_beat(f"beat-{name}")

    def sweeps() -> int:
        return stage.query("SELECT count(*) FROM claim WHERE name = 'webhooks.tasks.drain'")[0][0]

    def have_both_sent() -> bool:
        return all("Sending due task sweep the inbox" in stage.log(f"beat-{name}") for name in ("one", "two"))

    assert until(have_both_sent, PATIENCE)
    assert until(lambda: sweeps() >= SLOTS, PATIENCE), stage.log("worker-one")
    stage.stop("beat-one")
    seen = sweeps()
    assert until(lambda: sweeps() >= seen + 2, PATIENCE), stage.log("beat-two")
    claims = Counter(stage.query("SELECT name, slot FROM claim"))
    assert set(claims.values()) == {1}
    turns = sum(stage.log(f"worker-{name}").count("in_turn[") for name in ("one", "two"))
    assert turns > claims.total()  # there were more requests than slots
