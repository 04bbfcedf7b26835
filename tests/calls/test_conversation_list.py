"""The list of conversations: pages by keyset, filters of several values, search, columns, tags in bulk."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from uuid import UUID

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bench import draining
from calls.admin.conversation import ConversationAdmin
from calls.admin.links import calls_list
from calls.choices import Direction, Disposition, State
from calls.models import Account, Agent, AuditEntry, Conversation, StaffAccess, Tag
from calls.searching import find
from tests.calls.rows import START, make_call

pytestmark = pytest.mark.django_db

LIST = "/admin/calls/conversation/"


def rows(response) -> list[Conversation]:
    """Return the calls that a list page shows."""
    return list(response.context["cl"].result_list)


def chips(response) -> list[tuple[str, str]]:
    """Return what a list page says it is narrowed down by."""
    return [(chip.title, chip.text) for chip in response.context["cl"].chips]


def walk(client: Client, address: str, link: str) -> list[list[UUID]]:
    """Return the pages from ``address`` on as keys of their calls, following ``next_page`` or ``previous_page``."""
    pages = []
    while address:
        response = client.get(address)
        pages.append([call.pk for call in rows(response)])
        query = getattr(response.context["cl"], link)
        address = LIST + query if query else ""
    return pages


@pytest.fixture
def calls(account) -> list[Conversation]:
    """23 calls, newest first; many of them began at the same moment."""
    made = [make_call(account, started_at=START + timedelta(minutes=number // 6)) for number in range(23)]
    return sorted(made, key=lambda call: (call.started_at, call.pk), reverse=True)


@pytest.fixture
def _short_pages(monkeypatch):
    monkeypatch.setattr(ConversationAdmin, "list_per_page", 5)


# --- Pages -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_short_pages")
@pytest.mark.parametrize("order", ["", "oldest"])
def test_next_leads_through_all_calls_once_and_previous_back_over_the_same_pages(admin_client, calls, order):
    keys = [call.pk for call in (calls if not order else calls[::-1])]
    pages = walk(admin_client, f"{LIST}?view=all&order={order}", "next_page")
    assert pages == [keys[at : at + 5] for at in range(0, 23, 5)]
    last = admin_client.get(f"{LIST}?view=all&order={order}")
    for _ in pages[1:]:
        last = admin_client.get(LIST + last.context["cl"].next_page)
    back = walk(admin_client, LIST + last.context["cl"].previous_page, "previous_page")
    assert back == pages[-2::-1]


@pytest.mark.usefixtures("_short_pages")
def test_a_call_that_comes_in_meanwhile_moves_no_other_to_another_page(admin_client, account, calls):
    first = admin_client.get(LIST)
    newer = make_call(account, started_at=START + timedelta(days=1))
    second = admin_client.get(LIST + first.context["cl"].next_page)
    assert [call.pk for call in rows(second)] == [call.pk for call in calls[5:10]]
    # Going back shows the rows that were just before, not those that are now first.
    back = admin_client.get(LIST + second.context["cl"].previous_page)
    assert [call.pk for call in rows(back)] == [call.pk for call in calls[:5]]
    newest = admin_client.get(LIST + back.context["cl"].previous_page)
    assert rows(newest) == [newer]
    assert newest.context["cl"].previous_page == ""


@pytest.mark.usefixtures("_short_pages")
def test_pages_keep_filters_and_order_and_a_new_filter_begins_at_the_first_page(admin_client, calls):
    response = admin_client.get(LIST, {"disposition__exact": "answered", "order": "oldest", "cols": "customer,talk"})
    query = response.context["cl"].next_page
    assert {"disposition__exact=answered", "order=oldest"} <= set(query[1:].split("&"))
    page = unescape(admin_client.get(LIST + query).content.decode())
    filter_form = page[page.index('id="filter-form"') : page.index("</form>", page.index('id="filter-form"'))]
    assert 'name="order"' in filter_form
    assert 'name="after"' not in filter_form
    search_form = page[page.index('id="changelist-search"') : page.index("</form>", page.index("changelist-search"))]
    assert 'name="disposition__exact"' in search_form
    assert 'name="after"' not in search_form


@pytest.mark.usefixtures("_short_pages")
def test_one_jumps_to_a_day_of_the_viewers_zone_and_goes_on_from_there_both_ways(admin_client, account):
    made = [make_call(account, started_at=START + timedelta(hours=hours)) for hours in range(0, 96, 4)]
    admin_client.cookies["zone"] = "Asia/Kolkata"
    # 4 November in Kolkata begins at 18:30 UTC of the 3rd.
    before = [call for call in made if call.started_at < datetime(2026, 11, 3, 18, 30, tzinfo=UTC)]
    from_then = [call for call in made if call not in before]
    newest_first = admin_client.get(LIST, {"day": "2026-11-03"})
    assert rows(newest_first) == before[::-1][:5]
    assert rows(admin_client.get(LIST + newest_first.context["cl"].previous_page)) == from_then[:5][::-1]
    oldest_first = admin_client.get(LIST, {"day": "2026-11-04", "order": "oldest"})
    assert rows(oldest_first) == from_then[:5]
    assert rows(admin_client.get(LIST + oldest_first.context["cl"].previous_page)) == before[-5:]


@pytest.mark.parametrize(
    "query",
    [
        "after=x", "before=~", "after=2026-11-02T06:30:00~x", "after=2026-11-02T06:30:00+00:00~",
        "before=0001-01-01T00:00:00+14:00~00000000-0000-0000-0000-000000000000", "day=x", "day=9999-12-31",
        "account__in=x,1", "account__id__exact=99999999999999999999999", "agent__in=-1", "hour=x", "hour=24",
        "weekday=99", "tags__id__exact=x", "did__in=,", "cols=x,customer,,customer", "order=x", "view=x", "q=%2A",
    ],
)  # fmt: skip
def test_no_address_breaks_the_list(admin_client, calls, query):
    response = admin_client.get(f"{LIST}?{query}")
    assert response.status_code in {200, 302}
    assert response.status_code == 200 or response["Location"].endswith("?e=1")


@pytest.mark.usefixtures("_short_pages")
def test_a_page_costs_the_same_number_of_queries_wherever_it_is_and_few(admin_client, account, calls):
    tag = Tag.objects.create(name="VIP")
    for call in calls:
        call.tags.add(tag)

    def cost(query: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert admin_client.get(LIST + query).status_code == 200
        return len(queries)

    first = admin_client.get(f"{LIST}?cols=customer,tags,agent,account&view=all")
    later = admin_client.get(LIST + first.context["cl"].next_page).context["cl"]
    assert cost(later.next_page) == cost(later.previous_page)
    plain = cost("?view=all")
    assert plain <= 12
    week = "account__id__exact=1&disposition__exact=answered&started_at_from_0=2026-11-01&started_at_to_0=2026-11-08"
    assert cost(f"?{week}") <= 12


def test_the_list_costs_the_same_for_two_calls_and_twenty_two(admin_client, account):
    def add(count: int) -> None:
        for number in range(count):
            name = f"{count}-{number}"
            agent = Agent.objects.create(account=account, external_id=name, name=name)
            call = make_call(Account.objects.create(slug=name, provider="piopiy"), agent=agent)
            call.tags.add(Tag.objects.create(name=name))

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(LIST, {"cols": "customer,agent,account,tags,reason,ended", "q": "0001"})
        return len(queries)

    add(2)
    few = cost()
    add(20)
    assert cost() == few


# --- How many --------------------------------------------------------------------------------------------------------


def test_the_size_is_exact_up_to_the_cap_and_beyond_it_is_said_to_be_more(admin_client, calls, monkeypatch):
    assert str(admin_client.get(LIST).context["cl"].size) == "23"
    monkeypatch.setattr(ConversationAdmin, "list_per_page", 5)
    assert str(admin_client.get(LIST).context["cl"].size) == "23"
    monkeypatch.setattr("calls.counting.CAP", 20)
    assert str(admin_client.get(LIST).context["cl"].size) == "more than 20"
    assert admin_client.get(f"{LIST}count/").json() == {"size": "more than 20"}


def test_the_exact_size_is_there_for_the_asking(admin_client, account, calls):
    make_call(account, disposition=Disposition.MISSED)
    assert admin_client.get(f"{LIST}count/", {"disposition__exact": "answered"}).json() == {"size": "23"}
    assert admin_client.get(f"{LIST}count/", {"hour": "x"}).status_code == 400


def test_the_size_counts_no_call_that_the_viewer_may_not_see(account, calls):
    other = Account.objects.create(slug="pune", provider="telecmi")
    user = User.objects.create_user("leela", is_staff=True)
    names = ["view_conversation", "see_account_calls"]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    StaffAccess.objects.create(user=user).accounts.set([other])
    make_call(other)
    client = Client()
    client.force_login(user)
    assert str(client.get(LIST).context["cl"].size) == "1"
    assert client.get(f"{LIST}count/").json() == {"size": "1"}
    assert client.get(f"{LIST}count/", {"q": "9000000001"}).json() == {"size": "1"}


# --- Filters ---------------------------------------------------------------------------------------------------------


def test_a_filter_takes_several_values_repeated_or_with_commas(admin_client, account):
    pune = Account.objects.create(slug="pune", provider="callerdesk", name="Pune")
    agra = Account.objects.create(slug="agra", provider="callerdesk", name="Agra")
    missed = make_call(account, disposition=Disposition.MISSED)
    voicemail = make_call(pune, disposition=Disposition.VOICEMAIL, direction=Direction.OUTBOUND)
    make_call(agra)
    wanted = {missed, voicemail}
    for query in [
        {"disposition__exact": ["missed", "voicemail"]},
        {"disposition__in": "missed,voicemail"},
        {"account__id__exact": [account.pk, pune.pk]},
        {"account__in": f"{account.pk},{pune.pk}"},
    ]:
        response = admin_client.get(LIST, query)
        assert set(rows(response)) == wanted, query
        assert len(chips(response)) == 2
    one_away = admin_client.get(LIST + response.context["cl"].chips[0].without)
    assert rows(one_away) == [voicemail]
    assert chips(one_away) == [("account", "Pune")]


def test_calls_without_an_agent_can_be_asked_for_alone_and_beside_an_agents(admin_client, account):
    asha = Agent.objects.create(account=account, external_id="1", name="Asha")
    ravi = Agent.objects.create(account=account, external_id="2", name="Ravi")
    nobodys, ashas = make_call(account), make_call(account, agent=asha)
    make_call(account, agent=ravi)
    assert rows(admin_client.get(LIST, {"agent__isnull": "True"})) == [nobodys]
    both = admin_client.get(LIST, {"agent__isnull": "True", "agent__in": str(asha.pk)})
    assert set(rows(both)) == {nobodys, ashas}
    assert chips(both) == [("agent", "Asha"), ("agent", "none")]


def test_a_call_with_two_of_the_tags_asked_for_is_listed_once(admin_client, account):
    call = make_call(account)
    tags = [Tag.objects.create(name=name) for name in ("VIP", "Refund")]
    call.tags.set(tags)
    make_call(account)
    response = admin_client.get(LIST, {"tags__id__exact": [tag.pk for tag in tags]})
    assert rows(response) == [call]
    assert chips(response) == [("tags", "VIP"), ("tags", "Refund")]


def test_the_did_filter_takes_several_numbers_in_any_spelling_or_part(admin_client, account):
    first = make_call(account, did="+918000000011")
    second = make_call(account, did="+918000000022")
    make_call(account, did="+918000000033")
    assert set(rows(admin_client.get(LIST, {"did": "080000 00011, 22"}))) == {first, second}
    assert set(rows(admin_client.get(LIST, {"did__in": "+918000000011,+918000000022"}))) == {first, second}
    assert rows(admin_client.get(LIST, {"did__exact": "+918000000011"})) == [first]
    assert rows(admin_client.get(LIST, {"did__exact": "8000000011"})) == []


def test_hour_and_weekday_are_the_viewers(admin_client, account):
    # 20:00 UTC on Monday is 01:30 on Tuesday in Kolkata.
    call = make_call(account, started_at=datetime(2026, 11, 2, 20, 0, tzinfo=UTC))
    admin_client.cookies["zone"] = "Asia/Kolkata"
    assert rows(admin_client.get(LIST, {"hour": "1", "weekday": "2"})) == [call]
    assert rows(admin_client.get(LIST, {"hour": "20"})) == []
    assert chips(admin_client.get(LIST, {"weekday": "2"})) == [("weekday", "Tuesday")]


def test_links_from_elsewhere_show_exactly_the_calls_described(admin_client, account):
    asha = Agent.objects.create(account=account, external_id="1", name="Asha")
    started_with = {"campaign": "Diwali, second round"}
    call = make_call(
        account, agent=asha, cost=1, cost_unit="INR", direction=Direction.OUTBOUND, extra_params=started_with
    )
    live = make_call(account, state=State.LIVE, disposition=None, did="+918000000044", cost_unit="coins")
    with timezone.override("UTC"):
        for filters in [
            {"agent": asha}, {"cost_unit": "INR"}, {"did": call.did}, {"direction": "outbound"}, started_with,
            {"disposition": ["answered", "missed"]}, {"state": "ended"}, {"account": account, "cost_unit": ["INR"]},
        ]:  # fmt: skip
            assert rows(admin_client.get(calls_list(**filters))) == [call], filters
        for filters in [{"agent": None}, {"state": ["live"]}, {"did": [live.did]}]:
            assert rows(admin_client.get(calls_list(**filters))) == [live], filters
        assert set(rows(admin_client.get(calls_list(since=START, until=START + timedelta(seconds=1))))) == {call, live}
        assert rows(admin_client.get(calls_list(until=START))) == []


def test_a_range_of_moments_is_said_in_days_and_minutes_of_the_viewers_zone(admin_client, account):
    make_call(account)
    admin_client.cookies["zone"] = "Asia/Kolkata"
    midnight = datetime(2026, 11, 1, 18, 30, tzinfo=UTC)
    whole_day = admin_client.get(calls_list(since=midnight, until=midnight + timedelta(days=1)))
    assert chips(whole_day) == [("started", "from 2026-11-02 to 2026-11-02")]
    hour = admin_client.get(calls_list(since=START, until=START + timedelta(hours=1)))
    assert chips(hour) == [("started", "from 2026-11-02 12:00 to 2026-11-02 12:59")]


def test_all_that_narrows_the_list_is_named_and_can_be_taken_away(admin_client, account):
    make_call(account, talk_seconds=70, cost_unit="INR")
    query = {
        "q": "0001", "talk_seconds_from": "60", "direction__exact": "inbound", "did__exact": "+918000000000",
        "started_at_from_0": "2026-11-01", "cost_unit__exact": "INR", "destination": "+9190", "order": "oldest",
    }  # fmt: skip
    response = admin_client.get(LIST, query)
    assert len(rows(response)) == 1
    assert set(chips(response)) == {
        ("Search", "0001"), ("talk seconds", "from 60"), ("direction", "Inbound"), ("DID", "+91 80000 00000"),
        ("started", "from 2026-11-01"), ("cost unit", "INR"), ("number’s head", "+9190"),
    }  # fmt: skip
    address = LIST + response.context["cl"].chips[0].without
    for left in range(6, 0, -1):
        response = admin_client.get(address)
        assert len(chips(response)) == left
        address = LIST + response.context["cl"].chips[0].without
    assert address == f"{LIST}?order=oldest"


# --- Search ----------------------------------------------------------------------------------------------------------


def test_four_digits_and_more_are_the_end_of_a_number_and_any_part_where_none_ends_so(admin_client, account):
    ends = make_call(account, customer_number="+919000001234")
    holds = make_call(account, customer_number="+919012340000")
    by_did = make_call(account, customer_number="+919000000077", did="+918000001234")
    assert set(rows(admin_client.get(LIST, {"q": "1234"}))) == {ends, by_did}
    assert set(rows(admin_client.get(LIST, {"q": "*1234*"}))) == {ends, by_did, holds}
    assert rows(admin_client.get(LIST, {"q": "90123"})) == [holds]
    assert set(rows(admin_client.get(LIST, {"q": "234"}))) == {ends, by_did, holds}


def test_every_id_that_a_provider_gives_finds_its_call():
    draining.fill(seed=11, calls=20)
    draining.drain()
    for call in Conversation.objects.prefetch_related("legs"):
        named = {call.external_id, call.request_id, *(leg.external_id for leg in call.legs.all())} - {""}
        assert named
        for text in named:
            assert call in find(Conversation.objects.all(), text), text
        assert list(find(Conversation.objects.all(), str(call.pk))) == [call]


def test_a_search_reads_indexes_and_not_the_table(account):
    call = make_call(account, customer_number="+919012345678")
    make_call(account)
    for typed in ["5678", "2345678", "0123456", "*1234*", "9012345678", "nothing-like-it"]:
        found = find(Conversation.objects.all(), typed)
        assert set(found) <= {call}
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                # Of a table of two rows the planner would read all.
                cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = off")
            plan = found.order_by().explain()
            assert "Seq Scan" not in plan, plan
            if typed.strip("*").isdigit():
                assert "conversation_customer_" in plan, plan


# --- Columns ---------------------------------------------------------------------------------------------------------


def headings(response) -> list[str]:
    """Return the headings of the list's columns."""
    page = response.content.decode()
    head = page[page.index("<thead") : page.index("</thead>")]
    texts = [word.strip().lower() for word in re.findall(r">([^<>]+)<", head)]
    return [text for text in texts if text and text != "select all rows"]


