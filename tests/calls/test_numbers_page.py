"""The page of a number: everything about one party, as far as the viewer may see it."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import time_machine
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from calls import contacts
from calls.models import (
    Account,
    Agent,
    AuditEntry,
    CallNote,
    Contact,
    ContactNumber,
    Conversation,
    MissedCaller,
    StaffAccess,
)
from tests.calls.test_call_page import make_call

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 20, 6, 30, tzinfo=UTC)


@pytest.fixture
def other_account(db) -> Account:
    return Account.objects.create(slug="agra-sales", provider="telecmi", unit="coins")


def login(*codenames: str, accounts: tuple[Account, ...] = ()) -> Client:
    """Return a client signed in as somebody with these permissions, concerned with these accounts."""
    user = User.objects.create_user("asha", password="only-for-tests", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    access, _ = StaffAccess.objects.get_or_create(user=user)
    access.accounts.set(accounts)
    client = Client()
    client.force_login(user)
    return client


def page_for(call: Conversation, client: Client):
    return client.get(reverse("calls_number_of", args=[call.pk]), follow=True)


def text_of(response) -> str:
    """Return the words of a page's main part."""
    html = response.content.decode()
    main = html[html.index('<div class="rl-page">') :]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", main))


@time_machine.travel(NOW, tick=False)
def test_it_counts_the_calls_of_a_number_over_all_accounts(admin_client, account, other_account):
    agent = Agent.objects.create(account=account, external_id="202", name="Vikram")
    call = make_call(
        account, disposition="answered", agent=agent, talk_seconds=60, cost=Decimal("0.45"), cost_unit="INR"
    )
    make_call(account, disposition="answered", agent=agent, talk_seconds=30, cost=Decimal("0.15"), cost_unit="INR")
    make_call(account, disposition="missed")
    make_call(account, disposition=None, state="live")
    make_call(other_account, direction="outbound", disposition="busy", did="+918000000044", cost=2, cost_unit="coins")
    make_call(other_account, customer_number="+919000000077", disposition="answered")
    response = page_for(call, admin_client)
    text = text_of(response)
    assert response.context["totals"]["count"] == 5
    assert "Inbound, answered 67% 2 of 3" in text
    assert "Outbound, answered 0% 0 of 1" in text
    assert "Talked 1:30" in text
    assert "Vikram 2 calls" in text
    assert "2.00 coins, 0.60 INR" in text or "0.60 INR, 2.00 coins" in text
    assert "+91 80000 00000 4" in text
    assert "+91 80000 00044 1" in text
    assert "+91 90000 00001" in text
    assert "00077" not in text


@time_machine.travel(NOW, tick=False)
def test_the_columns_of_the_last_days_add_up_to_the_calls_of_these_days(admin_client, account):
    call = make_call(account, started_at=NOW - timedelta(days=3), disposition="answered")
    for days in (3, 29, 31, 200):
        make_call(account, started_at=NOW - timedelta(days=days))
    days = page_for(call, admin_client).context["days"]
    assert len(days) == 30
    assert [(day.count, day.answered) for day in days if day.count] == [(1, 0), (2, 1)]


def test_its_address_holds_no_number(admin_client, account):
    response = page_for(make_call(account), admin_client)
    (address, _), *_ = response.redirect_chain
    assert address == f"/admin/calls/number/{ContactNumber.objects.get().pk}/"


def test_a_withheld_number_has_no_page(admin_client, account):
    assert page_for(make_call(account, customer_number=""), admin_client).status_code == 404
    assert not ContactNumber.objects.exists()


def test_only_calls_that_the_viewer_may_see_are_counted_and_shown(account, other_account, admin_user):
    seen = make_call(account)
    unseen = make_call(other_account, did="+918000000044")
    CallNote.objects.create(conversation=unseen, author=admin_user, text="Not for everybody")
    client = login("view_conversation", "see_account_calls", "see_numbers", accounts=(account,))
    response = page_for(seen, client)
    assert [call.pk for call in response.context["last"]] == [seen.pk]
    assert response.context["totals"]["count"] == 1
    assert "00044" not in text_of(response)
    assert "Not for everybody" not in text_of(response)
    assert page_for(unseen, client).status_code == 404


def test_the_page_of_a_number_that_the_viewer_has_no_call_with_is_not_found(account, other_account):
    unseen = contacts.first_sight(make_call(other_account, customer_number="+919000000077").customer_number)
    client = login("view_conversation", "see_account_calls", accounts=(account,))
    assert client.get(reverse("calls_number", args=[unseen.pk])).status_code == 404
    listed = client.get("/admin/calls/conversation/", {"party": unseen.pk}).content.decode()
    assert "00077" not in listed


