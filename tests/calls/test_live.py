"""The live board: what it knows of calls, what each viewer is told of them, and the streams by which they are told."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.asgi import get_asgi_application
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone

from calls import access, live
from calls.choices import Direction, Disposition, EventKind, Label, Role, State
from calls.live import Board, Viewer
from calls.live_streams import MOST_STREAMS, Streams
from calls.models import Agent, Contact, ContactNumber, Conversation, Leg, StaffAccess
from tests.api.factories import a_conversation, a_leg, a_live_conversation, an_account, an_agent, an_event

pytestmark = pytest.mark.django_db

EVERYTHING = Viewer(access.Reach(is_everything=True), sees_numbers=True)
START = datetime(2026, 11, 2, 6, 30, tzinfo=UTC)
BOARD, STREAM, STATE = "/admin/live/", "/admin/live/stream/", "/admin/live/state/"


def told(board: Board, viewer: Viewer = EVERYTHING, since: str = "") -> dict[str, Any] | None:
    """Look, and return what the viewer is told."""
    board.look()
    news = board.news(viewer, since)
    return json.loads(news.data) | {"id": news.id} if news else None


def an_agent_leg(call: Conversation, agent: Agent, **values: Any) -> Leg:
    values = {"label": Label.B, "role": Role.AGENT, "agent": agent, "disposition": None} | values
    return a_leg(call, **values)


def heard_again(call: Conversation, **values: Any) -> None:
    Conversation.objects.filter(pk=call.pk).update(last_heard_at=timezone.now(), **values)


# --- What is known of a call -----------------------------------------------------------------------------------------


def test_an_inbound_call_rings_until_an_agent_answers():
    call, agent = a_live_conversation(started_at=START), an_agent()
    a_leg(call)
    board = Board()
    (shown,) = told(board)["calls"]
    assert (shown["phase"], shown["since"], shown["agents"]) == ("ringing", START.timestamp() * 1000, [])

    leg = an_agent_leg(call, agent, started_at=START + timedelta(seconds=3))
    heard_again(call)
    (shown,) = told(board)["calls"]
    assert (shown["phase"], shown["agents"]) == ("ringing", [{"name": "Asha", "state": "ringing"}])

    answered = START + timedelta(seconds=9)
    Leg.objects.filter(pk=leg.pk).update(answered_at=answered)
    heard_again(call, answered_at=answered)
    (shown,) = told(board)["calls"]
    assert (shown["phase"], shown["since"]) == ("talking", answered.timestamp() * 1000)
    assert shown["agents"] == [{"name": "Asha", "state": "talking"}]


def test_an_outbound_call_talks_only_when_the_customer_has_answered():
    call, agent = a_live_conversation(direction=Direction.OUTBOUND, started_at=START), an_agent()
    an_agent_leg(call, agent, answered_at=START + timedelta(seconds=2))
    a_leg(call, started_at=START + timedelta(seconds=3))
    (shown,) = told(Board())["calls"]
    assert (shown["phase"], shown["agents"][0]["state"]) == ("ringing", "talking")


def test_a_caller_waits_when_the_last_event_says_so():
    call = a_live_conversation(started_at=START)
    leg = a_leg(call, answered_at=START)
    an_event(leg, kind=EventKind.ANSWERED, occurred_at=START)
    an_event(leg, kind=EventKind.WAITING, occurred_at=START + timedelta(seconds=4))
    (shown,) = told(Board())["calls"]
    assert (shown["phase"], shown["since"]) == ("waiting", (START.timestamp() + 4) * 1000)


def test_a_caller_waits_when_the_agents_who_were_rung_did_not_answer():
    call, agent = a_live_conversation(started_at=START), an_agent()
    a_leg(call, answered_at=START)
    an_agent_leg(call, agent, disposition=Disposition.MISSED, ended_at=START + timedelta(seconds=20))
    (shown,) = told(Board())["calls"]
    assert (shown["phase"], shown["since"]) == ("waiting", (START.timestamp() + 20) * 1000)


@pytest.mark.parametrize(
    ("kinds", "state"),
    [
        ([], ""),
        ([EventKind.STREAM_CONNECTED], "connected"),
        ([EventKind.STREAM_CONNECTED, EventKind.STREAM_ERROR], "error"),
        ([EventKind.STREAM_CONNECTED, EventKind.STREAM_ERROR, EventKind.STREAM_DISCONNECTED], "disconnected"),
    ],
)
def test_the_state_of_a_stream_is_that_of_its_newest_event(kinds: list[EventKind], state: str):
    call = a_live_conversation()
    leg = a_leg(call)
    for second, kind in enumerate(kinds):
        an_event(leg, kind=kind, provider_status=kind, occurred_at=START + timedelta(seconds=second))
    (shown,) = told(Board())["calls"]
    assert shown["stream"] == state


def test_the_callers_last_three_calls_and_name_stand_beside_a_call():
    number = "+919000000005"
    contact = Contact.objects.create(name="Meena")
    ContactNumber.objects.create(number=number, contact=contact)
    earlier = [a_conversation(customer_number=number, started_at=START + timedelta(hours=hour)) for hour in range(5)]
    a_live_conversation(customer_number=number)
    a_conversation(customer_number="+919000000006")
    (shown,) = told(Board())["calls"]
    assert [each["id"] for each in shown["recent"]] == [str(call.pk) for call in reversed(earlier[2:])]
    assert shown["recent"][0]["disposition"] == "answered"
    assert shown["contact"] == "Meena"


def test_a_withheld_number_has_no_last_calls():
    a_conversation(customer_number="")
    a_live_conversation(customer_number="")
    (shown,) = told(Board())["calls"]
    assert (shown["number"], shown["recent"]) == ("", [])


def test_agents_at_work_are_free_ringing_or_talking():
    now = timezone.now()
    free, ringing, talking, away = (an_agent(str(number), name=f"Agent {number}") for number in range(4))
    a_conversation(agent=free, started_at=now - timedelta(hours=1))
    a_conversation(agent=away, started_at=now - timedelta(hours=20))
    an_agent_leg(a_live_conversation(), ringing)
    call = a_live_conversation()
    an_agent_leg(call, talking, answered_at=START)
    an_agent_leg(a_live_conversation(), talking)
    states = {agent["name"]: (agent["state"], agent["call"]) for agent in told(Board())["agents"]}
    assert states["Agent 0"] == ("free", None)
    assert states["Agent 1"][0] == "ringing"
    assert states["Agent 2"] == ("talking", str(call.pk))
    assert "Agent 3" not in states


# --- What viewers are told -------------------------------------------------------------------------------------------


def test_a_viewer_is_told_everything_first_and_then_only_what_differs():
    board = Board()
    one, other = a_live_conversation(), a_live_conversation()
    first = told(board)
    assert first["whole"]
    assert {call["id"] for call in first["calls"]} == {str(one.pk), str(other.pk)}
    assert told(board, since=first["id"]) is None

    third = a_live_conversation()
    second = told(board, since=first["id"])
    assert not second["whole"]
    assert [call["id"] for call in second["calls"]] == [str(third.pk)]

    heard_again(one, state=State.ENDED, disposition=Disposition.MISSED)
    assert told(board, since=second["id"])["gone"] == [str(one.pk)]
    late = told(board, since=first["id"])
    assert ([call["id"] for call in late["calls"]], late["gone"]) == ([str(third.pk)], [str(one.pk)])


@pytest.mark.parametrize(
    "since", ["", "other.1", "nonsense", "{name}.9999", "{name}.-1", "{name}.٣", "{name}." + "9" * 30]
)
def test_an_id_that_says_nothing_to_this_process_brings_everything(since: str):
    board = Board()
    call = a_live_conversation()
    name = told(board)["id"].partition(".")[0]
    news = told(board, since=since.format(name=name))
    assert (news["whole"], news["calls"][0]["id"]) == (True, str(call.pk))


def test_who_was_away_for_too_many_changes_is_told_everything(monkeypatch):
    monkeypatch.setattr(live, "MOST_GONE", 2)
    board = Board()
    call = a_live_conversation(did="+918000000000")
    ids = [told(board)["id"]]
    for number in range(1, 5):
        heard_again(call, did=f"+91800000000{number}")
        ids.append(told(board)["id"])
    assert [told(board, since=since)["whole"] for since in ids[:-1]] == [True, True, False, False]
    assert told(board, since=ids[0])["calls"][0]["did"] == "+91 80000 00004"


def test_a_name_that_staff_changed_is_shown_although_nothing_was_heard(time_machine):
    agent = an_agent(name="Asha")
    an_agent_leg(a_live_conversation(), agent)
    board = Board()
    first = told(board)
    Agent.objects.update(name="Asha Rao")
    board._read_at = board._roster_at = -float("inf")  # as after some seconds
    news = told(board, since=first["id"])
    assert news["calls"][0]["agents"][0]["name"] == "Asha Rao"
    assert news["agents"][0]["name"] == "Asha Rao"


def test_looking_costs_one_query_while_nothing_is_new(django_assert_num_queries):
    for _ in range(3):
        a_leg(a_live_conversation())
    board = Board()
    board.look()
    with django_assert_num_queries(1):
        assert board.look() is False


def test_looking_costs_the_same_for_two_new_calls_and_for_twenty_two(django_assert_max_num_queries):
    def look(calls: int) -> int:
        for number in range(calls):
            call = a_live_conversation(customer_number=f"+9190000000{number:02}")
            an_agent_leg(call, Agent.objects.get_or_create(account=call.account, external_id=str(number))[0])
            a_conversation(customer_number=call.customer_number)
        board = Board()
        with django_assert_max_num_queries(12) as queries:
            board.look()
        return len(queries)

    assert look(2) == look(22)


def test_watchers_are_told_of_a_database_that_is_away_and_of_its_return():
    board = Board()
    call = a_live_conversation()
    first = told(board)

    def refuse(execute: Callable, *arguments: Any) -> None:
        raise OperationalError("the connection was refused")

    with connection.execute_wrapper(refuse):
        away = told(board, since=first["id"])
    assert (away["away"], away["gone"]) == (True, [])
    back = told(board, since=away["id"])
    assert (back["away"], back["gone"]) == (False, [])
    assert told(board)["calls"][0]["id"] == str(call.pk)


def test_a_viewer_is_told_only_of_calls_within_reach_and_of_those_that_leave_it():
    own, foreign = an_agent("1"), an_agent("2", name="Bina")
    mine, theirs = a_live_conversation(agent=own), a_live_conversation(agent=foreign)
    viewer = Viewer(access.Reach(agents=frozenset({own.pk})), sees_numbers=True)
    board = Board()
    first = told(board, viewer)
    assert [call["id"] for call in first["calls"]] == [str(mine.pk)]

    heard_again(mine, agent=foreign)
    heard_again(theirs, state=State.ENDED)
    news = told(board, viewer, first["id"])
    assert (news["calls"], news["gone"]) == ([], [str(mine.pk)])


def test_last_calls_beyond_reach_are_left_out():
    other = an_account("agra-sales")
    a_conversation(account=other)
    seen = a_conversation()
    call = a_live_conversation()
    viewer = Viewer(access.Reach(accounts=frozenset({call.account_id})), sees_numbers=True)
    (shown,) = told(Board(), viewer)["calls"]
    assert [each["id"] for each in shown["recent"]] == [str(seen.pk)]


def test_the_board_shows_the_calls_that_lists_show():
    agents = [an_agent(str(number)) for number in range(3)]
    elsewhere = an_account("agra-sales")
    for number in range(8):
        call = a_live_conversation(account=elsewhere if number % 4 == 0 else agents[0].account)
        if number % 2:
            an_agent_leg(call, agents[number % 3])
    board = Board()
    for accounts, mine in [(set(), {0}), ({elsewhere.pk}, set()), ({elsewhere.pk}, {1, 2}), (set(), set())]:
        user = User()
        user._reach = access.Reach(accounts=frozenset(accounts), agents=frozenset(agents[number].pk for number in mine))
        listed = {str(call.pk) for call in access.visible(user, Conversation.objects.all())}
        shown = told(board, Viewer(user._reach, sees_numbers=True))["calls"]
        assert {call["id"] for call in shown} == listed


def test_who_may_see_no_numbers_is_sent_none():
    number = "+919000000042"
    agent = an_agent("919000000043", name="")
    a_conversation(customer_number=number, agent=agent)
    contact = Contact.objects.create(name="Shop 919000000044")
    ContactNumber.objects.create(number=number, contact=contact)
    an_agent_leg(a_live_conversation(customer_number=number), agent)
    board = Board()
    board.look()
    sent = board.news(Viewer(EVERYTHING.reach, sees_numbers=False)).data
    assert not any(digits in sent.replace(" ", "") for digits in ("00000042", "00000043", "00000044"))
    assert "00000042" in board.news(EVERYTHING).data.replace(" ", "")


def test_the_board_can_be_narrowed_to_an_account_an_agent_or_a_did():
    agent = an_agent()
    mine = a_live_conversation(did="+918000000007")
    an_agent_leg(mine, agent)
    elsewhere = a_live_conversation(account=an_account("agra-sales"), did="+918000000008")
    board, user = Board(), User(is_superuser=True)

    def shown(**wanted: str) -> set[str]:
        return {call["id"] for call in told(board, Viewer.of(user, wanted))["calls"]}

    assert shown(account=str(elsewhere.account_id)) == {str(elsewhere.pk)}
    assert shown(agent=str(agent.pk)) == {str(mine.pk)}
    assert shown(did="80000 00008") == {str(elsewhere.pk)}
    assert shown(account="nonsense") == set()
    assert shown(account="", did="") == {str(mine.pk), str(elsewhere.pk)}


# --- The pages -------------------------------------------------------------------------------------------------------


def test_the_board_needs_the_permission_to_see_calls(client: Client):
    client.force_login(User.objects.create_user("plain", password="x", is_staff=True))
    assert [client.get(url).status_code for url in (BOARD, STREAM, STATE)] == [403, 403, 403]
    client.logout()
    assert client.get(STATE).status_code == 302


def test_the_state_is_had_without_a_stream_and_then_only_what_is_new(admin_client: Client):
    call = a_live_conversation()
    answer = admin_client.get(STATE).json()
    assert str(call.pk) in {shown["id"] for shown in answer["news"]["calls"]}
    again = admin_client.get(STATE, {"since": answer["id"]}).json()
    assert again["news"] is None or again["news"]["whole"] is False


def test_a_server_without_streams_says_so(admin_client: Client):
    assert admin_client.get(STREAM).status_code == 501


def test_the_page_keeps_its_filters_and_offers_only_what_is_within_reach(admin_client: Client):
    agent = an_agent(name="<b>Asha</b>")
    page = admin_client.get(BOARD, {"account": agent.account_id, "agent": agent.pk, "group": "did"}).content.decode()
    assert f'<option value="{agent.pk}" selected>&lt;b&gt;Asha&lt;/b&gt;</option>' in page
    assert '<option value="did" selected>By DID</option>' in page
    assert admin_client.get(BOARD, {"account": "nonsense", "agent": "-1"}).status_code == 200

    user = User.objects.create_user("limited", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_conversation", "see_account_calls"]))
    StaffAccess.objects.get_or_create(user=user)[0].accounts.set([an_account("agra-sales")])
    client = Client()
    client.force_login(user)
    page = client.get(BOARD).content.decode()
    assert "agra-sales" in page
    assert "Asha" not in page


# --- Streams ---------------------------------------------------------------------------------------------------------


class Watcher:
    """A browser that has asked for a stream."""

    def __init__(self, streams: Streams, client: Client, **headers: str) -> None:
        cookie = "; ".join(f"{name}={value.value}" for name, value in client.cookies.items())
        scope = {
            "type": "http", "method": "GET", "path": STREAM, "query_string": b"", "http_version": "1.1",
            "headers": [
                (name.replace("_", "-").encode(), value.encode())
                for name, value in {"host": "localhost", "cookie": cookie, **headers}.items()
            ],
        }  # fmt: skip
        self._sent: asyncio.Queue = asyncio.Queue()
        self._left = asyncio.Event()
        self._asked = False
        self.task = asyncio.create_task(streams(scope, self._receive, self._sent.put))

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request"}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def status(self) -> int:
        return (await asyncio.wait_for(self._sent.get(), 60))["status"]

    async def events(self) -> AsyncIterator[dict[str, str]]:
        """Yield what comes, by name of the field, until the stream ends."""
        while True:
            message = await asyncio.wait_for(self._sent.get(), 60)
            lines = message["body"].decode().strip().splitlines()
            yield dict(line.split(": ", 1) for line in lines)
            if not message["more_body"]:
                return

    async def next(self, wanted: str = "data") -> dict[str, str]:
        """Return the next event that has the field ``wanted``, beats left aside."""
        async for event in self.events():
            if wanted in event and event.get("event") != "beat":
                return event
        raise AssertionError("the stream has ended")

    async def leave(self) -> None:
        self._left.set()
        await asyncio.wait_for(self.task, 60)


def elsewhere(act: Callable[[], Any]) -> Any:
    """Do something with the database in a thread of its own: there may be none of it in an event loop's."""

    def run() -> Any:
        try:
            return act()
        finally:
            connection.close()

    return asyncio.to_thread(run)


