"""The agents report: what it counts, that each figure leads to exactly its calls, and its file."""

import csv
import re
from datetime import UTC, date, datetime, timedelta
from html import unescape
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from calls import agents
from calls.choices import Direction, Disposition, Label, Role
from calls.models import Agent, AuditEntry, Conversation, Leg, StaffAccess
from tests.api.factories import a_conversation, a_leg, a_live_conversation, an_account, an_agent

pytestmark = pytest.mark.django_db

REPORT, CSV = "/admin/agents/", "/admin/agents/csv/"
NIGHT = datetime(2026, 11, 2, 20, 0, tzinfo=UTC)  # already the 3rd in India
INDIA = ZoneInfo("Asia/Kolkata")
RANGE = {"from": "2026-11-01", "to": "2026-11-05"}
FIGURE = re.compile(r'<td class="rl-amount"><a class="rl-link" href="([^"]+)">([\d,]+)</a></td>')


def a_missed_call(*rung: tuple[Agent, datetime], **values: Any) -> Conversation:
    """An inbound call that rang at these agents from these times on, and that nobody took."""
    started_at = min((at for _, at in rung), default=NIGHT)
    values = {
        "account": rung[0][0].account, "disposition": Disposition.MISSED, "answered_at": None, "talk_seconds": 0,
        "started_at": started_at, "agent": rung[0][0],
    } | values  # fmt: skip
    call = a_conversation(**values)
    for agent, at in rung:
        an_agent_leg(call, agent, disposition=Disposition.MISSED, started_at=at, ended_at=at + timedelta(seconds=20))
    return call


def an_agent_leg(call: Conversation, agent: Agent, **values: Any) -> Leg:
    return a_leg(call, label=Label.B, role=Role.AGENT, agent=agent, **values)


def a_talk(agent: Agent, begin: datetime, seconds: int | None, **values: Any) -> Conversation:
    """An answered call; with no ``seconds`` it is still going on."""
    if seconds is None:
        call = a_live_conversation(account=agent.account, agent=agent, started_at=begin, answered_at=begin)
    else:
        values = {"talk_seconds": seconds, "ended_at": begin + timedelta(seconds=seconds)} | values
        call = a_conversation(account=agent.account, agent=agent, started_at=begin, answered_at=begin, **values)
    an_agent_leg(call, agent, started_at=begin, answered_at=begin, ended_at=call.ended_at)
    return call


def figures_of(agent: Agent) -> agents.Figures:
    found = agents.by_day(
        Conversation.objects.all(), Leg.objects.all(), NIGHT - timedelta(days=9), NIGHT + timedelta(days=9), INDIA
    )
    return sum((figures for (pk, _), figures in found.items() if pk == agent.pk), agents.Figures())


def test_calls_talk_and_shares_are_counted_by_agent_and_by_day_in_the_viewers_zone():
    agent = an_agent()
    a_talk(agent, NIGHT - timedelta(hours=3), 60)
    a_talk(agent, NIGHT, 30, direction=Direction.OUTBOUND)
    a_missed_call((agent, NIGHT))
    a_talk(agent, NIGHT + timedelta(hours=1), None)
    found = agents.by_day(
        Conversation.objects.all(), Leg.objects.all(), NIGHT - timedelta(days=1), NIGHT + timedelta(days=1), INDIA
    )
    assert set(found) == {(agent.pk, date(2026, 11, 2)), (agent.pk, date(2026, 11, 3))}
    figures = found[agent.pk, date(2026, 11, 3)]
    assert (figures.calls, figures.ended, figures.answered, figures.talk_seconds) == (3, 2, 1, 30)
    assert (figures.answer_share, figures.average_talk_seconds) == (0.5, 30)
    assert (agents.Figures().answer_share, agents.Figures().average_talk_seconds) == (None, None)


