"""The admin of calls: what staff find, see and may change."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from uuid import uuid4

import pytest
import time_machine
from django.contrib.auth.models import Permission, User
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from calls.choices import Direction, Disposition, EventKind, Flag, Label, State
from calls.counting import CAP, count_up_to_cap
from calls.intake import Arrival, lock_account, take_in
from calls.models import (
    Account,
    Agent,
    Alert,
    AlertRule,
    ApiKey,
    BalanceReading,
    Conversation,
    ConversationAlias,
    ConversationRedirect,
    Leg,
    Tag,
)
from calls.models.api_key import digest_of
from calls.records import AgentRef, Alias, LegCdr, LiveEvent
from calls.searching import find
from tests.calls.rows import START, make_call

pytestmark = pytest.mark.django_db

LIST = "/admin/calls/conversation/"
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def account() -> Account:
    return Account.objects.create(slug="delhi-support", name="Delhi support", provider="piopiy")


def page_of(call: Conversation) -> str:
    return reverse("admin:calls_conversation_change", args=[call.pk])


def rows(response) -> list[Conversation]:
    """Return the calls that a list page shows."""
    return list(response.context["cl"].result_list)


def take_in_call(account: Account) -> Conversation:
    """Store, as a drain does, an inbound call that an agent took: four live events and two final reports."""
    shared = {
        "aliases": (Alias("conversation", "call-1"),),
        "conversation_id": "call-1",
        "call_direction": Direction.INBOUND,
        "direction": Direction.INBOUND,
    }
    caller = shared | {"leg_id": "leg-a", "label": Label.A, "from_number": "919000000001", "to_number": "918000000000"}
    agent = shared | {
        "leg_id": "leg-b",
        "label": Label.B,
        "from_number": "918000000000",
        "to_number": "919000000002",
        "agent": AgentRef(external_id="202", name="Asha"),
    }

    def event(leg: dict, kind: EventKind, seconds: int, *, is_answer: bool = False) -> LiveEvent:
        at = START + timedelta(seconds=seconds)
        return LiveEvent(**leg, kind=kind, provider_status=f"in_{kind}", occurred_at=at, is_answer=is_answer)

    def cdr(leg: dict, started: int, cost: str, balance: str | None = None) -> LegCdr:
        return LegCdr(
            **leg,
            disposition=Disposition.ANSWERED,
            started_at=START + timedelta(seconds=started),
            answered_at=START + timedelta(seconds=5),
            ended_at=START + timedelta(seconds=18),
            ring_seconds=5 - started,
            talk_seconds=13,
            duration_seconds=18 - started,
            cost=Decimal(cost),
            balance_after=Decimal(balance) if balance else None,
            extra_params={"Name": "Akil", "ID": 8915726},
            flags=(Flag.CLOCK_SKEW,),
        )

    records = [
        event(caller, EventKind.STARTED, 0),
        event(agent, EventKind.RINGING, 2),
        event(agent, EventKind.ANSWERED, 5, is_answer=True),
        event(caller, EventKind.HANGUP, 18),
        cdr(caller, 0, "0.450000", "878.900000"),
        cdr(agent, 2, "0.100000"),
    ]
    with transaction.atomic():
        arrivals = [Arrival(uuid4(), START + timedelta(seconds=20), [record]) for record in records]
        take_in(lock_account(account.pk), arrivals)
    return Conversation.objects.get(account=account)


# --- Finding a call --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "typed",
    [
        "090000 00001",
        "+91 90000-00001",
        "9000000001",
        "919000000001",
        "0091 90000 00001",
        "(0)90000.00001",
        "00000 1",
        "00001",
        " +919000000001 ",
    ],
)
def test_it_finds_a_number_in_any_spelling_or_part(admin_client, account, typed):
    wanted = make_call(account)
    make_call(account, customer_number="+919000000077")
    assert rows(admin_client.get(LIST, {"q": typed})) == [wanted]


def test_it_finds_a_number_written_with_a_digit_that_is_not_dialled(admin_client, account):
    british = Account.objects.create(slug="london", provider="telecmi", phone_region="GB")
    wanted = make_call(british, customer_number="+447700900123", did="")
    assert rows(admin_client.get(LIST, {"q": "+44 (0)7700 900123"})) == [wanted]


def test_it_finds_a_call_by_its_did_and_by_every_id(account):
    call = make_call(account)
    for scheme in ("uuid", "request", "call"):  # intake keeps every id of a call and of its legs among its aliases
        ConversationAlias.objects.create(account=account, conversation=call, scheme=scheme, value=f"{scheme}-3")
    make_call(account, customer_number="+919000000077", did="+918000000044")
    for typed in ["80000 00000", "uuid-3", "request-3", "call-3", str(call.pk)]:
        assert list(find(Conversation.objects.all(), typed)) == [call], typed


def test_a_word_finds_ids_only_and_not_the_digits_in_it(account):
    make_call(account)
    assert not find(Conversation.objects.all(), "leg-9").exists()


def test_the_did_filter_takes_any_spelling(admin_client, account):
    wanted = make_call(account)
    make_call(account, did="+918000000044")
    assert rows(admin_client.get(LIST, {"did": "080000 00000"})) == [wanted]


def test_every_filter_narrows_the_list_down(admin_client, account):
    other = Account.objects.create(slug="pune", provider="callerdesk")
    agent = Agent.objects.create(account=account, external_id="202", name="Asha")
    tag = Tag.objects.create(name="VIP")
    wanted = make_call(account, agent=agent, talk_seconds=90, direction=Direction.OUTBOUND)
    wanted.tags.add(tag)
    live = make_call(other, state=State.LIVE, disposition=None, started_at=START + timedelta(days=1))
    for query in [
        {"account__id__exact": account.pk},
        {"agent__id__exact": agent.pk},
        {"direction__exact": "outbound"},
        {"disposition__exact": "answered"},
        {"state__exact": "ended"},
        {"talk_seconds_from": "60", "talk_seconds_to": "90"},
        {"tags__id__exact": tag.pk},
        {"started_at_to_0": "2026-11-02"},
    ]:
        assert rows(admin_client.get(LIST, query)) == [wanted], query
    assert rows(admin_client.get(LIST, {"state__exact": "live"})) == [live]


def test_the_time_range_is_in_the_viewers_zone(admin_client, account):
    # 00:30 of 3 November in Kolkata is still 2 November in UTC.
    late = make_call(account, started_at=datetime(2026, 11, 2, 19, 0, tzinfo=UTC))
    day = {"started_at_from_0": "2026-11-03", "started_at_to_0": "2026-11-03"}
    admin_client.cookies["zone"] = "Asia/Kolkata"
    assert rows(admin_client.get(LIST, day)) == [late]
    hour = {"started_at_from_0": "2026-11-03", "started_at_from_1": "00:45"}
    assert rows(admin_client.get(LIST, hour)) == []
    admin_client.cookies["zone"] = "Europe/London"
    assert rows(admin_client.get(LIST, day)) == []


# --- The list --------------------------------------------------------------------------------------------------------


def test_the_list_shows_a_call_on_one_line(admin_client, account):
    agent = Agent.objects.create(account=account, external_id="202", name="Asha")
    make_call(account, agent=agent, ring_seconds=5, talk_seconds=73, cost=Decimal("0.450000"), cost_unit="INR")
    admin_client.cookies["zone"] = "Asia/Kolkata"
    with time_machine.travel(START + timedelta(minutes=9), tick=False):
        page = admin_client.get(LIST).content.decode()
    line = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page[page.index('class="data-row') :]))
    assert line.index("+91 90000 00001") < line.index("Inbound") < line.index("Answered") < line.index("Asha")
    assert "+91 80000 00000" in line
    assert "Delhi support" in line
    assert "12:00:00 9 min ago" in line
    assert "0:05" in line
    assert "1:13" in line
    assert "0.45 INR" in line
    assert "Monday, 2 November 2026, 12:00:00 (Asia/Kolkata)" in page


def test_a_live_call_is_told_apart(admin_client, account):
    make_call(account, state=State.LIVE, disposition=None)
    assert '<span class="rl-word rl-live">Live</span>' in admin_client.get(LIST).content.decode()


def test_the_list_costs_the_same_for_two_calls_and_twenty_two(admin_client, account):
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(LIST)
        assert not [query for query in queries.captured_queries if "DISTINCT" in query["sql"]]
        return len(queries)

    def add(count: int) -> None:
        for _ in range(count):
            name = uuid4().hex[:8]
            agent = Agent.objects.create(account=account, external_id=name, name=name)
            make_call(Account.objects.create(slug=name, provider="piopiy"), agent=agent)

    add(2)
    few = cost()
    add(20)
    assert cost() == few


def test_counting_stops_at_the_cap(account):
    make_call(account)
    with CaptureQueriesContext(connection) as queries:
        assert count_up_to_cap(Conversation.objects.all()) == 1
    assert f"LIMIT {CAP + 1}" in queries.captured_queries[0]["sql"]
    assert "ORDER BY" not in queries.captured_queries[0]["sql"]


def test_the_list_says_more_than_the_cap_instead_of_counting_on(admin_client, account, monkeypatch):
    monkeypatch.setattr("calls.counting.CAP", 60)
    for _ in range(61):
        make_call(account)
    page = re.sub(r"<[^>]*>", "", admin_client.get(LIST).content.decode())
    assert "more than 60 conversations" in re.sub(r"\s+", " ", page)


def test_the_tag_action_puts_a_tag_on_the_chosen_calls(admin_client, account):
    first, second, third = (make_call(account) for _ in range(3))
    tag = Tag.objects.create(name="VIP")
    data = {"action": "add_tag", "tag": tag.pk, "_selected_action": [first.pk, second.pk]}
    response = admin_client.post(LIST, data, follow=True)
    assert "“VIP” is now on 2 calls." in response.content.decode()
    assert set(tag.conversations.all()) == {first, second}
    assert third.tags.count() == 0


@pytest.mark.parametrize("tag", ["", "999", "x"])
def test_the_tag_action_without_a_tag_changes_nothing(admin_client, account, tag):
    call = make_call(account)
    data = {"action": "add_tag", "tag": tag, "_selected_action": [call.pk]}
    assert admin_client.post(LIST, data, follow=True).status_code == 200
    assert call.tags.count() == 0


# --- The page of a call ----------------------------------------------------------------------------------------------


def test_the_page_tells_the_call_from_its_start_to_its_end(admin_client, account):
    call = take_in_call(account)
    response = admin_client.get(page_of(call))
    told = [(moment.title, str(moment.leg), moment.gap_seconds) for moment in response.context["moments"]]
    assert told == [
        ("Started", "A-leg, customer", 0),
        ("Started", "B-leg, agent", 2),
        ("Ringing", "B-leg, agent", 0),
        ("Answered", "B-leg, agent", 3),
        ("Answered", "A-leg, customer", 0),
        ("Hung up", "A-leg, customer", 13),
        ("Ended", "B-leg, agent", 0),
    ]
    assert "+13 s" in response.content.decode()


def test_the_page_draws_each_leg_on_one_scale(admin_client, account):
    caller, agent = admin_client.get(page_of(take_in_call(account))).context["drawing"].lanes
    assert [tuple(bar)[:3] for bar in caller.bars] == [("ring", "0.00%", "27.78%"), ("talk", "27.78%", "72.22%")]
    assert [tuple(bar)[:3] for bar in agent.bars] == [("ring", "11.11%", "16.67%"), ("talk", "27.78%", "72.22%")]
    assert [mark.x for mark in agent.marks] == ["11.11%", "27.78%"]


def test_the_page_tells_money_reason_flags_and_parameters(admin_client, account):
    page = unescape(admin_client.get(page_of(take_in_call(account))).content.decode())
    for text in [
        "0.45 INR",
        "0.10 INR",
        "0.55 INR",
        "878.90 INR",
        "The provider's final report on the customer's leg says so.",
        "A-leg, customer: final report says answered, rang 0:05, talk 0:13.",
        "The provider's clock and our time of arrival are far apart",
        '"ID": 8915726',
        "Asha",
    ]:
        assert text in page, text


def test_the_page_costs_the_same_for_few_and_many_legs_and_other_calls(admin_client, account):
    call = take_in_call(account)
    tag = Tag.objects.create(name="VIP")
    call.tags.add(tag)

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(page_of(call))
        return len(queries)

    make_call(account)
    few = cost()
    for number in range(20):
        agent = Agent.objects.create(account=account, external_id=f"agent-{number}")
        make_call(account, agent=agent)
        Leg.objects.create(
            account=account, conversation=call, external_id=f"leg-{number}", label="b", role="agent", agent=agent
        )
    assert cost() == few


def test_calls_whose_clocks_disagree_have_no_drawing_but_a_list(admin_client, account):
    call = make_call(account)
    Leg.objects.create(
        account=account,
        conversation=call,
        external_id="leg",
        label="a",
        role="customer",
        disposition="answered",
        started_at=datetime(1970, 1, 1, tzinfo=UTC),
        ended_at=datetime(9999, 12, 30, tzinfo=UTC),
    )
    response = admin_client.get(page_of(call))
    assert response.status_code == 200
    assert response.context["drawing"] is None
    assert len(response.context["moments"]) == 2


def test_what_providers_write_is_escaped_everywhere(admin_client, account):
    agent = Agent.objects.create(account=account, external_id=SCRIPT, name=SCRIPT, extension="<i>", phone="<i>")
    texts = ["external_id", "hangup_cause", "request_id", "recording"]
    call = make_call(
        account,
        agent=agent,
        customer_number=SCRIPT,
        did=SCRIPT,
        extra_params={SCRIPT: SCRIPT},
        flags=[SCRIPT],
        cost_unit="<b>x",
        cost=1,
        **dict.fromkeys(texts, SCRIPT),
    )
    make_call(account, customer_number=SCRIPT)
    leg = Leg.objects.create(
        account=account,
        conversation=call,
        external_id=SCRIPT,
        label="a",
        role="customer",
        agent=agent,
        from_number=SCRIPT,
        to_number=SCRIPT,
        hangup_cause=SCRIPT,
        recording=SCRIPT,
        started_at=START,
        balance_after=1,
    )
    call.events.create(
        account=account,
        leg=leg,
        kind="started",
        leg_external_id=SCRIPT,
        leg_label="<",
        provider_status=SCRIPT,
        occurred_at=START,
        received_at=START,
    )
    BalanceReading.objects.create(
        account=account, conversation=call, leg=leg, occurred_at=START, received_at=START, balance=1, charge=1
    )
    pages = [
        LIST,
        page_of(call),
        "/admin/calls/agent/",
        "/admin/calls/balancereading/",
        "/admin/search/?s=1&extended=1",
    ]
    for address in [*pages, f"{LIST}?q={SCRIPT}", f"/admin/calls/agent/{agent.pk}/change/"]:
        response = admin_client.get(address)
        assert response.status_code == 200, address
        assert SCRIPT not in response.content.decode(), address
        assert "<b>x" not in response.content.decode(), address


def test_saving_a_call_changes_its_tags_and_no_derived_column(admin_client, account):
    call = make_call(account, talk_seconds=13)
    tag = Tag.objects.create(name="VIP")
    data = {"tags": [tag.pk], "talk_seconds": 99, "customer_number": "1", "disposition": "missed"}
    admin_client.post(page_of(call), data)
    call.refresh_from_db()
    assert list(call.tags.all()) == [tag]
    assert (call.talk_seconds, call.disposition, call.customer_number) == (13, "answered", "+919000000001")


def test_saving_tags_does_not_write_the_row_back(admin_client, account):
    call = make_call(account)
    with CaptureQueriesContext(connection) as queries:
        admin_client.post(page_of(call), {"tags": [Tag.objects.create(name="VIP").pk]})
    assert not [query for query in queries.captured_queries if 'UPDATE "calls_conversation"' in query["sql"]]


def test_calls_are_neither_added_nor_deleted_by_hand(admin_client, account):
    call = make_call(account)
    assert admin_client.get(f"{LIST}add/").status_code == 403
    assert admin_client.post(f"{LIST}{call.pk}/delete/", {"post": "yes"}).status_code == 403


def test_an_id_that_was_merged_leads_to_the_call(admin_client, account):
    call = make_call(account)
    former = ConversationRedirect.objects.create(id=uuid4(), conversation=call)
    response = admin_client.get(f"{LIST}{former.pk}/change/")
    assert response.headers["Location"] == page_of(call)


def test_a_viewer_without_the_permission_for_deliveries_sees_none_of_them(client, account):
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__in=["view_conversation", "see_all_calls"]))
    client.force_login(viewer)
    page = client.get(page_of(take_in_call(account))).content.decode()
    assert "Your login may not see deliveries." in page
    assert "Process again" not in page


# --- Hostile addresses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "q=%00",
        "q=%ED%A0%80",
        "q=%F0%9F%93%9E",
        "q=" + "9" * 5000,
        "status__exact=%00",
        "started_at__regex=(a%2B)%2B$",
        "customer_number__iregex=(a%2B)%2B$",
        "extra_params__a__contains=1",
        "extra_params__exact={",
        "account__provider__exact=piopiy",
        "started_at_from_0=0001-01-01",
        "started_at_to_0=9999-12-31",
        "started_at_from_0=x",
        "started_at_from_0=2026-11-02&started_at_from_1=25:99",
        "agent__id__exact=abc",
        "account__id__exact=99999999999999999999999",
        "talk_seconds_from=abc",
        "talk_seconds_from=99999999999999999999999",
        "talk_seconds_from=1e400",
        "disposition__isnull=maybe",
        "id__exact=zz",
        "p=999999999999999999999",
        "p=-1",
        "p=x",
        "o=99.x.-",
        "all=",
        "nonsense=1",
        "e=1",
        "did=%27%22%3B--",
    ],
)
def test_no_address_breaks_the_list(admin_client, account, query):
    make_call(account)
    assert admin_client.get(f"{LIST}?{query}").status_code in {200, 302, 400}


@pytest.mark.parametrize("query", ["page=x", "page=99", "page=-1", "s=%00"])
def test_no_address_breaks_the_quick_search(admin_client, query):
    assert admin_client.get(f"/admin/search/?s=calls&extended=1&{query}").status_code in {200, 400}


def test_an_id_that_is_none_leads_away(admin_client):
    assert admin_client.get(f"{LIST}nonsense/change/").status_code == 302


# --- The first page --------------------------------------------------------------------------------------------------


def test_an_empty_installation_says_what_to_do(admin_client):
    page = admin_client.get("/admin/").content.decode()
    assert reverse("admin:calls_account_add") in page
    assert "curl -X POST" in page


def test_the_zone_in_which_times_are_shown_is_said(admin_client):
    admin_client.cookies["zone"] = "Europe/London"
    assert "Times in Europe/London" in admin_client.get("/admin/").content.decode()


def test_the_quick_search_finds_calls(admin_client, account):
    call = make_call(account)
    assert page_of(call) in admin_client.get("/admin/search/", {"s": "90000 00001", "extended": "1"}).content.decode()


# --- Set-up, money, people -------------------------------------------------------------------------------------------


def test_an_agents_phone_is_stored_in_the_form_that_calls_have(admin_client, account):
    data = {"account": account.pk, "external_id": "202", "name": "Asha", "extension": "12", "phone": "090000 00002"}
    admin_client.post("/admin/calls/agent/add/", data)
    assert Agent.objects.get().phone == "+919000000002"


def test_what_finds_an_agent_cannot_be_changed(admin_client, account):
    agent = Agent.objects.create(account=account, external_id="202")
    data = {"external_id": "999", "account": 0, "name": "Asha", "extension": "", "phone": ""}
    admin_client.post(f"/admin/calls/agent/{agent.pk}/change/", data)
    agent.refresh_from_db()
    assert (agent.external_id, agent.account, agent.name) == ("202", account, "Asha")


def test_a_key_is_shown_once_and_works(admin_client):
    data = {"name": "crm", "scopes": ["read", "export"]}
    page = admin_client.post("/admin/calls/apikey/add/", data, follow=True).content.decode()
    text = re.search(r"rl_[\w-]{20,}", page)[0]
    key = ApiKey.objects.get()
    assert key.digest == digest_of(text)
    assert key.scopes == ["export", "read"]
    for address in ["/admin/calls/apikey/", f"/admin/calls/apikey/{key.pk}/change/"]:
        assert text not in admin_client.get(address).content.decode()


def test_a_key_needs_a_scope(admin_client):
    assert admin_client.post("/admin/calls/apikey/add/", {"name": "crm"}).status_code == 200
    assert not ApiKey.objects.exists()


def test_a_key_can_be_revoked_and_keeps_its_digest(admin_client):
    key, _ = ApiKey.issue("crm", [])
    admin_client.post("/admin/calls/apikey/", {"action": "revoke_all", "_selected_action": [key.pk]})
    changed = ApiKey.objects.get()
    assert not changed.is_active
    assert changed.digest == key.digest


def an_alert(account, message, **values):
    rule = AlertRule.objects.create(name=message, kind="low_balance", opens_at=50)
    moments = {"opened_at": START, "updated_at": START}
    return Alert.objects.create(rule=rule, account=account, kind=rule.kind, message=message, **moments, **values)


def test_readings_and_alerts_are_looked_at_only(admin_client, account):
    call = take_in_call(account)
    reading = BalanceReading.objects.get(conversation=call)
    alert = an_alert(account, "Low")
    for model, row in [("balancereading", reading), ("alert", alert)]:
        page = f"/admin/calls/{model}/{row.pk}/change/"
        assert admin_client.get(f"/admin/calls/{model}/").status_code == 200
        assert admin_client.get(page).status_code == 200
        assert admin_client.post(page, {"message": "x", "balance": "1"}).status_code == 403
        assert admin_client.get(f"/admin/calls/{model}/add/").status_code == 403
        assert admin_client.post(f"/admin/calls/{model}/{row.pk}/delete/").status_code == 403
    assert page_of(call) in admin_client.get("/admin/calls/balancereading/").content.decode()


def test_open_alerts_are_filtered_for(admin_client, account):
    an_alert(account, "Past", cleared_at=START)
    still = an_alert(account, "Now")
    assert rows(admin_client.get("/admin/calls/alert/", {"open": "1"})) == [still]


@pytest.mark.parametrize(
    "page",
    [
        "/admin/",
        LIST,
        "/admin/calls/account/",
        "/admin/calls/account/add/",
        "/admin/calls/agent/",
        "/admin/calls/agent/add/",
        "/admin/calls/tag/",
        "/admin/calls/tag/add/",
        "/admin/calls/apikey/",
        "/admin/calls/alert/",
        "/admin/calls/balancereading/",
        "/admin/webhooks/delivery/",
        "/admin/auth/user/",
        "/admin/auth/user/add/",
        "/admin/auth/group/",
        "/admin/auth/group/add/",
    ],
)
def test_every_page_opens_under_a_strict_policy_and_for_nobody_without_a_login(admin_client, page):
    response = admin_client.get(page)
    assert response.status_code == 200
    scripts = re.search(r"script-src ([^;]*)", response.headers["Content-Security-Policy"])[1]
    assert scripts.split() == ["'self'", "'unsafe-eval'"]
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=", response.content.decode())
    assert Client().get(page).status_code == 302