@pytest.fixture
def streams() -> Streams:
    return Streams(get_asgi_application(), Board(), beat_seconds=0.2, check_seconds=0.3)


@pytest.fixture
def watching(transactional_db) -> Client:
    """The session of somebody who may see all calls."""
    user = User.objects.create_user("asha", password="x", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(codename__in=["view_conversation", "see_all_calls", "see_numbers"])
    )
    client = Client()
    client.force_login(user)
    return client


def test_a_stream_tells_what_is_going_on_and_then_what_is_new(streams: Streams, watching: Client):
    first = a_live_conversation()

    async def watch() -> None:
        watcher = Watcher(streams, watching)
        assert await watcher.status() == 200
        assert "retry" in await watcher.next("retry")
        event = await watcher.next()
        assert [call["id"] for call in json.loads(event["data"])["calls"]] == [str(first.pk)]
        second = await elsewhere(a_live_conversation)
        event = await watcher.next()
        assert [call["id"] for call in json.loads(event["data"])["calls"]] == [str(second.pk)]
        await watcher.leave()

        third = await elsewhere(a_live_conversation)
        again = Watcher(streams, watching, last_event_id=event["id"])
        await again.status()
        data = json.loads((await again.next())["data"])
        assert (data["whole"], [call["id"] for call in data["calls"]]) == (False, [str(third.pk)])
        await again.leave()

    asyncio.run(watch())


