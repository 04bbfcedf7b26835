"""The simulator: its traffic is what the providers send, and what should come of it does."""

import asyncio
import hashlib
import itertools
import json
import os
import re
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

import pytest
from django.core.management import CommandError, call_command

from calls.models import Account, BalanceReading, Conversation, StoredRecord
from webhooks import processing
from webhooks.management.commands.add_account import add_account
from webhooks.models import Delivery
from webhooks.simulator.call import SimulatedAccount
from webhooks.simulator.plan import DEMO_ACCOUNTS, PROVIDERS, TOP_UP, Request, generate_calls, plan
from webhooks.simulator.play import Tally, wait_until_up

NUMBER_FIELDS = (
    "from", "to", "callerid", "vn", "virtual_number",
    "SourceNumber", "DestinationNumber", "DialWhomNumber", "cparty_number",
)  # fmt: skip
START = datetime(2026, 11, 2, 4, tzinfo=UTC)


def deliver(account: Account, requests: list[Request]) -> dict[Request, Delivery]:
    """Put the requests in the inbox as the receiver does."""
    rows = {
        request: Delivery(
            account=account,
            method=request.method,
            content_type=request.content_type,
            query=request.query,
            body=request.body,
            size=len(request.body),
            digest=hashlib.sha256(request.body or request.query).hexdigest(),
            received_at=request.at,
        )
        for request in requests
    }
    Delivery.objects.bulk_create(rows.values())
    return rows


@pytest.mark.django_db
@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_call_comes_out_as_the_simulator_expects(provider: str):
    account, _ = add_account("some-account", provider)
    scenarios = generate_calls(7, 150, accounts=[SimulatedAccount("some-account", provider)])
    rows = [deliver(account, scenario.requests) for scenario in scenarios]
    processing.drain()
    for scenario, deliveries in zip(scenarios, rows, strict=True):
        sources = [delivery.pk for delivery in deliveries.values()]
        found = StoredRecord.objects.filter(source__in=sources).values_list("conversation", flat=True)
        assert len(set(found)) == 1, scenario
        call = Conversation.objects.get(pk=found[0])
        expected = scenario.expected
        assert (call.direction, call.disposition, call.talk_seconds, call.cost, call.state) == (
            expected.direction, expected.disposition, expected.talk_seconds, expected.cost, "ended",
        ), scenario  # fmt: skip
        if expected.customer_number is not None:
            assert call.customer_number == expected.customer_number, scenario
    assert Conversation.objects.count() == len(scenarios)


@pytest.mark.django_db
@pytest.mark.parametrize("provider", PROVIDERS)
def test_what_is_odd_ends_in_quarantine_and_nothing_else_does(provider: str):
    account, _ = add_account("some-account", provider)
    scenarios = generate_calls(3, 130, accounts=[SimulatedAccount("some-account", provider)])
    rows = deliver(account, [request for scenario in scenarios for request in scenario.requests])
    processing.drain()
    quarantined = set(Delivery.objects.filter(status="quarantined").values_list("pk", flat=True))
    assert quarantined == {delivery.pk for request, delivery in rows.items() if request.is_odd}
    assert len({Delivery.objects.get(pk=pk).error_class for pk in quarantined}) == 3


@pytest.mark.django_db
def test_piopiys_money_adds_up():
    account, _ = add_account("some-account", "piopiy")
    scenarios = generate_calls(11, 300, accounts=[SimulatedAccount("some-account", "piopiy")])
    deliver(account, [request for scenario in scenarios for request in scenario.requests])
    processing.drain()
    readings = list(BalanceReading.objects.order_by("booked_at"))
    gaps = Counter(reading.gap for reading in readings[1:])
    assert set(gaps) == {Decimal(0), TOP_UP}
    assert min(reading.balance for reading in readings) > 0
    told = sum((scenario.expected.cost for scenario in scenarios if scenario.expected.cost), Decimal(0))
    assert sum(reading.charge for reading in readings) == told > 0


def test_the_same_seed_and_start_give_the_same_bytes():
    first, second = (list(plan(DEMO_ACCOUNTS, 5, 40, START)) for _ in range(2))
    assert first == second
    assert [request.at for request in first] == sorted(request.at for request in first)


def test_another_start_gives_the_same_calls_under_other_ids():
    first = generate_calls(5, 40, start=START)
    second = generate_calls(5, 40, start=START + timedelta(seconds=1))
    assert [call.expected for call in first] == [call.expected for call in second]
    bodies = {request.body for call in first for request in call.requests}
    assert not bodies & {request.body for call in second for request in call.requests if request.body}


