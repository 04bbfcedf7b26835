"""The admin of subscriptions and of what they were sent: what staff see, may try, and are refused."""

import ipaddress
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from standardwebhooks.webhooks import Webhook

from calls.choices import Scope
from calls.models import Account, Agent, ApiKey, AuditEntry, Message, Subscription, Tag
from calls.subscriptions import control, sender
from calls.subscriptions.occurrences import OFFERED
from tests.calls.staff import logged_in, person
from tests.sinks import WebSink, web_sink

pytestmark = pytest.mark.django_db
LIST, LOG = "/admin/calls/subscription/", "/admin/calls/message/"


@pytest.fixture
def sink(settings: Any) -> Iterator[WebSink]:
    settings.ALLOWED_PRIVATE_TARGETS = [ipaddress.ip_network("127.0.0.0/8")]
    with web_sink() as running:
        yield running


@pytest.fixture
def crm(sink: WebSink) -> Subscription:
    return a_subscription(url=sink.url)


def a_subscription(*accounts: Account, **values: Any) -> Subscription:
    defaults = {"name": "crm", "url": "https://127.0.0.1/hook", "event_types": ["alert.opened"]}
    subscription = Subscription(**(defaults | values))
    control.begin(subscription)
    subscription.accounts.set(accounts)
    return subscription


def a_message(subscription: Subscription, **values: Any) -> Message:
    defaults = {"type": "alert.opened", "about": "alert 7", "body": b'{"type":"alert.opened"}', "state": "delivered"}
    return Message.objects.create(subscription=subscription, **(defaults | values))


def page_of(subscription: Subscription) -> str:
    return reverse("admin:calls_subscription_change", args=[subscription.pk])


def press(client: Client, subscription: Subscription, button: str, **form: Any) -> str:
    """Press a button of a subscription's page and return what the page says then."""
    address = reverse(f"admin:calls_subscription_{button}", args=[subscription.pk])
    return client.post(address, form, follow=True).content.decode()


def form_of(url: str, **values: Any) -> dict[str, Any]:
    return {"name": "crm", "url": url, "event_types": ["conversation.ended"]} | values


def test_the_form_makes_a_subscription_and_shows_its_secret_once(admin_client, account, sink):
    agent, tag = Agent.objects.create(account=account, external_id="7", name="Asha"), Tag.objects.create(name="VIP")
    form = form_of(
        sink.url,
        event_types=["conversation.ended", "alert.opened"],
        accounts=[account.pk],
        direction=["inbound"],
        did="+918000000000\n+918000000001",
        agent=[agent.pk],
        tag=[tag.name],
    )
    page = admin_client.post(f"{LIST}add/", form, follow=True).content.decode()
    made = Subscription.objects.get()
    secret = re.search(r"whsec_[A-Za-z0-9+/=]+", page)[0]
    assert made.secrets == [secret]
    assert made.event_types == ["conversation.ended", "alert.opened"]
    assert list(made.accounts.all()) == [account]
    assert made.filters == {
        "direction": ["inbound"],
        "did": ["+918000000000", "+918000000001"],
        "agent": [agent.pk],
        "tag": ["VIP"],
    }
    assert made.api_key is None
    page = admin_client.get(page_of(made)).content.decode()
    assert secret not in page
    for shown in ("+918000000001", 'value="inbound"', "Asha", "VIP"):
        assert shown in page
    assert secret not in json.dumps(list(AuditEntry.objects.values()), default=str)


def test_what_the_form_shows_is_what_it_saves(admin_client, account, crm):
    crm.filters = {"direction": ["inbound"], "did": ["+918000000000"]}
    crm.save()
    form = form_of(crm.url, direction=["inbound"], did="+918000000000", name="mine")
    assert admin_client.post(page_of(crm), form).status_code == 302
    crm.refresh_from_db()
    assert (crm.name, crm.filters) == ("mine", {"direction": ["inbound"], "did": ["+918000000000"]})
    assert admin_client.post(page_of(crm), form_of(crm.url)).status_code == 302
    crm.refresh_from_db()
    assert crm.filters == {}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"url": "https://10.0.0.1/"}, "not on the public internet"),
        ({"url": "http://nowhere.invalid/"}, "cannot be looked up"),
        ({"url": "gopher://127.0.0.1/"}, "does not start with https://"),
        ({"event_types": []}, "This field is required."),
        ({"did": "x" * 65}, "Give text of 1 to 64 characters."),
    ],
)
def test_the_form_refuses_what_is_wrong_with_the_reason(admin_client, sink, values, reason):
    answer = admin_client.post(f"{LIST}add/", form_of(sink.url) | values)
    assert reason in answer.content.decode()
    assert not Subscription.objects.exists()


