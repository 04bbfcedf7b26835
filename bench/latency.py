"""How long after its acknowledgement a webhook's call stands in the API, with the whole program running.

Web server, Celery worker, beat, PostgreSQL and Redis share the machine with the sender and with whoever asks the API.
"""

import http.client
import itertools
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from bench.figures import Bench, Figure, compare
from tests.reliability.client import Post, Sender, Sent
from tests.reliability.system import System, call
from tests.servers import postgresql_server, redis_server

RATE = 200
SECONDS = 8
SAMPLED = 40
"""Every so many-th webhook is looked for: asking for each would be more work than all else."""
PAUSE_SECONDS = 0.03
"""Between two questions for one call; the figure is too large by half of it."""
PATIENCE_SECONDS = 30


def visible(bench: Bench) -> Figure:
    """Return the 95th percentile in milliseconds, beside the second that it may take."""
    numbers = itertools.count()

    def posts(count: int) -> list[Post]:
        return [call(number)[0] for number in itertools.islice(numbers, count)]

    with postgresql_server(fsync="on") as database, redis_server() as redis:
        system = System(bench.directory("latency"), database, redis, database.url, webs=1)
        system.prepare()
        key = system.run("manage.py", "create_api_key", "bench", "--rate", "1000000").strip()
        with system:
            return _compared(system, key, posts)


def _compared(system: System, key: str, posts: Callable[[int], list[Post]]) -> Figure:
    _delays(system, key, posts(2 * RATE))
    rounds: list[dict[str, float]] = []

    def p95() -> float:
        delays = _delays(system, key, posts(SECONDS * RATE))
        percentiles = statistics.quantiles(delays, n=20)
        rounds.append({"p50": statistics.median(delays), "p95": percentiles[-1], "most": max(delays)})
        return percentiles[-1]

    title = f"acknowledged → visible in the API, p95 at {RATE}/s, beside 1 s"
    return compare(title, p95, lambda: 1000.0, unit="ms", at_most=1, details={"rounds": rounds})


def _delays(system: System, key: str, posts: list[Post]) -> list[float]:
    """Send these and return the delays of those that were looked for, in milliseconds."""
    delays: list[Future[float]] = []
    followed = 0
    with Sender(system.port, posts, RATE) as sender, ThreadPoolExecutor(RATE) as pool:
        while not sender.is_done or followed < len(sender.sent):
            for sent in sender.sent[followed:]:
                assert sent.status == 200, sent
                if followed % SAMPLED == 0:
                    delays.append(pool.submit(_delay, system.port, key, sent))
                followed += 1
            time.sleep(0.005)
    return [delay.result() for delay in delays]


def _delay(port: int, key: str, sent: Sent) -> float:
    external_id = json.loads(sent.post.body)["conversation_uuid"]
    acknowledged = sent.began + sent.seconds
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    while time.monotonic() < acknowledged + PATIENCE_SECONDS:
        url = f"/api/v1/conversations/?external_id={external_id}"
        connection.request("GET", url, headers={"Authorization": f"Bearer {key}"})
        response = connection.getresponse()
        answer = json.loads(response.read())
        assert response.status == 200, answer
        if answer["results"]:
            connection.close()
            return 1000 * (time.monotonic() - acknowledged)
        time.sleep(PAUSE_SECONDS)
    raise AssertionError(f"{external_id} never became visible")


FIGURES = {"visible": visible}
