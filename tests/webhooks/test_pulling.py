"""Reading TeleCMI's lists of calls, against a real HTTP server that speaks the documented protocol."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from itertools import pairwise
from urllib.parse import parse_qs

import pytest
from django.conf import settings as project
from django.core.management import CommandError, call_command
from django.urls import reverse
from django.utils import timezone

from calls import ledger
from calls.models import Account, BalanceReading, Conversation, Leg
from calls.sealing import SealBroken, seal, unseal
from tests.calls.tables import call_log
from tests.webhooks.inbox import deliver, deliver_file
from webhooks import pulling, tasks
from webhooks.models import Delivery
from webhooks.processing import drain
from webhooks.providers import telecmi
from webhooks.pulling import Window, pull, turns
from webhooks.templatetags.deliveries import last_deliveries

pytestmark = pytest.mark.django_db

SECRET = "8f2c-made-up-4411"
NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
QUARTER = timedelta(minutes=15)


class Api(ThreadingHTTPServer):
    """TeleCMI's API: lists of calls, newest first, at most 20 a page, refusals within HTTP 200."""

    total_name, secret_name = "count", "secret"
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lists: dict[str, list[dict]] = {}
        self.asked: list[tuple[str, dict]] = []
        self.before_answer: Callable[[str, dict], bytes | None] = lambda name, question: None
        self.released = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v2"

    def add(self, name: str, uuid: str, at: datetime, **fields: object) -> None:
        row = {"cmiuid": uuid, "time": round(at.timestamp() * 1000), "from": 919000000001, "to": 919999999999}
        row |= {"duration": 67, "billedsec": 61, "rate": 0.49, "name": "unknown"}
        self.lists.setdefault(name, []).append(row | fields)

    def answer(self, name: str, question: dict) -> dict:
        if not isinstance(question["appid"], int) or question.get(self.secret_name) != SECRET:
            return {"code": 404, "msg": "invalid appid or secret"}
        if question["limit"] > 20:
            return {"code": 400, "msg": "limit"}
        rows = [
            row for row in self.lists.get(name, []) if question["start_date"] <= row["time"] <= question["end_date"]
        ]
        rows.sort(key=lambda row: -row["time"])
        first = (question["page"] - 1) * question["limit"]
        return {self.total_name: len(rows), "cdr": rows[first : first + question["limit"]], "code": 200}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Api

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = self.path.removeprefix("/v2/")
        self.server.asked.append((name, question))
        raw = self.server.before_answer(name, question)
        self.close_connection = raw is not None
        if raw is None:
            body = json.dumps(self.server.answer(name, question)).encode()
            raw = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as server:
        yield server
        server.released.set()
        server.shutdown()


@pytest.fixture
def account() -> Account:
    sealed = seal(SECRET, project.SECRET_KEY)
    return Account.objects.create(slug="chennai", provider="telecmi", app_id="1111112", sealed_secret=sealed)


def read(account: Account, api: Api, now: datetime = NOON, **options: object) -> pulling.Pulled:
    """Pull as the next turn would, and process what came."""
    account.refresh_from_db()
    pulled = pull(account, now, address=api.address, **options)
    account.refresh_from_db()
    drain()
    return pulled


# --- What a pulled row does ------------------------------------------------------------------------------------------


def test_the_price_joins_the_call_that_was_told_by_webhook(account, api):
    deliver_file(account, "telecmi", "cdr_in_answered_live")
    drain()
    call = Conversation.objects.get()
    before = (call.disposition, call.reason, call.talk_seconds, call.agent, call.started_at, call.legs.count())
    api.add("answered", call.aliases.order_by("value").first().value, call.started_at, rate="1.2500")
    assert read(account, api, call.started_at + timedelta(hours=1)).stored == 1
    call = Conversation.objects.get()
    assert (call.cost, call.cost_unit) == (Decimal("1.25"), "INR")
    after = (call.disposition, call.reason, call.talk_seconds, call.agent, call.started_at, call.legs.count())
    assert after == before