def test_the_list_tells_how_each_does_without_its_path_or_secret(admin_client, crm):
    a_subscription(name="off", state="paused", state_reason="By asha.")
    a_subscription(name="bad", state="disabled", state_reason="Its receiver answered 410.")
    a_subscription(name="ill", failing_since=timezone.now(), last_error="answered 500")
    key, _ = ApiKey.issue("gone", [Scope.MANAGE])
    ApiKey.objects.update(is_active=False)
    a_subscription(name="lost", api_key=key)
    a_subscription(name="much", event_types=[one.value for one in OFFERED])
    a_subscription(name="some", event_types=[one.value for one in OFFERED[:5]])
    a_message(crm, state="pending")
    page = admin_client.get(LIST).content.decode()
    assert "everything" in page
    assert "Call started, Call answered, Call ended and 2 more" in page
    for words in (
        "Active",
        "Paused",
        "By asha.",
        "Disabled",
        "answered 410",
        "Failing",
        "answered 500",
        "Ended",
        "gone",
    ):
        assert words in page
    assert f'{LOG}?subscription__id__exact={crm.pk}&amp;state__exact=pending">1</a>' in page
    assert "127.0.0.1" in page
    assert "/hook" not in page
    assert "whsec_" not in page


def test_a_test_message_is_sent_at_once_and_its_attempt_shown(admin_client, crm, sink):
    page = press(admin_client, crm, "test")
    assert "The test message was delivered: the receiver answered 200." in page
    assert sink.posts[0].headers["webhook-signature"] in page
    sink.answer = lambda post: 503
    page = press(admin_client, crm, "test")
    assert "The test message did not get through." in page
    assert "answered 503" in page
    assert "Send again" not in page, "a test is sent once"


def test_a_new_secret_is_shown_once_and_the_old_one_signs_along(admin_client, crm, sink):
    [old] = crm.secrets
    page = press(admin_client, crm, "rotate", hours=24)
    new = re.search(r"whsec_[A-Za-z0-9+/=]+", page)[0]
    assert "the secret before the present one signs along." in page
    assert new not in admin_client.get(page_of(crm)).content.decode()
    press(admin_client, crm, "test")
    for secret in (old, new):
        assert Webhook(secret).verify(sink.posts[0].body, dict(sink.posts[0].headers))
    assert AuditEntry.objects.filter(details__note="New secret; the old one signs along for a day").exists()
    assert "Nothing was done." in press(admin_client, crm, "rotate", hours=5)


def test_a_subscription_is_paused_and_resumed(admin_client, crm):
    assert "It is paused." in press(admin_client, crm, "pause")
    crm.refresh_from_db()
    assert (crm.state, crm.state_reason) == ("paused", "By admin.")
    a_message(crm, state="pending")
    assert not sender.send()
    assert "It goes on." in press(admin_client, crm, "resume")
    assert sender.send() == 1


def test_a_new_address_has_what_waits_tried_at_once(admin_client, sink):
    crm = a_subscription(url="http://127.0.0.1:1/", failing_since=timezone.now())
    a_message(crm, state="pending", next_attempt_at=timezone.now() + timedelta(hours=2))
    assert admin_client.post(page_of(crm), form_of(sink.url)).status_code == 302
    assert sender.send() == 1


def test_a_subscription_is_deleted_with_its_log(admin_client, crm):
    for _ in range(3):
        a_message(crm).attempts.create(started_at=timezone.now(), milliseconds=1, request_headers={})
    address = reverse("admin:calls_subscription_delete", args=[crm.pk])
    assert "messages in their logs: 3" in re.sub(r"\s+", " ", admin_client.get(address).content.decode()).lower()
    assert admin_client.post(address, {"post": "yes"}).status_code == 302
    assert not Subscription.objects.exists()
    assert not Message.objects.exists()
    assert AuditEntry.objects.filter(action="delete", target_name="subscription crm").exists()


def test_the_log_shows_request_and_answer_of_each_attempt(admin_client, crm, sink):
    sink.answer = lambda post: 500
    message = a_message(crm, state="pending", body=b'{"type":"alert.opened","data":{"id":7}}')
    sender.send()
    page = admin_client.get(reverse("admin:calls_message_change", args=[message.pk])).content.decode()
    for shown in (
        "Waiting",
        "answered 500",
        "webhook-signature",
        "&quot;id&quot;: 7",
        str(message.message_id),
        "Tried next",
    ):
        assert shown in page
    assert "whsec_" not in page


def test_the_log_is_filtered_by_state_and_type(admin_client, crm):
    a_message(crm, type="alert.opened", state="failed", last_error="first")
    a_message(crm, type="alert.cleared", state="pending", last_error="second")

    def errors(query: str) -> list[str]:
        return re.findall(r'rl-reason">(\w+)<', admin_client.get(f"{LOG}?{query}").content.decode())

    assert errors("") == ["second", "first"]
    assert errors("state__exact=failed") == ["first"]
    assert errors("type__exact=alert.cleared") == ["second"]
    assert errors(f"subscription__id__exact={a_subscription(name='other').pk}") == []


