"""How often programs may ask: limits of keys, of addresses that guess keys, and what answers tell of them."""

import asyncio
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import time_machine
from django.http import HttpResponse
from django.test import Client

from calls import rates
from calls.choices import Scope
from calls.models import ApiKey
from tests.api.factories import a_key, client_with
from tests.servers import redis_server
from tests.serving import ROOT, environment, free_port, until

ACCOUNTS = "/api/v1/accounts/"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def limited(db: None) -> Client:
    """A client whose key may ask three times a minute."""
    return client_with(ApiKey.issue("crm", [Scope.READ], calls_per_minute=3)[1])


def left(response: HttpResponse) -> tuple[int, int]:
    """Return how many requests the answer says are left, and in how many seconds there are more."""
    found = re.fullmatch(r'"per-minute";r=(\d+);t=(\d+)', response.headers["RateLimit"])
    assert found, response.headers["RateLimit"]
    return int(found[1]), int(found[2])


@time_machine.travel(NOON, tick=False)
def test_a_key_is_let_through_as_often_as_its_limit_says(limited: Client) -> None:
    answers = [limited.get(ACCOUNTS) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert [left(answer) for answer in answers] == [(2, 60), (1, 60), (0, 60), (0, 60), (0, 60)]
    assert {answer["RateLimit-Policy"] for answer in answers} == {'"per-minute";q=3;w=60'}
    refused = answers[-1]
    assert refused["Retry-After"] == "60"
    assert refused["Content-Type"] == "application/problem+json"
    assert refused.json()["title"] == "Too Many Requests"
    assert refused.json()["detail"].startswith("At most 3 requests with this key are answered in a minute.")


def test_room_comes_back_second_by_second_as_it_was_used(limited: Client) -> None:
    said = []
    for second in (0, 10, 30, 59, 60, 69, 70, 89, 90):
        with time_machine.travel(NOON + timedelta(seconds=second), tick=False):
            response = limited.get(ACCOUNTS)
            said.append((second, response.status_code, *left(response)))
    assert said == [
        (0, 200, 2, 60),
        (10, 200, 1, 50),
        (30, 200, 0, 30),
        (59, 429, 0, 1),
        (60, 200, 0, 10),
        (69, 429, 0, 1),
        (70, 200, 0, 20),
        (89, 429, 0, 1),
        (90, 200, 0, 30),
    ]


def test_a_key_without_a_limit_of_its_own_has_that_of_the_settings(settings, db: None) -> None:
    settings.API_RATE_PER_MINUTE = 2
    client = client_with(a_key(Scope.READ))
    assert [client.get(ACCOUNTS).status_code for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize("value", ["0", "-1", "many", "1000001"])
def test_a_wrong_limit_stops_the_start_and_says_its_name(value: str, tmp_path: Path) -> None:
    surroundings = environment(tmp_path, 0) | {"API_RATE_PER_MINUTE": value, "PORT": "8000"}
    started = subprocess.run(
        [sys.executable, "-c", "import config.settings"], cwd=ROOT, env=surroundings, capture_output=True, text=True
    )
    assert f"API_RATE_PER_MINUTE is {value!r}; allowed: a whole number from 1 to 1000000." in started.stderr
    assert started.returncode == 1


def test_what_is_refused_for_another_reason_counts_too_and_says_what_is_left(limited: Client) -> None:
    answers = [limited.get(path) for path in (f"{ACCOUNTS}?acount=x", "/api/v1/deliveries/", f"{ACCOUNTS}nowhere/")]
    assert [answer.status_code for answer in answers] == [400, 403, 404]
    assert [left(answer)[0] for answer in answers] == [2, 1, 0]
    assert limited.get(ACCOUNTS).status_code == 429


def test_each_key_has_a_limit_of_its_own(limited: Client) -> None:
    other = client_with(ApiKey.issue("other", [Scope.READ], calls_per_minute=3)[1])
    assert [limited.get(ACCOUNTS).status_code for _ in range(4)][-1] == 429
    assert other.get(ACCOUNTS).status_code == 200


class TestGuessing:
    """An address that sends keys that there never were."""

    @pytest.fixture(autouse=True)
    def three_guesses(self, settings, db: None) -> None:
        settings.API_UNKNOWN_KEYS_PER_MINUTE = 3
        settings.TRUSTED_PROXIES = 1

    def statuses(self, *texts: str, sender: str = "192.0.2.1") -> list[int]:
        """Return the statuses that keys of these texts get which come from ``sender``."""
        return [client_with(text).get(ACCOUNTS, headers={"x-forwarded-for": sender}).status_code for text in texts]

    def test_it_is_not_heard_for_the_rest_of_the_minute_though_it_found_one(self) -> None:
        good = a_key(Scope.READ)
        with time_machine.travel(NOON, tick=False):
            assert self.statuses(good, "a", "b", "c", "d", good) == [200, 401, 401, 401, 429, 429]
        with time_machine.travel(NOON + timedelta(minutes=1), tick=False):
            assert self.statuses(good) == [200]

    def test_it_is_told_how_many_more_it_may_try(self) -> None:
        response = client_with("a").get(ACCOUNTS)
        assert left(response)[0] == 2
        assert response["RateLimit-Policy"] == '"per-minute";q=3;w=60'

    def test_others_are_heard_meanwhile(self) -> None:
        self.statuses("a", "b", "c")
        assert self.statuses(a_key(Scope.READ), sender="192.0.2.2") == [200]

    def test_the_addresses_of_one_ipv6_network_are_one_sender(self) -> None:
        for number in range(3):
            self.statuses("a", sender=f"2001:db8::{number}")
        assert self.statuses("a", sender="2001:db8::ffff") == [429]
        assert self.statuses("a", sender="2001:db8:0:1::1") == [401]

    def test_a_key_that_has_ended_is_no_guess(self) -> None:
        key, old = ApiKey.issue("crm", [Scope.READ])
        new = key.rotate(timedelta(0))
        assert self.statuses(old, old, old, old, new) == [401, 401, 401, 401, 200]

    def test_no_key_at_all_is_no_guess(self) -> None:
        assert [Client().get(ACCOUNTS).status_code for _ in range(5)] == [401] * 5


def test_a_process_forgets_whom_it_has_not_heard_of_for_a_minute() -> None:
    counts = rates.Counts()
    with time_machine.travel(NOON, tick=False):
        for number in range(rates.MOST_NAMES + 1):
            counts.counted(str(number), 1, 1)
    with time_machine.travel(NOON + timedelta(minutes=1), tick=False):
        counts.counted("now", 1, 1)
    assert counts.names == 1


class TestInRedis:
    """Counts that all processes share."""

    def test_they_are_as_those_of_one_process(self, redis_url: str) -> None:
        shared, alone = rates.SharedCounts(redis_url), rates.Counts()
        asked = [("a", 1), ("a", 0), ("b", 1), ("a", 1), ("a", 1), ("a", 0), ("a", 1), ("b", 0)]
        found = [[counts.counted(name, 2, amount)[:3] for name, amount in asked] for counts in (shared, alone)]
        assert found[0] == found[1]

    def test_while_redis_is_away_each_process_counts_by_itself_and_says_so_once(self, caplog) -> None:
        with redis_server() as server:
            counts = rates.SharedCounts(server.url)
            assert counts.counted("crm", 5, 1).remaining == 4
            server.stop()
            assert [counts.counted("crm", 2, 1).is_open for _ in range(4)] == [True, True, False, False]
            assert [record.message.partition(":")[0] for record in caplog.records] == ["Redis is away"]
            server.start()
            assert until(lambda: counts.counted("crm", 5, 0).remaining == 5)
            assert [record.message.partition(":")[0] for record in caplog.records] == ["Redis is away", "Redis is back"]

    def test_a_redis_that_hangs_is_asked_once_and_then_left_alone(self, caplog) -> None:
        with redis_server() as server:
            counts = rates.SharedCounts(server.url)
            assert counts.counted("crm", 5, 1).is_open
            server.pause()
            assert all(counts.counted("crm", 500, 1).is_open for _ in range(500))
            server.resume()
        assert len(caplog.records) == 1

    def test_a_redis_that_was_started_again_is_asked_on(self, caplog) -> None:
        with redis_server() as server:
            counts = rates.SharedCounts(server.url)
            counts.counted("crm", 5, 1)
            server.stop()
            server.start()
            assert counts.counted("crm", 5, 1).is_open
        assert caplog.records == []


@pytest.fixture(scope="module")
def two_servers(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[tuple[list[str], str]]:
    """Two web processes with one database and one Redis, and a key that may ask 50 times a minute."""
    home = tmp_path_factory.mktemp("two-servers")
    surroundings = environment(home, 8000) | {"REDIS_URL": redis_url}

    def manage(*arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    manage("migrate", "-v0")
    key = manage("create_api_key", "crm", "--rate", "50").strip()
    with ExitStack() as stack:
        addresses = []
        for port in (free_port(), free_port()):
            command = [sys.executable, "-m", "uvicorn", "config.asgi:application", "--port", str(port)]
            process = stack.enter_context(
                subprocess.Popen(
                    [*command, "--no-access-log", "--lifespan", "off"],
                    cwd=ROOT,
                    env=surroundings,
                    stderr=subprocess.DEVNULL,
                )
            )
            stack.callback(process.kill)
            addresses.append(f"http://127.0.0.1:{port}")
        for address in addresses:
            assert until(lambda address=address: answers(address), 180)
        yield addresses, key


def answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/healthz").is_success
    except httpx.TransportError:
        return False


def test_of_200_requests_at_once_to_two_processes_exactly_as_many_pass_as_the_limit_says(two_servers) -> None:
    addresses, key = two_servers

    async def ask() -> list[httpx.Response]:
        headers = {"authorization": f"Bearer {key}"}
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(headers=headers, timeout=60, limits=limits) as client:
            return await asyncio.gather(*(client.get(addresses[n % 2] + ACCOUNTS) for n in range(200)))

    found = asyncio.run(ask())
    assert Counter(response.status_code for response in found) == {200: 50, 429: 150}
    passed = [response for response in found if response.status_code == 200]
    assert sorted(left(response)[0] for response in passed) == list(range(50))
    assert len({response.url.port for response in passed}) == 2
