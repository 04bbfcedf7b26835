"""The admin of the inbox and of accounts: what staff see of deliveries and may do with them."""

import json
import re
from datetime import timedelta
from html import unescape

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from calls.models import Account, BalanceReading, Conversation
from tests.webhooks.inbox import NOON, deliver, deliver_file
from webhooks.admin.account import sample_body
from webhooks.admin.delivery import ADVICE
from webhooks.errors import DeliveryError
from webhooks.models import Delivery, Endpoint
from webhooks.processing import drain
from webhooks.providers import PROVIDERS

pytestmark = pytest.mark.django_db

INBOX = "/admin/webhooks/delivery/"
SCRIPT = "<script>alert(1)</script>"
QUARANTINED = {"status": Delivery.Status.QUARANTINED, "error_class": "UnknownWord", "error_field": "status"}


@pytest.fixture
def account() -> Account:
    return Account.objects.create(slug="delhi-support", name="Delhi support", provider="piopiy")


@pytest.fixture
def endpoint(account) -> Endpoint:
    return Endpoint.issue(account)[0]


@pytest.fixture
def viewer_client(client):
    """A login that may look at everything and change nothing."""
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__regex="^view_|^see_"))
    client.force_login(viewer)
    return client


def page_of(delivery: Delivery) -> str:
    return reverse("admin:webhooks_delivery_change", args=[delivery.pk])


def account_page(account: Account) -> str:
    return reverse("admin:calls_account_change", args=[account.pk])


def rows(response) -> list[Delivery]:
    """Return the deliveries that a list page shows."""
    return list(response.context["cl"].result_list)


def mark(delivery: Delivery, **columns: object) -> Delivery:
    """Give a stored delivery other columns."""
    Delivery.objects.filter(pk=delivery.pk).update(**columns)
    return Delivery.objects.get(pk=delivery.pk)


# --- Inbox -----------------------------------------------------------------------------------------------------------


def test_the_list_leaves_repeats_out_until_they_are_asked_for(admin_client, account):
    first = mark(deliver(account, {"a": 1}), repeats=1)
    repeat = mark(deliver(account, {"a": 1}), status=Delivery.Status.REPEAT, repeat_of=first)
    assert rows(admin_client.get(INBOX)) == [first]
    assert rows(admin_client.get(INBOX, {"status__exact": "repeat"})) == [repeat]


def test_every_filter_narrows_the_list_down(admin_client, account):
    other = Account.objects.create(slug="pune", provider="callerdesk")
    wanted = mark(deliver(account, {"a": 1}), **QUARANTINED)
    deliver(other, {"a": 2}, received_at=NOON + timedelta(days=2))
    for query in [
        {"status__exact": "quarantined"},
        {"provider": "piopiy"},
        {"account__id__exact": account.pk},
        {"error_class__exact": "UnknownWord"},
        {"received_at_to_0": "2026-11-03"},
    ]:
        assert rows(admin_client.get(INBOX, query)) == [wanted], query


def test_the_error_filter_offers_every_error_there_is():
    found = [*DeliveryError.__subclasses__()]
    for error in found:
        found += error.__subclasses__()
    assert set(ADVICE) == {error.__name__ for error in found} | {"TooLarge"}


def test_the_list_costs_the_same_for_two_deliveries_and_twenty_two_and_fetches_no_body(admin_client, account):
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(INBOX)
        listed = [query["sql"] for query in queries.captured_queries if 'FROM "webhooks_delivery"' in query["sql"]]
        assert not [sql for sql in listed if '"body"' in sql or "DISTINCT" in sql]
        return len(queries)

    for number in range(2):
        deliver(account, {"a": number})
    few = cost()
    for number in range(20):
        deliver(Account.objects.create(slug=f"account-{number}", provider="telecmi"), {"a": number})
    assert cost() == few