@pytest.mark.parametrize(
    ("talk_begins", "talk_seconds", "was_busy"),
    [
        (-60, 120, True),
        (0, 10, True),
        (-60, 60, False),  # it ended at the moment the other one began to ring
        (1, 60, False),  # it began after
        (-60, None, True),  # it is still going on
        (-13 * 3600, None, False),  # its end was never told
    ],
)
def test_an_agent_is_busy_who_talks_when_a_call_begins_to_ring(
    talk_begins: int, talk_seconds: int | None, was_busy: bool
):
    agent = an_agent()
    a_missed_call((agent, NIGHT))
    a_talk(agent, NIGHT + timedelta(seconds=talk_begins), talk_seconds)
    figures = figures_of(agent)
    assert (figures.missed_free, figures.missed_busy) == ((0, 1) if was_busy else (1, 0))


def test_the_talk_of_another_agent_makes_nobody_busy():
    agent, other = an_agent("1"), an_agent("2")
    a_missed_call((agent, NIGHT), (other, NIGHT))
    a_talk(other, NIGHT - timedelta(seconds=9), 60)
    assert (figures_of(agent).missed_free, figures_of(agent).missed_busy) == (1, 0)
    assert (figures_of(other).missed_free, figures_of(other).missed_busy) == (0, 1)


def test_a_call_that_rang_twice_is_missed_once_and_while_free_if_that_is_so_of_either_time():
    agent = an_agent()
    a_missed_call((agent, NIGHT), (agent, NIGHT + timedelta(minutes=5)))
    a_talk(agent, NIGHT - timedelta(seconds=9), 60)
    assert (figures_of(agent).missed_free, figures_of(agent).missed_busy) == (1, 0)


def test_calls_that_somebody_took_and_outbound_calls_are_not_missed():
    agent, other = an_agent("1"), an_agent("2")
    taken = a_talk(other, NIGHT, 60)
    an_agent_leg(taken, agent, disposition=Disposition.MISSED, started_at=NIGHT)
    a_missed_call((agent, NIGHT), direction=Direction.OUTBOUND)
    a_missed_call((agent, NIGHT), disposition=Disposition.VOICEMAIL)
    assert (figures_of(agent).missed_free, figures_of(agent).missed_busy) == (1, 0)


def _a_week_of_calls() -> list[Agent]:
    """Agents with calls of every kind, at the edges of days too."""
    people = [an_agent(str(number), name=f"Agent {number}") for number in range(2)]
    people.append(an_agent("9", name="Zoya", account=an_account("agra-sales")))
    for number, agent in enumerate(people):
        for day in range(4):
            begin = datetime(2026, 10, 31, 18, 30, tzinfo=UTC) + timedelta(days=day, microseconds=-1 if day % 2 else 0)
            a_talk(agent, begin, 60 * (number + 1))
            a_missed_call((agent, begin + timedelta(seconds=30)), (people[0], begin + timedelta(hours=1)))
            a_missed_call((agent, begin + timedelta(hours=day)), account=agent.account)
    a_live_conversation(agent=people[0], started_at=NIGHT)
    return people


def _figures(page: str) -> list[tuple[str, int]]:
    return [(unescape(url), int(count.replace(",", ""))) for url, count in FIGURE.findall(page)]


def _rows_of(client: Client, url: str) -> int:
    """Return how many calls the list at ``url`` shows, all pages of it."""
    response = client.get(url)
    assert response.status_code == 200
    return response.context["cl"].queryset.count()


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/New_York"])
def test_each_figure_leads_to_exactly_the_calls_it_counts(admin_client: Client, zone: str):
    people = _a_week_of_calls()
    admin_client.cookies["zone"] = zone
    busy = 0
    pages = [(REPORT, RANGE)]
    if zone == "Asia/Kolkata":
        pages += [(REPORT, RANGE | {"account": people[2].account_id}), (f"{REPORT}{people[0].pk}/", RANGE)]
    for address, query in pages:
        found = _figures(admin_client.get(address, query).content.decode())
        assert len(found) >= 4
        assert [(url, count) for url, count in found if _rows_of(admin_client, url) != count] == []
        busy += sum(count for url, count in found if "busy" in url)
    assert busy