def test_a_stream_with_nothing_to_tell_beats(streams: Streams, watching: Client):
    async def watch() -> None:
        watcher = Watcher(streams, watching)
        await watcher.status()
        async for event in watcher.events():
            if event.get("event") == "beat":
                break
        await watcher.leave()

    asyncio.run(watch())


@pytest.mark.parametrize("how", ["signed out", "permission withdrawn", "account closed"])
def test_a_stream_ends_soon_after_its_viewer_may_see_no_calls(streams: Streams, watching: Client, how: str):
    def withdraw() -> None:
        user = User.objects.get(username="asha")
        if how == "signed out":
            watching.session.flush()
        elif how == "permission withdrawn":
            user.user_permissions.clear()
        else:
            User.objects.filter(pk=user.pk).update(is_active=False)

    async def watch() -> None:
        watcher = Watcher(streams, watching)
        await watcher.status()
        await watcher.next()
        await elsewhere(withdraw)
        assert (await watcher.next("event"))["event"] == "end"
        await asyncio.wait_for(watcher.task, 60)

    asyncio.run(watch())


def test_a_viewer_whose_reach_shrinks_is_told_everything_anew(streams: Streams, watching: Client):
    a_live_conversation()

    def shrink() -> None:
        user = User.objects.get(username="asha")
        user.user_permissions.remove(Permission.objects.get(codename="see_all_calls"))

    async def watch() -> None:
        watcher = Watcher(streams, watching)
        await watcher.status()
        assert len(json.loads((await watcher.next())["data"])["calls"]) == 1
        await elsewhere(shrink)
        data = json.loads((await watcher.next())["data"])
        assert (data["whole"], data["calls"]) == (True, [])
        await watcher.leave()

    asyncio.run(watch())