def test_the_page_shows_the_payload_the_error_and_what_to_do(admin_client, account):
    delivery = mark(
        deliver(account, {"status": "handed_over", "name": "आशा"}),
        error_value="handed_over",
        error_message="a status that no table lists",
        **QUARANTINED,
    )
    page = unescape(admin_client.get(page_of(delivery)).content.decode())
    assert '"name": "आशा"' in page
    assert "UnknownWord: status" in page
    assert "a status that no table lists" in page
    assert ADVICE["UnknownWord"] in page


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"{ to: 4400", "{ to: 4400"),
        (b"\xff\xfe\xfd\x80", "fffefd80"),
        (b"[" * 100_000, "[[[["),
        (b"", "none"),
        (b"\x00" * 1000, "\x00"),
        (b'{"a": ' + b"9" * 5000 + b"}", "9999"),
        (b'[{"a": 1}, 7]', '[{"a": 1}, 7]'),
        (b"a=1&b=%3Cscript%3E", '"b": "<script>"'),
    ],
)
def test_any_body_is_shown(admin_client, account, body, shown):
    response = admin_client.get(page_of(deliver(account, body)))
    assert response.status_code == 200
    assert shown in unescape(response.content.decode())


def test_what_a_provider_sends_is_escaped_everywhere(admin_client, account):
    delivery = mark(
        deliver(account, {SCRIPT: SCRIPT}),
        status=Delivery.Status.QUARANTINED,
        content_type=SCRIPT,
        remote_address=SCRIPT,
        query=SCRIPT.encode(),
        method="<b>",
        digest=SCRIPT,
        **dict.fromkeys(["error_class", "error_field", "error_value", "error_message"], SCRIPT),
    )
    for address in [INBOX, page_of(delivery)]:
        page = admin_client.get(address).content.decode()
        assert SCRIPT not in page, address
        assert "<b>" not in page, address


def test_a_delivery_and_its_call_lead_to_each_other(admin_client, account):
    delivery = deliver_file(account, "piopiy", "cdr_in_answered_leg_a")
    again = deliver_file(
        account, "piopiy", "cdr_in_answered_leg_a", received_at=delivery.received_at + timedelta(hours=1)
    )
    drain()
    call = Conversation.objects.get()
    call_page = reverse("admin:calls_conversation_change", args=[call.pk])
    assert call_page in admin_client.get(page_of(delivery)).content.decode()
    page = admin_client.get(call_page).content.decode()
    assert page_of(delivery) in page
    assert "came again 1 time" in page
    assert page_of(again) not in page
    assert page_of(again) in admin_client.get(page_of(delivery)).content.decode()


def test_a_call_of_many_deliveries_costs_as_much_as_one_of_few(admin_client, account):
    def cost(count: int) -> int:
        for number in range(count):
            payload = json.loads(sample_body(account)) | {"conversation_uuid": "call", "cmiuuid": f"leg-{number}"}
            deliver(account, payload, received_at=timezone.now())
        drain()
        call = Conversation.objects.get()
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(reverse("admin:calls_conversation_change", args=[call.pk]))
        return len(queries)

    assert cost(2) == cost(20)


def test_process_again_reads_one_delivery_again(admin_client, account):
    delivery = mark(deliver(account, sample_body(account), received_at=timezone.now()), attempts=5, **QUARANTINED)
    page = admin_client.post(f"{INBOX}{delivery.pk}/process-again/", follow=True).content.decode()
    assert "1 of 1 will be processed again." in page
    assert Delivery.objects.get().status == Delivery.Status.PENDING
    drain()
    delivery.refresh_from_db()
    assert (delivery.status, delivery.error_class) == (Delivery.Status.PROCESSED, "")
    assert Conversation.objects.count() == 1


def test_process_again_reads_many_again_and_says_what_it_left(admin_client, account):
    chosen = [mark(deliver(account, {"a": number}), **QUARANTINED) for number in range(3)]
    cut = mark(deliver(account, {"a": 9}), status=Delivery.Status.QUARANTINED, error_class="TooLarge")
    data = {"action": "process_again", "_selected_action": [row.pk for row in [*chosen, cut]]}
    page = admin_client.post(INBOX, data, follow=True).content.decode()
    assert "3 of 4 will be processed again." in page
    assert "are left as they are" in page
    assert Delivery.objects.filter(status=Delivery.Status.PENDING).count() == 3


def test_process_again_is_not_for_who_may_only_look(viewer_client, account):
    delivery = mark(deliver(account, {"a": 1}), **QUARANTINED)
    page = viewer_client.get(page_of(delivery))
    assert page.status_code == 200
    assert "Process again" not in page.content.decode()
    assert viewer_client.post(f"{INBOX}{delivery.pk}/process-again/").status_code == 403
    viewer_client.post(INBOX, {"action": "process_again", "_selected_action": [delivery.pk]})
    assert Delivery.objects.get().status == Delivery.Status.QUARANTINED


