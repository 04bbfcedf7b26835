"""Two schedulers at once: each periodic job runs once per slot, and goes on when one of them dies."""

from collections import Counter

import psycopg

from tests.serving import until

# Every claim leaves a line, by the database's own hand.
WATCH = """
CREATE TABLE claim (name text, slot bigint);
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO claim VALUES (NEW.name, NEW.last_slot); RETURN NULL; END';
CREATE TRIGGER tell AFTER INSERT OR UPDATE ON calls_periodicjob FOR EACH ROW EXECUTE FUNCTION tell();
"""


def test_two_schedulers_run_each_job_once_per_slot(start, lengths):
    system = start(webs=0, workers=2, beats=2)
    with psycopg.connect(system.database_url, autocommit=True) as database:
        database.execute(WATCH)

    def sweeps() -> int:
        return system.rows("SELECT count(*) FROM claim WHERE name = 'webhooks.tasks.drain'")[0][0]

    assert until(lambda: all("Sending due task sweep the inbox" in beat.log for beat in system.beats), 120)
    assert until(lambda: sweeps() >= (24 if lengths.is_long else 3), 180), system.workers[0].log
    system.beats[0].stop()
    seen = sweeps()
    assert until(lambda: sweeps() >= seen + 2, 120), system.beats[1].log
    claims = Counter(system.rows("SELECT name, slot FROM claim"))
    assert set(claims.values()) == {1}
    turns = sum(worker.log.count("in_turn[") for worker in system.workers)
    assert turns > claims.total()  # there were more requests than slots
