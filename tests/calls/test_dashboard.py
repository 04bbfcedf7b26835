"""The first page: every figure is the number of calls in the list behind it."""

import random
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from uuid import uuid4

import pytest
import time_machine
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.contrib.admin import site
from django.contrib.auth.models import Group, Permission, User
from django.db import connection, transaction
from django.http import QueryDict
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from playwright.sync_api import expect

from calls import rollups
from calls.admin.links import calls_list
from calls.choices import Direction, Disposition, Reason, State
from calls.intake import Arrival, lock_account, take_in
from calls.models import Account, Agent, Conversation, Leg, StaffAccess, Team
from tests.calls.test_rollups import a_cdr

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 20, 9, 40, 12, tzinfo=UTC)
LINK = re.compile(
    r'<a[^>]* href="(/admin/calls/conversation/\?[^"]*)"[^>]*?(?:title="|aria-label="\d\d:00: )([\d,]+) call'
)
ANY_LINK = re.compile(r'href="/admin/calls/conversation/\?')


@pytest.fixture
def accounts(db) -> list[Account]:
    """Three accounts with a thousand calls at few hours of five weeks, some of them at the edges of days and weeks."""
    found = [
        Account.objects.create(slug=slug, provider="piopiy", unit=unit)
        for slug, unit in [("delhi", "INR"), ("pune", "INR"), ("goa", "coins")]
    ]
    agents = [Agent.objects.create(account=account, external_id=str(n)) for account in found for n in (201, 202)]
    dice = random.Random(7)
    edges = [timedelta(days=7), timedelta(days=14), timedelta(hours=15, minutes=10, seconds=12), timedelta(0)]
    hours = [timedelta(hours=hour) for hour in (0, 14)]
    calls = []
    for number in range(1000):
        ago = dice.choice(edges) if number % 40 == 0 else timedelta(days=dice.randrange(38)) + dice.choice(hours)
        if number % 40:
            ago = ago + timedelta(seconds=dice.randrange(3600))
        account = dice.choice(found)
        word = dice.choice([*Disposition, Disposition.ANSWERED, Disposition.MISSED, None])
        is_paid = dice.random() < 0.5
        calls.append(
            Conversation(
                account=account,
                direction=dice.choice(Direction.values),
                state=State.ENDED if word else State.LIVE,
                disposition=word,
                reason=Reason.CUSTOMER_CDR,
                customer_number=f"+9190000000{number % 90:02}",
                did=dice.choice(["", "+918000000001", "+918000000012"]),
                agent=dice.choice([None, *(agent for agent in agents if agent.account_id == account.pk)]),
                started_at=NOW - ago - timedelta(microseconds=dice.randrange(2)),
                talk_seconds=dice.randrange(300) if word == Disposition.ANSWERED else None,
                ring_seconds=dice.randrange(30),
                cost=Decimal(dice.randrange(200)) / 100 if is_paid else None,
                cost_unit=account.unit if is_paid else "",
                extra_params=dice.choice([{}, {"campaign": "Diwali, 2026"}, {"campaign": "Holi"}, {"campaign": ""}]),
                last_heard_at=NOW,
            )
        )
    Conversation.objects.bulk_create(calls)
    return found


def work_out(moment: datetime) -> None:
    """Let the rollups be worked out up to a moment."""
    for account in Account.objects.all():
        with transaction.atomic():
            while rollups.refresh(lock_account(account.pk), moment):
                pass


def figures_of(client: Client, query: str = "") -> list[tuple[str, int]]:
    """Return the address and the number of calls of every link to the list of calls; there is none without one."""
    page = client.get(f"/admin/{query}").content.decode()
    found = [(unescape(address), int(calls.replace(",", ""))) for address, calls in LINK.findall(page)]
    assert len(found) == len(ANY_LINK.findall(page)) > 10
    return found


def calls_in(client: Client, address: str) -> int:
    """Return how many calls the list at an address holds; the page is not drawn, which takes most of the time."""
    path, _, query = address.partition("?")
    request = RequestFactory().get(path, QueryDict(query).dict())
    request.user = User.objects.get(pk=client.session["_auth_user_id"])
    zone = client.cookies.get("zone")
    with timezone.override(zone.value if zone else settings.TIME_ZONE_DISPLAY):
        found = site.get_model_admin(Conversation).get_changelist_instance(request)
        return found.queryset.count()


def check_links(client: Client, query: str = "") -> None:
    """Follow every link of the page."""
    for address, calls in dict(figures_of(client, query)).items():
        assert calls_in(client, address) == calls, address


@pytest.mark.parametrize("worked_out", ["nothing", "all but today"])
@time_machine.travel(NOW, tick=False)
def test_every_figure_is_the_number_of_calls_in_the_list_behind_it(admin_client, accounts, worked_out):
    if worked_out != "nothing":
        work_out(NOW - timedelta(days=1))
    check_links(admin_client)