@pytest.mark.parametrize("alias", [0, 1])
def test_any_id_of_the_call_will_do(account, api, alias):
    deliver_file(account, "telecmi", "cdr_in_answered_live")
    drain()
    call = Conversation.objects.get()
    uuids = sorted(call.aliases.filter(scheme="uuid").values_list("value", flat=True))
    assert len(uuids) == 2
    api.add("answered", uuids[alias], call.started_at)
    read(account, api, call.started_at + timedelta(hours=1))
    assert Conversation.objects.get().cost == Decimal("0.49")


def test_the_price_of_an_outgoing_call_joins_its_legs_in_any_order(account, api):
    told = ["cdr_out_answered_leg_a", "cdr_out_answered_leg_b"]
    account.app_id = "2222223"
    account.save()
    leg_b = deliver_file(account, "telecmi", told[1])
    payload = json.loads(bytes(leg_b.body))
    at = datetime.fromtimestamp(payload["time"] / 1000, UTC)
    api.add("out_answered", payload["cmiuuid"], at, rate=0.0231, **{"from": "919100000000", "to": payload["to"]})
    read(account, api, at + timedelta(hours=1))
    deliver_file(account, "telecmi", told[0])
    drain()
    after = call_log(account)
    call = Conversation.objects.get()
    assert (call.cost, call.direction, call.disposition) == (Decimal("0.0231"), "outbound", "answered")
    assert sorted(Leg.objects.values_list("label", flat=True)) == ["a", "b"]

    other = Account.objects.create(slug="other", provider="telecmi")
    for delivery in Delivery.objects.order_by("-received_at"):
        Delivery.objects.create(
            account=other, method=delivery.method, content_type=delivery.content_type, query=delivery.query,
            body=delivery.body, size=delivery.size, digest=delivery.digest, received_at=delivery.received_at,
        )  # fmt: skip
        drain()
    assert call_log(other) == after


@pytest.mark.parametrize(
    ("name", "direction", "customer"),
    [
        ("answered", "inbound", "+919000000001"),
        ("missed", "inbound", "+919000000001"),
        ("out_answered", "outbound", "+919888888888"),
        ("out_missed", "outbound", "+919888888888"),
    ],
)
def test_a_row_of_which_nothing_else_is_known_makes_a_call_of_its_own(account, api, name, direction, customer):
    api.add(name, "5d9609da3e23420b5f1fa27a", NOON - timedelta(hours=2), to=919888888888, rate=1, duration=4)
    read(account, api)
    call = Conversation.objects.get()
    assert (call.state, call.direction, call.reason, call.cost) == ("ended", direction, "billing_only", 1)
    assert call.customer_number == customer
    assert call.started_at == NOON - timedelta(hours=2)


def test_pulled_money_makes_no_reading_and_no_gap(account, api):
    for number in range(5):
        api.add("answered", f"call-{number}", NOON - timedelta(hours=number + 1), rate="2.5")
    read(account, api)
    assert Conversation.objects.filter(cost=Decimal("2.5")).count() == 5
    assert not BalanceReading.objects.exists()
    assert ledger.current(account) is None


def test_a_price_that_comes_later_is_taken(account, api):
    at = NOON - timedelta(minutes=10)
    api.add("answered", "call-1", at, rate=0)
    read(account, api)
    assert Conversation.objects.get().cost == 0
    api.lists["answered"][0]["rate"] = "0.75"
    assert read(account, api, NOON + QUARTER).stored == 1
    assert Conversation.objects.get().cost == Decimal("0.75")
    assert Leg.objects.count() == 1


def test_a_row_that_makes_no_sense_is_quarantined_and_the_others_are_taken(account, api):
    api.add("answered", "call-1", NOON - timedelta(hours=1))
    api.add("answered", "call-2", NOON - timedelta(hours=1), rate="free")
    read(account, api)
    assert Conversation.objects.count() == 1
    page = Delivery.objects.get()
    assert (page.status, page.error_field, page.error_value) == ("quarantined", "rate", "free")


# --- Pages and windows -----------------------------------------------------------------------------------------------


