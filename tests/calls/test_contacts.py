"""Contacts: whose number it is, on lists and pages, and numbers joined and separated."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from calls import contacts
from calls.models import Contact, ContactNumber, StaffOutcome
from tests.calls.test_call_page import make_call

pytestmark = pytest.mark.django_db

LIST = "/admin/calls/contact/"
CALLS = "/admin/calls/conversation/"


def contact_with(name: str, *numbers: str, **columns: str) -> Contact:
    contact = Contact.objects.create(name=name, **columns)
    for number in numbers:
        contacts.join(contact, contacts.first_sight(number))
    return contact


def shown(response) -> list[str]:
    return [contact.name for contact in response.context["cl"].result_list]


def test_names_are_found_for_any_number_of_numbers_by_one_query(django_assert_num_queries):
    contact_with("Asha Rao", "+919000000001", "+919000000002", company="Rao Traders")
    contact_with("", "+919000000003")
    contacts.first_sight("+919000000004")
    with django_assert_num_queries(1):
        found = contacts.names([f"+91900000000{digit}" for digit in range(1, 10)] + [""])
    assert found == {"+919000000001": "Asha Rao, Rao Traders", "+919000000002": "Asha Rao, Rao Traders"}


def test_no_numbers_cost_no_query(django_assert_num_queries):
    with django_assert_num_queries(0):
        assert contacts.names(["", ""]) == {}


@pytest.mark.parametrize("text", ["asha", "RAO", "traders", "90000 00001", "00001"])
def test_a_contact_is_found_by_name_company_and_number_in_any_spelling(admin_client, text):
    wanted = contact_with("Asha Rao", "+919000000001", "+919000000011", company="Rao Traders")
    contact_with("Vikram", "+919000000077")
    assert list(contacts.find(text)) == [wanted]
    assert shown(admin_client.get(LIST, {"q": text})) == ["Asha Rao"]


def test_a_number_is_known_once(db):
    assert contacts.first_sight("+919000000001") == contacts.first_sight("+919000000001")
    assert ContactNumber.objects.count() == 1


def test_a_joined_number_brings_what_was_known_of_its_contact_when_that_has_no_other():
    asha = contact_with("Asha", "+919000000001", note="Likes mornings")
    other = contact_with("A. Rao", "+919000000002", company="Rao Traders", note="Owes 5 INR")
    contacts.join(asha, other.numbers.get())
    assert list(Contact.objects.values_list("name", "company", "note")) == [
        ("Asha", "Rao Traders", "Likes mornings\nOwes 5 INR")
    ]
    assert contacts.numbers_of(ContactNumber.objects.first()) == ["+919000000001", "+919000000002"]


def test_a_contact_that_keeps_another_number_stays_when_one_is_joined_elsewhere():
    asha = contact_with("Asha", "+919000000001")
    shop = contact_with("Shop", "+919000000002", "+919000000003")
    contacts.join(asha, shop.numbers.first())
    assert contacts.numbers_of(asha.numbers.first()) == ["+919000000001", "+919000000002"]
    assert [row.number for row in shop.numbers.all()] == ["+919000000003"]


def test_joining_a_number_to_its_own_contact_changes_nothing():
    asha = contact_with("Asha", "+919000000001")
    contacts.join(asha, asha.numbers.get())
    assert Contact.objects.get().numbers.count() == 1


def test_a_separated_number_is_nobody_s_and_the_contact_stays():
    asha = contact_with("Asha", "+919000000001", "+919000000002")
    parted = asha.numbers.last()
    contacts.separate(parted)
    assert contacts.numbers_of(parted) == ["+919000000002"]
    assert contacts.names(["+919000000001", "+919000000002"]) == {"+919000000001": "Asha"}


def test_the_list_costs_the_same_for_many_contacts(admin_client):
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert admin_client.get(LIST).status_code == 200
        return len(queries)

    for digit in range(2):
        contact_with(f"Contact {digit}", f"+91900000000{digit}", f"+91900000001{digit}")
    cost()
    few = cost()
    for place in range(20, 40):
        contact_with(f"Contact {place}", f"+9190000000{place}", f"+9190000001{place}")
    assert cost() == few


def test_staff_add_a_contact_and_then_its_numbers_in_any_spelling(admin_client, account):
    answer = admin_client.post(f"{LIST}add/", {"name": "Asha", "company": "", "note": "", "_continue": "1"})
    contact = Contact.objects.get()
    assert answer.url == reverse("admin:calls_contact_change", args=[contact.pk])
    admin_client.post(reverse("admin:calls_contact_number", args=[contact.pk]), {"number": "090000 00001"})
    assert contact.numbers.get().number == "+919000000001"
    page = admin_client.get(answer.url).content.decode()
    assert reverse("calls_number", args=[contact.numbers.get().pk]) in page


@pytest.mark.parametrize("text", ["", "   ", "no number", "9" * 65])
def test_what_is_no_number_is_not_added(admin_client, account, text):
    contact = contact_with("Asha")
    address = reverse("admin:calls_contact_number", args=[contact.pk])
    answer = admin_client.post(address, {"number": text}, follow=True)
    assert "Type a phone number such as +919000000001." in answer.content.decode()
    assert not ContactNumber.objects.exists()


def test_the_addresses_of_a_contact_hold_no_number(admin_client):
    contact = contact_with("Asha", "+919000000001")
    page = admin_client.get(LIST).content.decode()
    assert f'href="{reverse("calls_number", args=[contact.numbers.get().pk])}"' in page
    assert not [piece for piece in page.split('href="')[1:] if "9000000001" in piece.partition('"')[0]]


def test_the_list_of_calls_shows_the_name_beside_the_number(admin_client, account):
    make_call(account)
    make_call(account, customer_number="+919000000077")
    contact_with("Asha Rao", "+919000000001")
    page = admin_client.get(CALLS).content.decode()
    assert page.count("Asha Rao") == 1
    assert page.index("Asha Rao") < page.index("+91 90000 00001")


def test_names_cost_the_list_of_calls_one_query_however_many_calls_there_are(admin_client, account):
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert admin_client.get(CALLS).status_code == 200
        return len([query for query in queries.captured_queries if "calls_contactnumber" in query["sql"]])

    for place in range(22):
        make_call(account, customer_number=f"+9190000000{place:02}")
        contact_with(f"Contact {place}", f"+9190000000{place:02}")
    assert cost() == 1


def test_the_list_of_calls_is_narrowed_down_to_a_party_with_all_its_numbers(admin_client, account):
    first, second = make_call(account), make_call(account, customer_number="+919000000002")
    make_call(account, customer_number="+919000000077")
    asha = contact_with("Asha Rao", "+919000000001", "+919000000002")
    response = admin_client.get(CALLS, {"party": asha.numbers.first().pk})
    assert set(response.context["cl"].result_list) == {first, second}
    assert "Asha Rao" in response.content.decode()


@pytest.mark.parametrize("text", ["0", "999999", "x", "9" * 40, "-1", "²"])
def test_the_list_of_calls_of_nobody_is_empty(admin_client, account, text):
    make_call(account)
    assert list(admin_client.get(CALLS, {"party": text}).context["cl"].result_list) == []


def test_the_list_of_calls_is_narrowed_down_by_the_outcome_that_staff_set(admin_client, admin_user, account):
    sold, other = make_call(account), make_call(account)
    StaffOutcome.objects.create(conversation=sold, kind="sale", set_by=admin_user, set_at=sold.started_at)
    for value, wanted in (("sale", [sold]), ("none", [other]), ("resolved", [])):
        assert list(admin_client.get(CALLS, {"staff_outcome": value}).context["cl"].result_list) == wanted


def test_the_quick_search_finds_a_contact_by_name(admin_client):
    contact = contact_with("Asha Rao", "+919000000001")
    page = admin_client.get("/admin/search/", {"s": "asha", "extended": "1"}).content.decode()
    assert reverse("admin:calls_contact_change", args=[contact.pk]) in page