@pytest.mark.parametrize(
    ("zone", "query"),
    [
        ("Asia/Kathmandu", "?range=7d"),
        ("Asia/Kolkata", "?range=30d&account={0}"),
        ("America/New_York", "?range=30d&heat=rate"),  # the clocks were put back in it
        ("Australia/Lord_Howe", "?range=yesterday&account={0}&account={2}"),
        ("UTC", "?range=custom&from=2026-11-01&to=2026-11-09"),
    ],
)
@time_machine.travel(NOW, tick=False)
def test_whatever_is_picked_the_figures_and_the_lists_agree(admin_client, accounts, zone, query):
    work_out(NOW - timedelta(hours=3))
    admin_client.cookies["zone"] = zone
    check_links(admin_client, query.format(*(account.pk for account in accounts)))


def staff(role: str, accounts: list[Account]) -> Client:
    """Return the client of somebody with a role, who is concerned with the first account and two of its agents."""
    person = User.objects.create_user(role, is_staff=True)
    person.groups.add(Group.objects.get(name=role))
    agents = list(accounts[0].agents.all())
    access = StaffAccess.objects.create(user=person, team=Team.objects.create(name="First"))
    access.accounts.add(accounts[0])
    access.agents.add(agents[0])
    access.team.agents.add(agents[1])
    client = Client()
    client.force_login(person)
    return client


@pytest.mark.parametrize("role", ["viewer", "agent", "supervisor", "manager", "auditor", "administrator"])
@time_machine.travel(NOW, tick=False)
def test_every_role_has_the_figures_of_the_calls_it_may_see(accounts, role):
    # A call that an agent of the first account took part in and another one ended.
    call = Conversation.objects.filter(account=accounts[0], started_at__gte=NOW - timedelta(hours=14)).first()
    Leg.objects.create(
        account=accounts[0], conversation=call, external_id="a", label="a", role="agent", direction="inbound",
        agent=accounts[0].agents.first(),
    )  # fmt: skip
    work_out(NOW)
    client = staff(role, accounts)
    check_links(client, "?range=7d")
    calls = Conversation.objects.filter(started_at__gte=datetime(2026, 11, 13, 18, 30, tzinfo=UTC), started_at__lt=NOW)
    first, second = accounts[0].agents.all()
    wanted = {
        "viewer": calls.filter(account=accounts[0]),
        "manager": calls.filter(account=accounts[0]),
        "agent": calls.filter(agent=first) | calls.filter(pk=call.pk),
        "supervisor": calls.filter(agent=second),
    }
    assert figure(client, "Calls", "?range=7d")["calls"] == wanted.get(role, calls).count() > 0


@time_machine.travel(NOW, tick=False)
def test_who_may_see_no_call_is_told_so(accounts):
    person = User.objects.create_user("nobody", is_staff=True)
    person.user_permissions.add(Permission.objects.get(codename="view_conversation"))
    client = Client()
    client.force_login(person)
    page = client.get("/admin/").content.decode()
    assert "There is no call that you may see yet" in page
    assert "/admin/calls/conversation/?" not in page


def figure(client: Client, title: str, query: str = "") -> dict:
    """Return a figure of the page by its title."""
    return next(each for each in client.get(f"/admin/{query}").context["figures"] if each["title"] == title)


@time_machine.travel(NOW, tick=False)
def test_today_is_compared_with_the_same_time_of_the_same_day_a_week_before(admin_client, account):
    day_begins = datetime(2026, 11, 19, 18, 30, tzinfo=UTC)  # in Kolkata
    week = timedelta(days=7)
    moments = [
        NOW - timedelta(seconds=1), day_begins, day_begins - timedelta(microseconds=1),
        NOW - week, NOW - week - timedelta(seconds=1), day_begins - week, day_begins - week - timedelta(seconds=1),
        NOW - week - timedelta(hours=2),
    ]  # fmt: skip
    with transaction.atomic():
        lock_account(account.pk)
        take_in(account, [Arrival(uuid4(), NOW, [a_cdr(f"call-{n}", moment)]) for n, moment in enumerate(moments)])
    missed = figure(admin_client, "Missed")
    assert (missed["text"], missed["text_before"], missed["change"]) == ("2", "3", "1 less than")
    assert (missed["trend"], missed["mood"]) == ("down", "good")
    assert figure(admin_client, "Answer rate")["text"] == "0.0 %"
    assert figure(admin_client, "Average talk")["change"] == "nothing to compare with"