def test_following_a_link_processes_nothing(admin_client, account):
    delivery = mark(deliver(account, {"a": 1}), **QUARANTINED)
    assert admin_client.get(f"{INBOX}{delivery.pk}/process-again/").status_code == 405
    assert Delivery.objects.get().status == Delivery.Status.QUARANTINED


def test_deliveries_are_neither_added_changed_nor_deleted_by_hand(admin_client, account):
    delivery = deliver(account, {"a": 1})
    assert admin_client.get(f"{INBOX}add/").status_code == 403
    assert admin_client.post(page_of(delivery), {"status": "processed"}).status_code == 403
    assert admin_client.post(f"{INBOX}{delivery.pk}/delete/", {"post": "yes"}).status_code == 403
    assert Delivery.objects.get().status == Delivery.Status.PENDING


@pytest.mark.parametrize(
    "query",
    [
        "status__exact=%00",
        "status__exact=zz",
        "status__regex=(a%2B)%2B$",
        "received_at__regex=1",
        "body__contains=x",
        "error_class__exact=zz",
        "provider=zz",
        "received_at_from_0=x",
        "account__id__exact=x",
        "p=999",
        "o=1.2",
    ],
)
def test_no_address_breaks_the_list(admin_client, account, query):
    deliver(account, {"a": 1})
    assert admin_client.get(f"{INBOX}?{query}").status_code in {200, 302, 400}


# --- Accounts --------------------------------------------------------------------------------------------------------

ACCOUNT = {
    "slug": "delhi-support",
    "name": "",
    "provider": "piopiy",
    "app_id": "",
    "is_active": "on",
    "unit": "INR",
    "time_zone": "Asia/Kolkata",
    "phone_region": "IN",
    "silence_minutes": "240",
    "allowed_networks": "",
    "business_hours": "",
}


def test_a_new_account_shows_the_whole_webhook_url_to_copy(admin_client, settings):
    settings.PUBLIC_URL = "https://calls.example.com"
    page = admin_client.post("/admin/calls/account/add/", ACCOUNT, follow=True).content.decode()
    token = Endpoint.objects.get().token
    url = f"https://calls.example.com/webhooks/piopiy/{token}/"
    assert f'value="{url}"' in page
    assert f'data-copy="{url}"' in page


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("slug", "Delhi Support", "small letters, digits and inner dashes"),
        ("provider", "twilio", "Select a valid choice"),
        ("unit", "₹", "currency code such as INR"),
        ("time_zone", "Delhi", "IANA name such as Asia/Kolkata"),
        ("phone_region", "ZZ", "two capital letters such as IN"),
        ("silence_minutes", "1", "greater than or equal to 5"),
        ("allowed_networks", "203.0.113.0/24\nhome", "“home” is not an address or network"),
        ("business_hours", "Mon-Fry 09:00-18:00", "“Mon-Fry 09:00-18:00” is not understood"),
        ("business_hours", "Sat 14:00-10:00", "Write for example Mon-Fri 09:00-18:00"),
    ],
)
def test_a_wrong_value_is_named_and_nothing_is_stored(admin_client, field, value, words):
    page = admin_client.post("/admin/calls/account/add/", ACCOUNT | {field: value}).content.decode()
    assert words in unescape(page)
    assert not Account.objects.exists()


def test_the_provider_is_chosen_once(admin_client, account):
    admin_client.post(account_page(account), ACCOUNT | {"provider": "telecmi", "name": "New name"})
    account.refresh_from_db()
    assert (account.provider, account.name) == ("piopiy", "New name")


def test_a_second_url_is_valid_beside_the_first_and_a_third_is_not_made(admin_client, account, endpoint):
    for _ in range(2):
        page = admin_client.post(f"/admin/calls/account/{account.pk}/new-url/", follow=True).content.decode()
    assert "Retire one first" in page
    tokens = [row.token for row in account.endpoints.filter(retired_at=None)]
    assert len(tokens) == 2
    assert all(token in page for token in tokens)


def test_a_retired_url_is_no_longer_shown(admin_client, account, endpoint):
    page = admin_client.post(f"/admin/calls/account/{account.pk}/retire-url/{endpoint.pk}/", follow=True)
    assert endpoint.token not in page.content.decode()
    endpoint.refresh_from_db()
    assert endpoint.retired_at is not None
    again = admin_client.post(f"/admin/calls/account/{account.pk}/retire-url/{endpoint.pk}/")
    assert again.status_code == 404