def test_every_page_is_read_and_kept_as_it_came(account, api):
    for second in range(45):
        api.add("missed", f"call-{second}", NOON - timedelta(hours=2, seconds=second))
    assert read(account, api).stored == 3
    pages = Delivery.objects.order_by("received_at")
    assert {page.method for page in pages} == {"PULL"}
    assert [parse_qs(bytes(page.query).decode())["page"] for page in pages] == [["1"], ["2"], ["3"]]
    assert parse_qs(bytes(pages[0].query).decode())["list"] == ["missed"]
    assert [len(json.loads(bytes(page.body))["cdr"]) for page in pages] == [20, 20, 5]
    assert Conversation.objects.count() == 45
    assert all(page.status == "processed" for page in pages)
    pages_asked = [question["page"] for name, question in api.asked if name == "missed"]
    assert max(pages_asked) == 3


def test_rows_that_are_added_while_paging_lose_no_call(account, api):
    at = NOON - timedelta(hours=2)
    for second in range(40):
        api.add("answered", f"call-{second}", at - timedelta(seconds=second))

    def add_one(name: str, question: dict) -> None:
        if name == "answered" and question["page"] == 2:
            api.add("answered", "late", at + timedelta(seconds=1))

    api.before_answer = add_one
    read(account, api)
    assert Conversation.objects.filter(external_id__startswith="call-").count() == 40
    read(account, api, NOON + timedelta(hours=6))
    read(account, api, NOON + timedelta(days=1))
    assert Conversation.objects.filter(external_id="late").exists()


def test_what_was_read_before_is_asked_for_again_and_not_stored_again(account, api):
    account.pulled_until = NOON - 2 * QUARTER
    account.save()
    api.add("answered", "call-1", NOON - timedelta(minutes=20))
    assert read(account, api).stored == 1
    asked = len(api.asked)
    for number in range(1, 5):
        assert read(account, api, NOON + number * QUARTER).stored == 0
    assert len(api.asked) > asked
    assert Delivery.objects.count() == 1
    assert account.pulled_until == NOON + 4 * QUARTER


def test_a_call_that_is_listed_hours_later_is_found(account, api):
    at = NOON - timedelta(minutes=10)
    read(account, api)
    api.add("answered", "late", at)
    for number in range(1, 4):
        read(account, api, NOON + number * QUARTER)
    assert Conversation.objects.get().started_at == at


def test_questions_are_of_times_that_have_passed_oldest_first(account, api):
    now = NOON + timedelta(minutes=7)
    read(account, api, now)
    ends = [question["end_date"] for _, question in api.asked]
    assert ends == sorted(ends)
    assert max(ends) == round(NOON.timestamp() * 1000) - 1
    assert account.pulled_until == NOON
    assert {name for name, _ in api.asked} == {"answered", "missed", "out_answered", "out_missed"}
    assert all(question["limit"] == 20 and question["appid"] == 1111112 for _, question in api.asked)


@pytest.mark.parametrize("hours_away", [0, 1, 5, 30, 240])
def test_however_long_we_were_away_every_moment_is_read_once_and_again(hours_away):
    until, now = NOON, NOON + timedelta(hours=hours_away) + QUARTER
    read_turns = list(turns(until, None, now))
    new = [turn[-1] for turn in read_turns]
    assert (new[0].begin, new[-1].end) == (until, now)
    assert all(earlier.end == later.begin for earlier, later in pairwise(new))
    again = [window for turn in read_turns for window in turn[:-1]]
    assert len(again) == len(set(again))
    assert all(window.end <= until for window in again)
    assert any(window.begin <= until - timedelta(days=1) < window.end for window in again)


def test_a_reading_from_a_given_time_on_leaves_nothing_out():
    until = NOON - timedelta(days=2)
    [[first], *_] = turns(until, NOON - timedelta(days=1), NOON)
    assert first == Window(until, until + timedelta(hours=6))
    [[first], *_] = turns(until, NOON - timedelta(days=9), NOON)
    assert first.begin == NOON - timedelta(days=9)