def test_it_plays_every_kind_and_dialect_of_every_provider():
    scenarios = generate_calls(1, 1500)
    for name, provider in PROVIDERS.items():
        mine = [scenario for scenario in scenarios if scenario.account.provider == name]
        assert {scenario.kind for scenario in mine} == set(provider.SHARES)
        assert {scenario.dialect for scenario in mine} == set(provider.DIALECTS)
    methods = Counter((request.method, request.content_type) for call in scenarios for request in call.requests)
    assert set(methods) == {("POST", "application/json"), ("POST", "application/x-www-form-urlencoded"), ("GET", "")}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_at_most_one_request_in_a_hundred_is_odd(provider: str):
    scenarios = generate_calls(1, 1200, accounts=[SimulatedAccount("some-account", provider)])
    requests = [request for scenario in scenarios for request in scenario.requests]
    assert 0 < sum(request.is_odd for request in requests) <= 0.01 * len(requests)


def test_piopiy_sends_each_cdr_again_after_5_15_and_30_minutes():
    account = SimulatedAccount("some-account", "piopiy")
    for scenario in generate_calls(2, 20, accounts=[account], speed=6):
        reports = [request for request in scenario.requests if "duration" in fields_of(request)]
        for body in {request.body for request in reports}:
            times = [request.at for request in reports if request.body == body]
            assert [round((time - times[0]).total_seconds()) for time in times] == [0, 50, 150, 300]


def test_some_live_events_come_twice_and_some_out_of_order():
    requests = [request for scenario in generate_calls(1, 300) for request in scenario.requests]
    copies = Counter(request.body or request.query for request in requests if not request.is_resend)
    assert 0 < sum(times - 1 for times in copies.values()) < 0.05 * len(requests)
    account = SimulatedAccount("some-account", "telecmi")
    orders = [
        tuple(fields_of(request).get("type") for request in scenario.requests)
        for scenario in generate_calls(1, 300, accounts=[account])
    ]
    assert any(order.index("cdr") < len(order) - 1 - order[::-1].index("event") for order in orders if "cdr" in order)


def test_more_calls_come_by_day_than_by_night():
    requests = itertools.islice(plan(DEMO_ACCOUNTS[:1], 1, 0, START, rate=0.01), 20_000)
    hours = Counter(
        at.hour for at in {request.call: request.at for request in requests if not request.is_resend}.values()
    )
    by_night = sum(hours[hour] for hour in (19, 20, 21, 22))  # 0:30 to 4:30 in India
    by_day = sum(hours[hour] for hour in (5, 6, 10, 11))
    assert by_day > 2 * by_night


def test_customers_call_again_and_agents_stay_the_same():
    account = SimulatedAccount("some-account", "callerdesk")
    scenarios = generate_calls(1, 200, accounts=[account])
    customers = Counter(scenario.expected.customer_number for scenario in scenarios)
    assert 30 < len(customers) < 150
    names = {fields_of(request).get("receiver_name") for scenario in scenarios for request in scenario.requests}
    assert len(names - {None, "", "0"}) == 6


def test_every_number_is_fictional():
    numbers = set()
    for scenario in generate_calls(1, 300):
        for fields in map(fields_of, scenario.requests):
            numbers |= {str(fields[name])[-10:] for name in NUMBER_FIELDS if fields.get(name) not in (None, "0")}
    assert numbers
    assert {number[:5] for number in numbers} == {"90000", "80000"}


def test_speed_shortens_calls_and_keeps_clock_and_lengths_in_agreement():
    account = SimulatedAccount("some-account", "piopiy")
    for scenario in generate_calls(4, 60, accounts=[account], speed=10):
        for request in scenario.requests:
            fields = fields_of(request)
            if "end_time" in fields and not request.is_resend:
                late = request.at.timestamp() - fields["end_time"]
                assert 0 <= late < 2.5
    usual, fast = (generate_calls(4, 60, accounts=[account], speed=speed) for speed in (1, 10))
    assert sum(call.expected.talk_seconds for call in fast) < 0.15 * sum(call.expected.talk_seconds for call in usual)


def fields_of(request: Request) -> dict:
    if request.is_odd:
        return {}
    if request.content_type == "application/json":
        return json.loads(request.body)
    return dict(parse_qsl((request.body or request.query).decode()))


# --- The command -----------------------------------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """Answers with ``status`` and keeps what it was sent."""

    daemon_threads = True
    status = 200
    signal_after_50: signal.Signals | None = None

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, bytes]] = []
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.server.lock:
            self.server.seen.append((self.command, self.path, body))
            is_fiftieth = len(self.server.seen) == 50
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()
        if self.server.signal_after_50 and is_fiftieth:
            os.kill(os.getpid(), self.server.signal_after_50)

    do_GET = do_POST  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def simulate(capsys: pytest.CaptureFixture[str]):
    def simulate(*arguments: str) -> dict:
        call_command("simulate", *arguments)
        return json.loads(capsys.readouterr().out)

    return simulate