def test_one_message_and_the_chosen_ones_are_sent_again(admin_client, crm, sink):
    first, second = a_message(crm), a_message(crm, state="failed")
    page = admin_client.post(reverse("admin:calls_message_send_again", args=[first.pk]), follow=True).content.decode()
    assert "1 message will be sent again." in page
    form = {"action": "send_again", "_selected_action": [first.pk, second.pk]}
    assert "1 message will be sent again." in admin_client.post(LOG, form, follow=True).content.decode()
    assert sender.send() == 2
    assert [post.headers["webhook-id"] for post in sink.posts] == [str(one.message_id) for one in (first, second)]
    assert (
        AuditEntry.objects.filter(target_type="calls.subscription", details__note="1 message sent again").count() == 2
    )
    Message.objects.update(state="pending")
    assert "Nothing was done" in admin_client.post(LOG, form, follow=True).content.decode()


def test_all_that_a_filter_leaves_is_sent_again(admin_client, crm):
    for i in range(60):
        a_message(crm, state="failed" if i else "delivered")
    form = {"action": "send_again", "_selected_action": [Message.objects.first().pk], "select_across": "1"}
    page = admin_client.post(f"{LOG}?state__exact=failed", form, follow=True).content.decode()
    assert "59 messages will be sent again." in page
    assert Message.objects.filter(state="pending").count() == 59


def test_a_message_leads_to_what_it_speaks_of(admin_client, crm):
    call = "01997d5e-8a4c-7c3a-9d0a-3f2b1c4d5e6f"
    a_message(crm, type="conversation.ended", about=call)
    a_message(crm, type="alert.opened", about="alert 7")
    a_message(crm, type="delivery.quarantined", about=f"delivery {call.replace('-', '')}")
    page = admin_client.get(LOG).content.decode()
    for address in (f"/admin/calls/conversation/{call}/", "/admin/calls/alert/7/", f"/admin/webhooks/delivery/{call}/"):
        assert f'href="{address}change/"' in page


def test_empty_lists_say_what_to_do(admin_client):
    assert "told here of what happens" in admin_client.get(LIST).content.decode()
    assert "What programs are told, and what they answered, stands here." in admin_client.get(LOG).content.decode()


def test_a_manager_sees_and_makes_only_what_is_of_their_accounts(account, sink):
    pune = Account.objects.create(slug="pune-sales", provider="piopiy")
    of_all, theirs = a_subscription(name="of all"), a_subscription(pune, name="of Pune")
    ours = a_subscription(account, name="of Delhi")
    old = a_message(ours, account=pune)
    client = logged_in(person("manager", accounts=[account]))
    page = client.get(LIST).content.decode()
    assert "of Delhi" in page
    assert "of Pune" not in page
    assert "of all" not in page
    for hidden in (of_all, theirs):
        assert client.get(page_of(hidden)).status_code == 302
        assert (
            client.post(reverse("admin:calls_subscription_rotate", args=[hidden.pk]), {"hours": 0}).status_code == 404
        )
    assert client.get(reverse("admin:calls_message_change", args=[old.pk])).status_code == 302
    assert "This field is required." in client.post(f"{LIST}add/", form_of(sink.url)).content.decode()
    refused = client.post(f"{LIST}add/", form_of(sink.url, accounts=[pune.pk])).content.decode()
    assert "is not one of the available choices" in refused
    assert client.post(f"{LIST}add/", form_of(sink.url, accounts=[account.pk])).status_code == 302


def test_who_may_only_look_cannot_change_anything_and_sees_numbers_masked(crm):
    message = a_message(crm, body=b'{"type":"alert.opened","data":{"customer_number":"+919000000001"}}')
    client = logged_in(person("auditor"))
    page = client.get(page_of(crm)).content.decode()
    for button in ("Send test", "Pause", "New secret"):
        assert button not in page
    page = client.get(reverse("admin:calls_message_change", args=[message.pk])).content.decode()
    assert "customer_number" in page
    assert "9000000001" not in page
    assert "Send again" not in page
    assert client.post(reverse("admin:calls_message_send_again", args=[message.pk])).status_code == 403
    assert client.post(reverse("admin:calls_subscription_test", args=[crm.pk])).status_code == 403


def test_lists_cost_the_same_whatever_they_hold(admin_client, account, crm):
    def cost(address: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert admin_client.get(address).status_code == 200
        return len(queries)

    message = a_message(crm)
    crm.accounts.add(account)
    detail = reverse("admin:calls_message_change", args=[message.pk])
    cost(LIST)
    before = cost(LIST), cost(LOG), cost(detail)
    for i in range(20):
        a_message(a_subscription(account, name=f"crm {i}"))
        message.attempts.create(started_at=timezone.now(), milliseconds=1, request_headers={}, error="x")
    assert (cost(LIST), cost(LOG), cost(detail)) == before