def test_a_url_of_another_account_cannot_be_retired_from_here(admin_client, account, endpoint):
    other = Account.objects.create(slug="pune", provider="callerdesk")
    assert admin_client.post(f"/admin/calls/account/{other.pk}/retire-url/{endpoint.pk}/").status_code == 404


def test_a_token_of_the_operators_own_is_not_shown_and_the_page_says_why(admin_client, account):
    Endpoint.issue(account, "chosen-by-the-operator")
    page = admin_client.get(account_page(account)).content.decode()
    assert "chosen-by-the-operator" not in page
    assert "its token was chosen on the command line" in page


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("app_id", ["", "2222222"])
def test_a_test_delivery_becomes_a_call_and_leaves_the_money_alone(admin_client, provider, app_id):
    account = Account.objects.create(slug="test", provider=provider, app_id=app_id)
    Endpoint.issue(account)
    page = admin_client.post(f"/admin/calls/account/{account.pk}/test-delivery/", follow=True).content.decode()
    delivery = Delivery.objects.get()
    assert page_of(delivery) in page
    drain()
    delivery.refresh_from_db()
    assert (delivery.status, delivery.error_message) == (Delivery.Status.PROCESSED, "")
    call = Conversation.objects.get()
    assert (call.disposition, call.talk_seconds, call.customer_number) == ("answered", 13, "+919000000001")
    assert not BalanceReading.objects.exists()


def test_the_command_on_the_first_page_makes_a_call(admin_client, account):
    page = unescape(admin_client.get("/admin/").content.decode())
    deliver(account, re.search(r"-d '(.*?)'", page)[1].encode(), received_at=timezone.now())
    drain()
    assert Delivery.objects.get().status == Delivery.Status.PROCESSED
    assert Conversation.objects.get().disposition == "answered"
    assert "curl" not in admin_client.get("/admin/").content.decode()


def test_a_test_delivery_that_is_refused_says_why(admin_client, account, endpoint):
    Account.objects.filter(pk=account.pk).update(allowed_networks="203.0.113.0/24")
    page = admin_client.post(f"/admin/calls/account/{account.pk}/test-delivery/", follow=True).content.decode()
    assert "your own address is not among its allowed networks" in page
    assert not Delivery.objects.exists()


@pytest.mark.parametrize("act", ["new-url/", "test-delivery/", "retire-url/{}/"])
def test_webhook_urls_are_not_for_who_may_only_look(viewer_client, account, endpoint, act):
    address = f"/admin/calls/account/{account.pk}/{act.format(endpoint.pk)}"
    assert viewer_client.post(address).status_code == 403
    assert viewer_client.get(address).status_code == 405
    assert account.endpoints.filter(retired_at=None).count() == 1
    page = viewer_client.get(account_page(account)).content.decode()
    assert not re.search(r"New URL|Send test delivery|Retire<", page)


def test_an_account_with_deliveries_cannot_be_deleted_and_the_page_says_why(admin_client, account):
    deliver(account, {"a": 1})
    page = admin_client.get(account_page(account)).content.decode()
    assert "it cannot be deleted; make it inactive instead" in page
    assert admin_client.post(f"/admin/calls/account/{account.pk}/delete/", {"post": "yes"}).status_code == 403
    data = {"action": "delete_selected", "_selected_action": [account.pk], "post": "yes"}
    admin_client.post("/admin/calls/account/", data)
    assert Account.objects.exists()


def test_an_account_that_nothing_came_in_for_can_be_deleted(admin_client, account, endpoint):
    admin_client.post(f"/admin/calls/account/{account.pk}/delete/", {"post": "yes"})
    assert not Account.objects.exists()


def test_the_first_page_counts_what_is_quarantined_and_says_when_each_account_was_heard(admin_client, account):
    mark(deliver(account, {"a": 1}), **QUARANTINED)
    silent = Account.objects.create(slug="pune", provider="callerdesk")
    page = re.sub(r"<[^>]*>|\s+", " ", admin_client.get("/admin/").content.decode())
    assert re.search(r"Quarantined deliveries +1\b", page)
    assert re.search(rf"{silent} +none yet", page)