FAST = ["--rate", "100", "--speed", "1000"]


@pytest.mark.django_db
def test_simulate_plays_for_all_active_accounts_and_prints_a_summary(server: Server, simulate):
    tokens = [add_account(f"some-{provider}", provider)[1] for provider in PROVIDERS]
    Account.objects.create(slug="asleep", provider="piopiy", is_active=False)
    summary = simulate("--url", server.url, "--calls", "30", "--seed", "1", *FAST)
    assert summary == {"calls": 30, "requests": len(server.seen), "accepted": len(server.seen), "failed": 0}
    paths = {path.partition("?")[0] for _, path, _ in server.seen}
    assert paths == {f"/webhooks/{name}/{token}/" for name, token in zip(PROVIDERS, tokens, strict=True)}
    assert {method for method, _, _ in server.seen} == {"GET", "POST"}


@pytest.mark.django_db
def test_simulate_sends_what_the_plan_says(server: Server, simulate):
    add_account("some-account", "telecmi", app_id="1111112")
    add_account("another", "piopiy")
    simulate("--url", server.url, "--account", "some-account", "--calls", "5", "--seed", "2", *FAST)
    sent = Counter(re.sub(rb"\d|[0-9a-fA-F]{8}-[-0-9a-fA-F]+", b"", body) for _, _, body in server.seen if body)
    assert sent
    assert all(b"1111112" in body + path.encode() for _, path, body in server.seen if b"{ " not in body)


@pytest.mark.django_db
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_simulate_goes_on_until_it_is_stopped_and_then_prints_its_summary(server: Server, simulate, number):
    add_account("some-account", "piopiy")
    server.signal_after_50 = number
    summary = simulate("--url", server.url, "--calls", "0", *FAST)
    # Up to 16 were in flight, and the first request was the question whether the server is up.
    assert 33 <= summary["accepted"] == summary["requests"]


def test_it_waits_until_the_server_is_up():
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async def scene() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        waiting = asyncio.create_task(wait_until_up(f"http://127.0.0.1:{port}"))
        await asyncio.wait([waiting], timeout=0.3)
        assert not waiting.done()
        async with await asyncio.start_server(answer, "127.0.0.1", port):
            await asyncio.wait_for(waiting, 60)

    asyncio.run(scene())


@pytest.mark.django_db
def test_simulate_counts_refusals_and_fails_when_nothing_was_accepted(server: Server, simulate):
    add_account("some-account", "piopiy")
    server.status = 404
    with pytest.raises(CommandError, match=r"accepted nothing; it answered 404 \(\d+ times\)"):
        simulate("--url", server.url, "--calls", "2", *FAST)


@pytest.mark.django_db
def test_simulate_says_so_when_no_server_answers(server: Server, simulate):
    add_account("some-account", "piopiy")
    server.shutdown()
    server.server_close()
    with pytest.raises(CommandError, match=f"No server answers at {server.url}"):
        simulate("--url", server.url, "--calls", "2", *FAST)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--account", "nobody"], "There is no active account “nobody”. Active accounts: some-account."),
        (["--account", "asleep"], "There is no active account “asleep”"),
        (["--account", "own-token"], "The token of own-token cannot be shown"),
        (["--calls", "-1"], "“-1” is not a whole number from 0"),
        (["--calls", "ten"], "“ten” is not a whole number from 0"),
        (["--rate", "0"], "“0” is not a number from 0.001 to 1000"),
        (["--rate", "nan"], "“nan” is not a number from"),
        (["--speed", "fast"], "“fast” is not a number from"),
        (["--seed", "x"], "“x” is not a whole number"),
        (["--url", "localhost:8000"], "“localhost:8000” is not an address such as http://127.0.0.1:8000"),
    ],
)
def test_simulate_says_what_is_wrong_and_what_is_allowed(simulate, arguments: list[str], said: str):
    add_account("some-account", "piopiy")
    add_account("own-token", "piopiy", token="an-operators-own-token")
    Account.objects.filter(slug="own-token").update(is_active="own-token" in arguments)
    Account.objects.create(slug="asleep", provider="piopiy", is_active=False)
    with pytest.raises(CommandError, match=re.escape(said)):
        simulate(*arguments)


@pytest.mark.django_db
def test_simulate_asks_for_an_account_where_there_is_none(simulate):
    with pytest.raises(CommandError, match="There is no active account yet"):
        simulate()


def test_a_tally_tells_what_failed():
    tally = Tally(calls=2, requests=9, accepted=7)
    assert tally.summary == {"calls": 2, "requests": 9, "accepted": 7, "failed": 2}