def test_india_has_names_of_its_own(account, api):
    account.api_base = "india"
    account.save()
    api.total_name, api.secret_name = "total", "token"
    row = {"_id": "5d9df5607a2b952710b030dc", "time": round((NOON - QUARTER).timestamp() * 1000)}
    row |= {"from": "209_1111113", "to": 9100000000, "billedsec": 0, "rate": "0.2500", "name": "unknown"}
    api.lists["outmissed"] = [row]
    assert read(account, api).error == ""
    assert {name for name, _ in api.asked} == {"answered", "missed", "outmissed"}
    call = Conversation.objects.get()
    assert (call.cost, call.direction, call.agent.external_id) == (Decimal("0.25"), "outbound", "209")
    assert call.customer_number == "+919100000000"


# --- What goes wrong -------------------------------------------------------------------------------------------------


def answering(body: bytes, status: bytes = b"200 OK", length: int | None = None) -> Callable:
    # The server closes after each answer: a client that was not told might ask again at that moment.
    told = len(body) if length is None else length
    head = b"HTTP/1.1 %b\r\nConnection: close\r\nContent-Length: %d\r\n" % (status, told)
    return lambda name, question: head + b"Location: http://127.0.0.1:9/\r\n\r\n" + body


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (answering(b'{"code": 404, "msg": "nobody"}'), "code 404: the provider does not know this app id and secret"),
        (answering(b"<h1>Not found</h1>", b"404 Not Found"), "code 404"),
        (answering(b'{"code": 400}'), "code 400"),
        (answering(b'{"code": 200}'), "expected a list of rows"),
        (answering(b'{"count": "many", "cdr": []}'), "expected the number of calls"),
        (answering(b"<html>"), "makes no sense"),
        (answering(b"[]"), "makes no sense"),
        (answering(b"", b"302 Found"), "HTTP 302"),
        (answering(b"", b"500 Oops"), "HTTP 500"),
        (answering(b'{"count": 1, "cdr": [', length=5000), "could not be asked"),
        (answering(b" " * 1_100_000), "more than 1048576 bytes"),
    ],
)
def test_an_answer_that_is_no_page_stores_nothing_and_says_why(account, api, answer, said, caplog):
    api.before_answer = answer
    pulled = read(account, api)
    assert said in pulled.error
    assert account.pull_error == pulled.error
    assert account.pulled_until is None
    assert not Delivery.objects.exists()
    assert SECRET not in pulled.error + caplog.text
    api.before_answer = lambda name, question: None
    assert read(account, api).error == ""
    assert (account.pull_error, account.pulled_until) == ("", NOON)


def test_a_provider_that_does_not_answer_is_not_waited_for(account, api, monkeypatch):
    monkeypatch.setattr(pulling, "TIMEOUT_SECONDS", 0.2)
    api.before_answer = lambda name, question: api.released.wait() and b""
    assert "gave no answer" in read(account, api).error


def test_an_answer_that_trickles_in_is_not_waited_for(account, api, monkeypatch):
    monkeypatch.setattr(pulling, "TIMEOUT_SECONDS", 0.3)

    class Trickle(Handler):
        def do_POST(self) -> None:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not api.released.wait(0.05):
                self.wfile.write(b" ")
                self.wfile.flush()

    api.RequestHandlerClass = Trickle
    assert "gave no answer" in read(account, api).error


def test_a_provider_that_is_away_is_asked_again_by_the_next_turn(account, api):
    address = api.address
    api.shutdown()
    api.server_close()
    pulled = pull(account, NOON, address=address)
    assert "could not be asked" in pulled.error


def test_pages_that_never_end_are_not_followed(account, api, monkeypatch):
    monkeypatch.setattr(pulling, "MOST_PAGES", 3)
    rows = [{"cmiuid": f"call-{n}", "time": round(NOON.timestamp() * 1000), "rate": 0} for n in range(20)]
    api.before_answer = answering(json.dumps({"count": 10**9, "cdr": rows, "code": 200}).encode())
    assert "more than 3 pages" in read(account, api).error
    assert not Delivery.objects.exists()


