"""Deliveries that raise, hang, kill their process or its database session harm only themselves."""

import json

import psycopg

from tests.reliability.client import Post
from tests.reliability.system import System, call
from tests.serving import until
from webhooks import processing

POISONS = ("raise", "sleep", "kill", "hang up")


def poisoned(number: int, poison: str) -> Post:
    event = call(number)[0]
    return event._replace(body=json.dumps(json.loads(event.body) | {"poison": poison}).encode())


def outcomes(system: System) -> dict[str, tuple]:
    """Return what became of the poisoned deliveries, by poison."""
    rows = system.rows("SELECT body, status, error_class, attempts, error_message FROM webhooks_delivery")
    read = [(json.loads(bytes(body)).get("poison"), *outcome) for body, *outcome in rows]
    return {poison: tuple(outcome) for poison, *outcome in read if poison}


def test_poisonous_deliveries_are_quarantined_and_their_neighbours_processed(start, lengths):
    system = start(webs=1, DJANGO_SETTINGS_MODULE="tests.reliability.poison_settings")
    (worker,) = system.workers
    worker.stop()
    calls = 250 if lengths.is_long else 100
    posts = [post for number in range(calls) for post in call(number)]
    for place, poison in enumerate(POISONS, 1):
        posts.insert(place * len(posts) // (len(POISONS) + 1), poisoned(calls + place, poison))
    with system.send(posts, lengths.rate) as sender:
        pass
    assert set(sender.answers) == {200}
    worker.start()
    worker.wait_until_ready()
    pid = worker.pid

    def good() -> int:
        statement = "SELECT count(*) FROM webhooks_delivery WHERE status = 'processed' AND error_class = ''"
        return system.rows(statement)[0][0]

    assert until(lambda: good() == 4 * calls, 60), (good(), outcomes(system), worker.log)

    def is_over() -> bool:
        if not lengths.is_long:  # the lease of the last one is not waited for: it has killed its process at once
            with psycopg.connect(system.database_url) as database:
                database.execute("UPDATE webhooks_delivery SET lease_until = now() WHERE status = 'pending'")
        return not system.pending

    assert until(is_over, 180), (outcomes(system), worker.log)
    system.assert_keeps(sender)
    found = outcomes(system)
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
    assert worker.pid == pid
    assert system.rows("SELECT count(*) FROM calls_conversation") == [(calls,)]