def test_a_viewer_with_a_limited_reach_finds_only_its_agents_and_the_same_numbers_in_the_lists():
    people = _a_week_of_calls()
    user = User.objects.create_user("limited", password="x", is_staff=True)
    names = ["view_conversation", "view_agent", "see_own_calls"]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    StaffAccess.objects.get_or_create(user=user)[0].agents.set([people[1]])
    client = Client()
    client.force_login(user)
    page = client.get(REPORT, RANGE).content.decode()
    assert "Agent 1" in page
    assert "Agent 0" not in page
    assert len(_figures(page)) == 4
    assert all(_rows_of(client, url) == count for url, count in _figures(page))
    assert client.get(f"{REPORT}{people[0].pk}/").status_code == 404
    stolen = f"/admin/calls/conversation/?missed_by={people[0].pk}:free"
    assert _rows_of(client, stolen) == 0


def test_the_file_has_a_line_for_each_agent_and_day_and_adds_up_to_the_page(admin_client: Client):
    people = _a_week_of_calls()
    Agent.objects.filter(pk=people[0].pk).update(name="=1+1")
    response = admin_client.get(CSV, RANGE)
    lines = list(csv.DictReader(b"".join(response).decode().splitlines()))
    assert {line["day"] for line in lines} <= {f"2026-11-0{day}" for day in range(1, 6)}
    assert {line["agent"] for line in lines} == {"'=1+1", "Agent 1", "Zoya"}
    page = admin_client.get(REPORT, RANGE)
    for line in page.context["lines"]:
        of_agent = [each for each in lines if each["agent"].strip("'") == line.title]
        assert sum(int(each["calls"]) for each in of_agent) == line.figures.calls
        assert sum(int(each["missed while free"]) for each in of_agent) == line.figures.missed_free
        assert sum(int(each["talk seconds"]) for each in of_agent) == line.figures.talk_seconds
    assert AuditEntry.objects.filter(action="export", target_name="Agents report").exists()
    one = b"".join(admin_client.get(CSV, RANGE | {"agent": people[1].pk})).decode()
    assert {line["agent"] for line in csv.DictReader(one.splitlines())} == {"Agent 1"}


def test_the_report_needs_the_permission_to_see_agents_and_calls():
    user = User.objects.create_user("plain", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_conversation"))
    client = Client()
    client.force_login(user)
    agent = an_agent()
    assert [client.get(url).status_code for url in (REPORT, CSV, f"{REPORT}{agent.pk}/")] == [403] * 3


@pytest.mark.parametrize("query", [{"from": "2026-01-01", "to": "2026-11-01"}, {"from": "nonsense"}, {"range": "ever"}])
def test_a_range_that_cannot_be_shown_is_named_with_the_remedy(admin_client: Client, query: dict[str, str]):
    page = admin_client.get(REPORT, query)
    assert page.status_code == 200
    assert page.context["problem"]
    assert admin_client.get(CSV, query).status_code == 400


def test_an_account_that_makes_no_sense_is_not_found(admin_client: Client):
    assert [admin_client.get(REPORT, {"account": text}).status_code for text in ("0", "x", "-1")] == [404] * 3


def test_without_calls_the_page_says_what_to_do(admin_client: Client):
    agent = an_agent()
    assert "Choose a longer one" in admin_client.get(REPORT).content.decode()
    assert "Choose a longer one" in admin_client.get(f"{REPORT}{agent.pk}/").content.decode()


def test_the_report_costs_the_same_for_two_agents_and_for_twenty_two(
    admin_client: Client, django_assert_max_num_queries
):
    def ask(count: int) -> int:
        for number in range(count):
            agent = Agent.objects.get_or_create(account=an_account(), external_id=str(number))[0]
            a_talk(agent, NIGHT, 60)
            a_missed_call((agent, NIGHT))
        with django_assert_max_num_queries(40) as queries:
            admin_client.get(REPORT, RANGE)
        return len(queries)

    ask(2)
    assert ask(2) == ask(22)


def test_a_state_that_is_unknown_shows_no_calls(admin_client: Client):
    agent = an_agent()
    a_missed_call((agent, NIGHT))
    address = "/admin/calls/conversation/?missed_by="
    assert _rows_of(admin_client, f"{address}{agent.pk}:free") == 1
    assert [_rows_of(admin_client, address + text) for text in ("x:free", f"{agent.pk}:asleep", f"{agent.pk}")] == [
        0
    ] * 3
