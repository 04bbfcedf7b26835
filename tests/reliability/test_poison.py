"""Deliveries that raise, hang, kill their process or its database session harm only themselves."""

import json

import pytest

from tests.reliability.stage import IS_LONG, PATIENCE, Sender, Stage, call, stage_on
from tests.serving import until
from webhooks import processing

CALLS = 250 if IS_LONG else 100
"""Of four deliveries each."""


@pytest.fixture
def stage(postgres, tmp_path):
    with stage_on(postgres, tmp_path) as stage:
        yield stage


def poisoned(number: int, poison: str) -> bytes:
    return json.dumps(json.loads(call(number)[0]) | {"poison": poison}).encode()


def send(stage: Stage, *poisons: str) -> None:
    """Send many good deliveries with the poisoned ones among them."""
    stage.start_web()
    bodies = [body for number in range(CALLS) for body in call(number)]
    for place, poison in enumerate(poisons, 1):
        bodies.insert(place * len(bodies) // (len(poisons) + 1), poisoned(CALLS + place, poison))
    with Sender(stage, bodies) as sender:
        sender.finish()
    sender.assert_all_kept_once()
    assert len(sender.acknowledged) == 4 * CALLS + len(poisons)


def outcomes(stage: Stage) -> dict[str, tuple]:
    """Return what became of the poisoned deliveries, by poison."""
    rows = stage.query("SELECT body, status, error_class, attempts, error_message FROM webhooks_delivery")
    read = [(json.loads(bytes(body)).get("poison"), *outcome) for body, *outcome in rows]
    return {poison: tuple(outcome) for poison, *outcome in read if poison}


def good(stage: Stage) -> int:
    statement = "SELECT count(*) FROM webhooks_delivery WHERE status = 'processed' AND error_class = ''"
    return stage.query(statement)[0][0]


def test_poisonous_deliveries_are_quarantined_and_their_neighbours_processed(stage):
    send(stage, "raise", "sleep", "kill", "hang up")
    stage.start_worker(DJANGO_SETTINGS_MODULE="tests.reliability.poison_settings")
    stage.start_beat()
    assert until(lambda: good(stage) == 4 * CALLS, PATIENCE), (good(stage), outcomes(stage), stage.log("worker"))

    def is_over() -> bool:
        if not IS_LONG:  # the lease of the last one is not waited for: it has killed its process at once
            stage.query("UPDATE webhooks_delivery SET lease_until = now() WHERE status = 'pending'")
        return stage.is_drained()

    assert until(is_over, PATIENCE), (outcomes(stage), stage.log("worker"))
    found = outcomes(stage)
    assert {poison: outcome[:2] for poison, outcome in found.items()} == {
        "raise": ("quarantined", "Crash"),
        "sleep": ("quarantined", "TooSlow"),
        "kill": ("quarantined", "Crash"),
        "hang up": ("quarantined", "Crash"),
    }
    assert "RuntimeError: a fault of the adapter" in found["raise"][3]
    assert "longer than 5 seconds" in found["sleep"][3]
    for poison in ("kill", "hang up"):
        assert found[poison][3].startswith(f"Its processing ended {processing.ATTEMPTS} times without a result")
    assert all(outcome[2] <= processing.ATTEMPTS for outcome in found.values())
    assert stage.processes["worker"].poll() is None
    assert stage.query("SELECT count(*) FROM calls_conversation") == [(CALLS,)]