def test_who_may_not_watch_gets_the_answer_of_a_page(streams: Streams, transactional_db):
    client = Client()
    client.force_login(User.objects.create_user("plain", password="x", is_staff=True))

    async def ask() -> None:
        assert await Watcher(streams, Client()).status() == 302
        assert await Watcher(streams, client).status() == 403

    asyncio.run(ask())


def test_a_viewer_has_a_limited_number_of_streams(streams: Streams, watching: Client):
    async def watch() -> None:
        watchers = [Watcher(streams, watching) for _ in range(MOST_STREAMS)]
        assert [await watcher.status() for watcher in watchers] == [200] * MOST_STREAMS
        assert await Watcher(streams, watching).status() == 429
        await watchers[0].leave()
        one_more = Watcher(streams, watching)
        assert await one_more.status() == 200
        for watcher in [*watchers[1:], one_more]:
            await watcher.leave()

    asyncio.run(watch())


def test_streams_hold_no_thread_and_no_connection_each(watching: Client):
    streams = Streams(get_asgi_application(), Board())
    clients = []
    for number in range(3):
        user = User.objects.create_user(f"watcher-{number}", password="x", is_staff=True, is_superuser=True)
        clients.append(Client())
        clients[-1].force_login(user)

    async def watch() -> tuple[int, int]:
        before = threading.active_count()
        watchers = [Watcher(streams, client) for client in clients for _ in range(MOST_STREAMS)]
        for watcher in watchers:
            assert await watcher.status() == 200
            await watcher.next()
        held = threading.active_count() - before
        busy = await elsewhere(connections_in_use)
        for watcher in watchers:
            await watcher.leave()
        return held, busy

    held, busy = asyncio.run(watch())
    assert held <= 3  # the one that looks, and what asyncio keeps for the test's own
    assert busy <= 3


def connections_in_use() -> int:
    """Return how many connections of the pool are in use; SQLite has no pool."""
    if connection.vendor != "postgresql":
        return 0
    stats = connection.pool.get_stats() if connection.pool else {}
    return stats.get("pool_size", 0) - stats.get("pool_available", 0)


def test_nobody_looks_when_nobody_watches(streams: Streams, watching: Client):
    async def watch() -> None:
        watcher = Watcher(streams, watching)
        await watcher.status()
        await watcher.next()
        await watcher.leave()
        assert streams._looking
        await asyncio.wait_for(streams._looking, 60)

    asyncio.run(watch())