def test_what_was_read_before_a_failure_stays_read(account, api):
    api.add("answered", "call-1", NOON - timedelta(hours=23))
    limit = round((NOON - timedelta(hours=7)).timestamp() * 1000)

    def fail_late(name: str, question: dict) -> bytes | None:
        return answering(b"", b"503 Busy")(name, question) if question["end_date"] > limit else None

    api.before_answer = fail_late
    assert "HTTP 503" in read(account, api).error
    assert Conversation.objects.count() == 1
    assert account.pulled_until == NOON - timedelta(hours=12)


def test_no_turn_is_begun_without_time_for_it(account, api):
    pulled = read(account, api, budget=timedelta(0))
    assert (pulled.windows, pulled.error, account.pulled_until) == (0, "", None)


def test_a_rebuild_derives_the_same_from_the_pages(account, api):
    api.add("answered", "call-1", NOON - timedelta(hours=1))
    api.add("out_missed", "call-2", NOON - timedelta(hours=1))
    read(account, api)
    before = call_log(account)
    Conversation.objects.all().delete()
    Delivery.objects.update(status="pending")
    drain()
    assert call_log(account) == before


def test_exported_pages_come_in_again(account, api, tmp_path):
    api.add("out_answered", "call-1", NOON - timedelta(hours=1))
    read(account, api)
    file = tmp_path / "deliveries.ndjson"
    call_command("export_deliveries", account.slug, "--file", str(file))
    exported = Delivery.objects.get()
    before = call_log(account)
    Conversation.objects.all().delete()
    Delivery.objects.all().delete()
    call_command("import_deliveries", str(file), "--account", account.slug, stdout=StringIO())
    again = Delivery.objects.get()
    assert (again.method, bytes(again.query), again.digest) == ("PULL", bytes(exported.query), exported.digest)
    drain()
    assert call_log(account) == before


# --- The secret ------------------------------------------------------------------------------------------------------


def test_a_secret_is_sealed_and_opened():
    sealed = seal(SECRET, "key")
    assert SECRET not in sealed
    assert sealed != seal(SECRET, "key")
    assert unseal(sealed, "key") == SECRET


@pytest.mark.parametrize("sealed", ["", "nonsense", "gAAAAA"])
def test_what_was_not_sealed_is_not_opened(sealed):
    with pytest.raises(SealBroken):
        unseal(sealed, "key")


def test_under_another_secret_key_the_account_is_named_with_what_to_do(account, api):
    account.sealed_secret = seal(SECRET, "an earlier key")
    account.save()
    pulled = read(account, api)
    assert pulled.error == (
        "The API secret of “chennai” is of no use. It was sealed under another SECRET_KEY and cannot be opened. "
        "Enter it again."
    )
    assert api.asked == []


def test_the_secret_is_in_no_table(account, api):
    api.add("answered", "call-1", NOON - timedelta(hours=1))
    read(account, api)
    assert SECRET not in repr(list(Account.objects.values()))
    stored = Delivery.objects.get()
    assert SECRET.encode() not in bytes(stored.body) + bytes(stored.query)


# --- What staff see --------------------------------------------------------------------------------------------------


def page_of(account: Account) -> str:
    return reverse("admin:calls_account_change", args=[account.pk])


def save(client, account: Account, **changes: str):
    fields = {"slug": account.slug, "name": "", "app_id": account.app_id, "is_active": "on", "unit": "INR"}
    fields |= {"time_zone": "Asia/Kolkata", "phone_region": "IN", "silence_minutes": "240", "api_base": "global"}
    response = client.post(page_of(account), fields | changes, follow=True)
    account.refresh_from_db()
    return response


def test_a_secret_is_entered_kept_and_forgotten_and_never_shown(admin_client):
    account = Account.objects.create(slug="chennai", provider="telecmi", app_id="1111112")
    assert "No API secret is set" in admin_client.get(page_of(account)).content.decode()
    response = save(admin_client, account, api_secret=SECRET)
    assert SECRET not in response.content.decode()
    assert unseal(account.sealed_secret, project.SECRET_KEY) == SECRET
    page = admin_client.get(page_of(account)).content.decode()
    assert "An API secret is set" in page
    assert account.sealed_secret not in page
    sealed = account.sealed_secret
    save(admin_client, account, name="Chennai")
    assert account.sealed_secret == sealed
    save(admin_client, account, forget_secret="on")
    assert account.sealed_secret == ""