@time_machine.travel(NOW, tick=False)
def test_money_is_shown_by_unit_and_never_added_up(admin_client, accounts):
    calls = Conversation.objects.filter(started_at__gte=datetime(2026, 11, 19, 18, 30, tzinfo=UTC), started_at__lt=NOW)
    for unit in ("INR", "coins"):
        paid = calls.filter(cost_unit=unit)
        cost = figure(admin_client, f"Cost in {unit}")
        assert cost["calls"] == paid.count() > 0
        assert cost["text"] == f"{sum(call.cost for call in paid):,.2f} {unit}"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?range=custom", "Give both days"),
        ("?range=custom&from=2026-11-31&to=2026-11-31", "Give both days"),
        ("?range=custom&from=2026-11-05&to=2026-11-04", "must not come after the last"),
        ("?range=custom&from=2027-01-01&to=2027-01-02", "still to come"),
        ("?range=custom&from=2020-01-01&to=2026-01-02", "more than 366 days"),
    ],
)
@time_machine.travel(NOW, tick=False)
def test_days_that_cannot_be_shown_are_said_to_be_so(admin_client, accounts, query, words):
    answer = admin_client.get(f"/admin/{query}")
    assert words in answer.content.decode()
    assert answer.context["span"].choice == "today"


@pytest.mark.parametrize("query", ["?range=never", "?account=x&account=77&account=", "?heat=cold", "?from=1"])
def test_what_cannot_be_understood_is_left_aside(admin_client, account, query):
    take_in_one(account)
    assert admin_client.get(f"/admin/{query}").status_code == 200


@time_machine.travel(NOW, tick=False)
def test_the_page_costs_the_same_for_few_and_many_rows(admin_client, account):
    def cost() -> int:
        admin_client.get("/admin/")  # the session is renewed once
        with CaptureQueriesContext(connection) as queries:
            admin_client.get("/admin/")
        return len(queries)

    take_in_one(account)
    few = cost()
    for number in range(20):
        take_in_one(Account.objects.create(slug=f"account-{number}", provider="piopiy"))
    assert cost() == few


def take_in_one(account: Account) -> None:
    with transaction.atomic():
        take_in(lock_account(account.pk), [Arrival(uuid4(), NOW, [a_cdr("call-1", NOW - timedelta(minutes=5))])])


def test_a_list_of_calls_is_described_by_what_it_holds(admin_client, accounts):
    agent = accounts[0].agents.first()
    calls = Conversation.objects
    for filters, wanted in [
        ({"account": accounts[:2]}, calls.filter(account__in=accounts[:2])),
        ({"account": accounts[0], "agent": agent}, calls.filter(agent=agent)),
        ({"agent": None}, calls.filter(agent=None)),
        ({"disposition": ["missed", "busy"]}, calls.filter(disposition__in=["missed", "busy"])),
        ({"campaign": "Diwali, 2026"}, calls.filter(extra_params__campaign="Diwali, 2026")),
        ({"cost_unit": "coins"}, calls.filter(cost_unit="coins")),
        ({"did": "+918000000001", "state": State.LIVE}, calls.filter(did="+918000000001", state="live")),
    ]:
        assert calls_in(admin_client, calls_list(**filters)) == wanted.count() > 0, filters


# --- In the browser --------------------------------------------------------------------------------------------------


@pytest.mark.browser
def test_a_manager_picks_days_and_an_account_and_follows_a_figure(live_server, page, transactional_db):
    User.objects.create_superuser("staff", password="a long password")
    delhi, pune = (Account.objects.create(slug=slug, provider="piopiy") for slug in ("delhi", "pune"))
    for account, count in [(delhi, 3), (pune, 2)]:
        started = timezone.now() - timedelta(days=3)
        arrivals = [Arrival(uuid4(), started, [a_cdr(f"call-{n}", started)]) for n in range(count)]
        with transaction.atomic():
            take_in(lock_account(account.pk), arrivals)
    complaints = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(f"{live_server.url}/admin/")
    page.locator("input[name=username]").fill("staff")
    page.locator("input[name=password]").fill("a long password")
    page.locator("input[name=password]").press("Enter")
    page.get_by_role("link", name="7 days").click()
    missed = page.locator(".rl-figure").filter(has_text="Missed").get_by_role("link").first
    expect(missed).to_have_text("5")
    page.locator("#rl-accounts summary").press("Enter")
    page.get_by_label("delhi").check()
    page.get_by_role("button", name="Show these accounts").click()
    expect(missed).to_have_text("3")
    page.get_by_role("link", name="Answer rate").press("Enter")
    expect(page.get_by_role("heading", name="Answer rate in per cent by weekday and hour")).to_be_visible()
    expect(page.get_by_role("link", name="7 days")).to_have_attribute("aria-current", "true")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    serious = [found for found in Axe().run(page).response["violations"] if found["impact"] in {"serious", "critical"}]
    assert not serious
    missed.click()
    expect(page.locator("#result_list tbody tr")).to_have_count(3)
    assert not complaints