def test_the_address_says_which_columns_and_in_which_order(admin_client, account):
    tag = Tag.objects.create(name="VIP")
    make_call(account).tags.add(tag)
    response = admin_client.get(LIST, {"cols": "tags,started,customer,duration"})
    assert headings(response) == ["tags", "started", "customer", "duration"]
    assert "VIP" in response.content.decode()


def test_the_choice_of_columns_is_kept_for_the_viewer_alone(admin_client, account):
    make_call(account)
    usual = headings(admin_client.get(LIST))
    answer = admin_client.post(f"{LIST}columns/", {"column": ["cost", "talk"], "query": "q=0001&cols=x"})
    assert answer["Location"] == f"{LIST}?q=0001&view=all"
    assert headings(admin_client.get(LIST)) == ["customer", "cost", "talk"]
    other = Client()
    other.force_login(User.objects.create_superuser("other"))
    assert headings(other.get(LIST)) == usual
    admin_client.post(f"{LIST}columns/", {"usual": "1", "column": ["cost"], "query": ""})
    assert headings(admin_client.get(LIST)) == usual


# --- Tags in bulk ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_short_pages")
def test_a_tag_is_put_on_and_taken_off_all_calls_that_match(admin_client, account, calls):
    tag = Tag.objects.create(name="VIP")
    missed = make_call(account, disposition=Disposition.MISSED)
    tag.conversations.add(calls[0])
    address = f"{LIST}?disposition__exact=answered"
    chosen = {"tag": tag.pk, "select_across": "1", "_selected_action": [calls[0].pk]}
    response = admin_client.post(address, chosen | {"action": "add_tag"}, follow=True)
    assert "“VIP” is now on 23 calls. 1 of them had it already." in response.content.decode()
    assert set(tag.conversations.all()) == set(calls)
    assert missed.tags.count() == 0
    assert AuditEntry.objects.filter(action="change", details__calls=23).count() == 1
    some = {"tag": tag.pk, "action": "remove_tag", "_selected_action": [calls[0].pk, missed.pk]}
    response = admin_client.post(LIST, some, follow=True)
    assert "“VIP” is taken off 1 call. The other 1 did not have it." in response.content.decode()
    assert set(tag.conversations.all()) == set(calls[1:])


@pytest.mark.usefixtures("_short_pages")
def test_more_calls_than_the_cap_are_not_tagged_at_once_and_that_is_said(admin_client, calls, monkeypatch):
    monkeypatch.setattr("calls.admin.conversation.CAP", 20)
    tag = Tag.objects.create(name="VIP")
    chosen = {"tag": tag.pk, "action": "add_tag", "select_across": "1", "_selected_action": [calls[0].pk]}
    response = admin_client.post(LIST, chosen, follow=True)
    assert "More than 20 calls match, and nothing was changed." in response.content.decode()
    assert tag.conversations.count() == 0


def test_who_may_not_change_calls_cannot_tag_them(account, calls):
    user = User.objects.create_user("leela", is_staff=True)
    names = ["view_conversation", "see_all_calls"]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client = Client()
    client.force_login(user)
    tag = Tag.objects.create(name="VIP")
    client.post(LIST, {"tag": tag.pk, "action": "add_tag", "_selected_action": [calls[0].pk]})
    assert tag.conversations.count() == 0