def test_a_secret_without_a_number_for_app_id_is_refused(admin_client):
    account = Account.objects.create(slug="chennai", provider="telecmi", app_id="abc")
    response = save(admin_client, account, api_secret=SECRET)
    assert "app id that is a number" in response.content.decode()
    assert account.sealed_secret == ""


def test_the_page_says_why_the_last_try_failed(admin_client, account, api):
    api.before_answer = answering(b'{"code": 404}')
    read(account, api)
    assert "does not know this app id and secret" in admin_client.get(page_of(account)).content.decode()


def test_a_provider_without_lists_is_asked_for_no_secret(admin_client):
    account = Account.objects.create(slug="delhi", provider="piopiy")
    assert "API secret" not in admin_client.get(page_of(account)).content.decode()


def test_a_page_of_a_list_is_shown_as_what_it_is(admin_client, account, api):
    api.add("answered", "call-1", NOON - timedelta(hours=1))
    read(account, api)
    page = admin_client.get(
        reverse("admin:webhooks_delivery_change", args=[Delivery.objects.get().pk])
    ).content.decode()
    assert "List of calls pulled from TeleCMI" in page
    assert "Pulled from the provider" in page
    call = admin_client.get(reverse("admin:calls_conversation_change", args=[Conversation.objects.get().pk]))
    assert "a page of the provider's list of calls" in call.content.decode()


# --- Task and command ------------------------------------------------------------------------------------------------


def test_the_command_says_which_account_lacks_a_secret():
    Account.objects.create(slug="delhi", provider="piopiy")
    with pytest.raises(CommandError, match="“delhi” is no account with an API secret"):
        call_command("pull", "--account", "delhi")
    with pytest.raises(CommandError, match="No account has an API secret"):
        call_command("pull")


def test_the_command_reads_what_was_asked_for_and_says_how_far_it_is(account, api, monkeypatch, capsys):
    monkeypatch.setitem(telecmi.EDITIONS, "global", telecmi.EDITIONS["global"]._replace(address=api.address))
    now = timezone.now()
    api.add("answered", "call-1", now - timedelta(days=3))
    call_command("pull", "--account", account.slug, "--since", (now - timedelta(days=4)).isoformat())
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert (answer["account"], answer["stored"], answer["error"]) == ("chennai", 1, "")
    assert "1 new page\n" in said.err
    assert said.err.count("read up to") == answer["windows"]
    api.before_answer = answering(b'{"code": 404}')
    with pytest.raises(CommandError, match="Not read to the end: chennai"):
        call_command("pull", "--account", account.slug, "--since", (now - timedelta(hours=1)).isoformat())


def test_the_task_reads_the_lists_of_one_active_account(account, api, monkeypatch):
    monkeypatch.setitem(telecmi.EDITIONS, "global", telecmi.EDITIONS["global"]._replace(address=api.address))
    tasks.pull(account.pk)
    account.refresh_from_db()
    assert account.pull_error == ""
    assert account.pulled_until
    asked = len(api.asked)
    Account.objects.update(is_active=False)
    tasks.pull(account.pk)
    assert len(api.asked) == asked


def test_pages_do_not_hide_that_the_provider_sends_nothing(admin_client, account, api):
    api.add("answered", "call-1", NOON - timedelta(hours=1))
    read(account, api)
    page = admin_client.get("/admin/")
    assert last_deliveries({"request": page.wsgi_request}).get().last_received_at is None
    assert "Nothing has come in by it yet" in admin_client.get(page_of(account)).content.decode()


def test_a_page_cannot_be_sent_in_from_outside(account, client):
    deliver(account, {"count": 0, "cdr": []})
    response = client.generic("PULL", f"/webhooks/telecmi/{'x' * 40}/", b"{}")
    assert response.status_code in {404, 405}