def test_who_may_not_see_numbers_finds_none_on_the_page(account):
    call = make_call(account)
    client = login("view_conversation", "see_all_calls", "reveal_numbers")
    html = page_for(call, client).content.decode()
    assert not re.search(r"9000000001|90000 00001", html)
    assert "••01" in html
    assert reverse("reveal", args=["calls.conversation", call.pk, "customer_number"]) in html


def test_naming_a_number_makes_a_contact_and_its_name_stands_on_the_calls(admin_client, account):
    call = make_call(account)
    number = contacts.first_sight(call.customer_number)
    answer = admin_client.post(
        reverse("calls_number_contact", args=[number.pk]),
        {"name": "Asha Rao", "company": "Rao Traders", "note": "Likes mornings"},
        follow=True,
    )
    assert "Asha Rao, Rao Traders" in text_of(answer)
    assert Contact.objects.get().numbers.get() == number
    call_page = admin_client.get(reverse("admin:calls_conversation_change", args=[call.pk])).content.decode()
    assert "Asha Rao, Rao Traders" in call_page
    assert AuditEntry.objects.filter(target_type="calls.contact").exists()


def test_two_numbers_merged_into_a_contact_share_one_page_and_part_again(admin_client, account):
    first, second = make_call(account), make_call(account, customer_number="+919000000002")
    number = contacts.first_sight(first.customer_number)
    admin_client.post(reverse("calls_number_join", args=[number.pk]), {"with": "090000 00002"})
    merged = page_for(second, admin_client)
    assert {call.pk for call in merged.context["last"]} == {first.pk, second.pk}
    other = ContactNumber.objects.get(number="+919000000002")
    admin_client.post(reverse("calls_number_separate", args=[number.pk, other.pk]))
    assert [call.pk for call in page_for(second, admin_client).context["last"]] == [second.pk]
    assert [call.pk for call in page_for(first, admin_client).context["last"]] == [first.pk]


def test_a_number_is_merged_into_a_contact_by_its_name(admin_client, account):
    asha = Contact.objects.create(name="Asha Rao")
    number = contacts.first_sight(make_call(account).customer_number)
    admin_client.post(reverse("calls_number_join", args=[number.pk]), {"with": "asha"})
    assert asha.numbers.get() == number


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("rao", "Several contacts match “rao”."),
        ("nobody", "No contact matches “nobody”."),
        ("+919000000001", "Type another number of the same person"),
        ("", "Type another number of the same person"),
    ],
)
def test_a_merge_that_is_not_clear_is_refused_with_a_reason(admin_client, account, text, problem):
    Contact.objects.create(name="Asha Rao")
    Contact.objects.create(name="Vikram Rao")
    number = contacts.first_sight(make_call(account).customer_number)
    answer = admin_client.post(reverse("calls_number_join", args=[number.pk]), {"with": text}, follow=True)
    assert problem in answer.content.decode()
    assert ContactNumber.objects.get().contact is None


def test_an_open_entry_of_the_worklist_stands_on_the_page_and_a_closed_one_does_not(admin_client, account):
    call = make_call(account)
    missed = {"account": account, "customer_number": call.customer_number, "misses": 2, "attempts": 0}
    missed |= {"first_missed_at": NOW, "last_missed_at": NOW}
    entry = MissedCaller.objects.create(**missed, did="+918000000000")
    MissedCaller.objects.create(**missed, did="+918000000044", closed_at=NOW, closing="spam")
    html = page_for(call, admin_client).content.decode()
    assert reverse("admin:calls_missedcaller_change", args=[entry.pk]) in html
    assert "2 missed" in html
    assert "00044" not in html


def test_who_may_only_look_changes_no_contact(account):
    number = contacts.first_sight(make_call(account).customer_number)
    client = login("view_conversation", "see_all_calls")
    for name, data in (("contact", {"name": "X"}), ("join", {"with": "+919000000002"})):
        assert client.post(reverse(f"calls_number_{name}", args=[number.pk]), data).status_code == 403
    assert client.post(reverse("calls_number_separate", args=[number.pk, number.pk])).status_code == 403
    assert not Contact.objects.exists()


def test_the_page_costs_the_same_for_many_calls_and_notes(admin_client, admin_user, account):
    def cost(count: int, number: str) -> int:
        for _ in range(count):
            agent = Agent.objects.create(account=account, external_id=f"{number}-{_}")
            call = make_call(account, customer_number=number, agent=agent)
            call.tags.create(name=f"tag {call.pk}")
            CallNote.objects.create(conversation=call, author=admin_user, text="note")
        address = reverse("calls_number", args=[contacts.first_sight(number).pk])
        admin_client.get(address)
        with CaptureQueriesContext(connection) as queries:
            assert admin_client.get(address).status_code == 200
        return len(queries)

    assert cost(22, "+919000000022") == cost(2, "+919000000002")
