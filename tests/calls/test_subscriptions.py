"""Subscriptions: everything that happens is told once, signed, in order, and until it is through."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from calls.access import visible
from calls.alerting import engine
from calls.api import representation
from calls.choices import Direction, Disposition, EventKind, EventType, Label, Role, Scope
from calls.intake import editing
from calls.models import Account, AlertRule, ApiKey, Attempt, Conversation, Message, Subscription, Tag
from calls.records import AgentRef, Alias, LegCdr, LiveEvent
from calls.subscriptions import control, following, sender
from calls.subscriptions.filters import faults
from calls.subscriptions.occurrences import OFFERED, Occurrence, emit
from tests.calls.reports import NOON, paid_call, take
from tests.sinks import web_sink
from webhooks import processing
from webhooks.models import Delivery

pytestmark = pytest.mark.django_db
PENDING, DELIVERED, FAILED, CANCELLED = Message.State
CONVERSATIONS = [one for one in OFFERED if one.startswith("conversation.")]
SECOND = timedelta(seconds=1)
TURN = timedelta(seconds=20)


def subscribe(url: str, *event_types: str, accounts: tuple[Account, ...] = (), **values: object) -> Subscription:
    subscription = Subscription(name="crm", url=url, event_types=list(event_types or OFFERED), **values)
    control.begin(subscription)
    subscription.accounts.set(accounts)
    return subscription


def events(number: int, *kinds: EventKind) -> list[LiveEvent]:
    """Live events on the customer's leg of a call, a second after each other."""
    return [
        LiveEvent(
            aliases=(Alias("uuid", f"call-{number}"),), leg_id=f"leg-{number}", label=Label.A, role=Role.CUSTOMER,
            call_direction=Direction.INBOUND, customer_number="+919000000001", kind=kind, provider_status=kind.value,
            occurred_at=NOON + position * SECOND, started_at=NOON, is_answer=kind is EventKind.ANSWERED,
        )
        for position, kind in enumerate(kinds)
    ]  # fmt: skip


def tell() -> None:
    """Do what the workers do in a turn, until nothing is left that is due."""
    following.follow_all(TURN)
    sender.send()


def become_due() -> None:
    Message.objects.filter(state=PENDING).update(next_attempt_at=timezone.now())
    Subscription.objects.update(resume_at=None)


def told(sink) -> list[tuple[str, object]]:
    """What a receiver got: type and id, in order of arrival."""
    bodies = [json.loads(post.body) for post in sink.posts]
    return [(body["type"], body["data"].get("id")) for body in bodies]


def types(sink) -> list[str]:
    return [kind for kind, _ in told(sink)]


def states() -> list[str]:
    return list(Message.objects.order_by("pk").values_list("state", flat=True))


def notice(*abouts: str) -> None:
    """Have all be told something about each of these, in their order."""
    for account in Account.objects.filter(slug="delhi-support"):
        emit(account.pk, [Occurrence(EventType.ALERT_OPENED, about, {"id": about}) for about in abouts])


# --- What is told ----------------------------------------------------------------------------------------------------


def test_a_call_is_told_of_from_its_start_to_its_correction_as_the_api_shows_it(account, hook):
    subscription = subscribe(hook.url)
    take(account, *events(1, EventKind.STARTED))
    tell()
    take(account, *events(1, EventKind.STARTED, EventKind.ANSWERED))
    tell()
    take(account, *events(1, EventKind.STARTED, EventKind.ANSWERED, EventKind.HANGUP))
    tell()
    shown = representation.conversations(Conversation.objects.all())[0]
    assert json.loads(hook.posts[-1].body)["data"] == json.loads(json.dumps(shown, default=str))
    take(account, paid_call(1, balance="99"))
    tell()
    call = Conversation.objects.get()
    assert told(hook) == [
        ("conversation.started", str(call.pk)),
        ("conversation.answered", str(call.pk)),
        ("conversation.ended", str(call.pk)),
        ("conversation.corrected", str(call.pk)),
    ]
    assert [json.loads(post.body)["data"]["state"] for post in hook.posts] == ["live", "live", "ended", "ended"]
    for post in hook.posts:
        assert Webhook(subscription.secrets[0]).verify(post.body, dict(post.headers))["timestamp"].endswith("Z")
        assert post.headers["Content-Type"] == "application/json"


def test_what_is_reported_at_once_is_told_step_by_step_and_what_is_reported_again_is_not(account, hook):
    subscribe(hook.url)
    for _ in range(3):
        take(account, paid_call(1, balance="99"), source=UUID(int=1))
        tell()
    assert types(hook) == ["conversation.started", "conversation.answered", "conversation.ended"]


def test_a_merger_names_both_calls_and_what_is_withdrawn_is_said_to_be_gone(account, hook):
    subscribe(hook.url, "conversation.merged", "conversation.erased", filters={"direction": ["outbound"]})
    for number in (1, 2):
        take(account, paid_call(number, balance="99"), source=UUID(int=number))
    one, other = Conversation.objects.order_by("pk").values_list("pk", flat=True)
    join = LegCdr(aliases=(Alias("uuid", "call-1"), Alias("uuid", "call-2")), leg_id="leg-3", label=Label.B)
    take(account, join)
    tell()
    assert json.loads(hook.posts[0].body)["data"] == {"id": str(other), "account": "delhi-support", "into": str(one)}
    assert types(hook) == ["conversation.merged"]


def test_what_staff_change_is_told_of(account, hook):
    take(account, paid_call(1, balance="99"))
    subscribe(hook.url)
    call = Conversation.objects.get()
    with editing([call.pk]):
        call.tags.add(Tag.objects.create(name="urgent"))
    tell()
    assert types(hook) == ["conversation.updated"]
    assert json.loads(hook.posts[0].body)["data"]["tags"] == ["urgent"]


def test_only_what_happens_after_it_was_made_is_told_and_nothing_of_before(account, hook):
    take(account, paid_call(1, balance="99"))
    subscribe(hook.url, "conversation.ended")
    take(account, paid_call(2, balance="98"))
    tell()
    newer = Conversation.objects.get(aliases__value="call-2")
    assert told(hook) == [("conversation.ended", str(newer.pk))]


def test_it_is_told_of_accounts_that_are_added_later_from_their_first_call_on(account, hook):
    subscribe(hook.url, "conversation.ended")
    tell()
    late = Account.objects.create(slug="pune", provider="piopiy")
    take(late, paid_call(1, balance="99"))
    tell()
    assert len(hook.posts) == 1


def test_it_is_told_of_accounts_that_it_is_allowed_later_from_then_on(account, hook):
    other = Account.objects.create(slug="pune", provider="piopiy")
    subscription = subscribe(hook.url, "conversation.ended", accounts=(account,))
    tell()
    take(other, paid_call(1, balance="99"))
    tell()
    subscription.accounts.add(other)
    tell()
    assert hook.posts == []
    take(other, paid_call(2, balance="98"))
    tell()
    newer = Conversation.objects.get(aliases__value="call-2")
    assert told(hook) == [("conversation.ended", str(newer.pk))]


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        ({}, True),
        ({"direction": ["inbound"], "disposition": ["answered", "missed"]}, True),
        ({"direction": ["outbound"]}, False),
        ({"disposition": ["missed"]}, False),
        ({"did": ["+918000000000"]}, True),
        ({"did": ["+918000000001"]}, False),
        ({"agent": [10**9]}, False),
        ({"tag": ["urgent", "vip"]}, True),
        ({"tag": ["other"]}, False),
    ],
)
def test_filters_let_through_what_has_one_of_the_values_in_every_field(account, hook, filters, passes):
    assert faults(filters) == []
    take(
        account,
        LegCdr(
            aliases=(Alias("uuid", "1"),), leg_id="leg-1", label=Label.A, role=Role.CUSTOMER, did="+918000000000",
            call_direction=Direction.INBOUND, disposition=Disposition.ANSWERED, started_at=NOON, ended_at=NOON,
            talk_seconds=20,
        ),
    )  # fmt: skip
    subscribe(hook.url, "conversation.updated", filters=filters)
    call = Conversation.objects.get()
    with editing([call.pk]):
        call.tags.set([Tag.objects.create(name=name) for name in ("urgent", "vip")])
    tell()
    assert len(hook.posts) == passes


def test_filters_by_agent_and_their_faults(account, hook):
    take(account, LegCdr(aliases=(Alias("uuid", "1"),), leg_id="1", label=Label.B, role=Role.AGENT,
                         agent=AgentRef(external_id="202"), disposition=Disposition.ANSWERED, started_at=NOON,
                         ended_at=NOON, talk_seconds=3))  # fmt: skip
    call = Conversation.objects.get()
    subscribe(hook.url, "conversation.updated", filters={"agent": [call.agent_id]})
    with editing([call.pk]):
        pass
    tell()
    assert len(hook.posts) == 1
    assert [fault.field for fault in faults({"agent": ["202"], "colour": ["red"], "did": [], "direction": ["up"]})] == [
        *("filters.agent", "filters.colour", "filters.did", "filters.direction"),
    ]
    assert "inbound, outbound" in faults({"direction": ["up"]})[0].message
    assert faults(["direction"])[0].field == "filters"


def test_alerts_are_told_as_they_open_and_clear_and_a_low_balance_by_its_name(account, hook):
    subscribe(hook.url, "alert.opened", "alert.cleared", "balance.low")
    AlertRule.objects.create(name="Low", kind="low_balance", opens_at=500, clears_at=900)
    for number, balance in enumerate(["400", "1000"]):
        now = timezone.now()
        take(account, paid_call(number, balance=balance, at=now), received_at=now)
        engine.review([account])
        tell()
    assert types(hook) == ["alert.opened", "balance.low", "alert.cleared"]
    opened, low, cleared = [json.loads(post.body)["data"] for post in hook.posts]
    assert opened == low
    assert (opened["account"], opened["kind"], opened["cleared_at"]) == ("delhi-support", "low_balance", None)
    assert cleared["id"] == opened["id"]
    assert cleared["cleared_at"] is not None


def test_a_delivery_that_is_not_understood_is_told_of_when_it_comes_to_quarantine_and_not_again(account, hook):
    subscribe(hook.url, "delivery.quarantined")
    subscribe(hook.url, "conversation.ended")
    delivery = Delivery.objects.create(
        account=account, received_at=NOON, method="POST", content_type="application/json", body=b"{", size=1, digest="1"
    )
    processing.drain()
    processing.requeue([delivery.pk])
    processing.drain()
    tell()
    assert [json.loads(post.body)["data"] for post in hook.posts] == [
        {
            "id": str(delivery.pk), "account": "delhi-support", "provider": "piopiy",
            "received_at": "2026-03-02T12:00:00Z",
            "error": {
                "class": (quarantined := Delivery.objects.get()).error_class, "field": quarantined.error_field,
                "value": quarantined.error_value, "message": quarantined.error_message,
            },
        }
    ]  # fmt: skip


def test_a_delivery_that_was_cut_off_at_the_door_is_told_of_once(account, hook):
    subscribe(hook.url, "delivery.quarantined")
    Delivery.objects.create(
        account=account, received_at=timezone.now(), processed_at=timezone.now(), status="quarantined", size=2**21,
        error_class="TooLarge", error_field="body", error_value="2097152 bytes", error_message="Too much.",
    )  # fmt: skip
    for _ in range(2):
        processing.tell_of_cut_off(timezone.now())
        tell()
    assert [json.loads(post.body)["data"]["error"]["class"] for post in hook.posts] == ["TooLarge"]


# --- Once ------------------------------------------------------------------------------------------------------------


def test_a_turn_that_is_cut_off_writes_no_message_and_the_next_one_writes_each_once(account, hook):
    subscribe(hook.url, "conversation.ended")
    for number in range(5):
        take(account, paid_call(number, balance="99"))
    with transaction.atomic():
        following.follow_all(TURN)
        assert Message.objects.count() == 5
        transaction.set_rollback(True)
    assert Message.objects.count() == 0
    for _ in range(3):
        tell()
    assert len(hook.posts) == len({post.headers["webhook-id"] for post in hook.posts}) == 5


def test_what_is_rolled_back_is_not_told(account, hook):
    subscribe(hook.url)
    with transaction.atomic():
        take(account, paid_call(1, balance="99"))
        notice("alert 1")
        transaction.set_rollback(True)
    tell()
    assert hook.posts == []


def test_more_changes_cost_no_more_queries(account, hook):
    subscribe(hook.url)
    counts = []
    for first, size in ((0, 2), (100, 22)):
        for number in range(first, first + size):
            take(account, paid_call(number, balance="99"))
        with CaptureQueriesContext(connection) as queries:
            following.follow_all(TURN)
        counts.append(len(queries))
    assert counts[0] == counts[1]
    assert Message.objects.count() == 3 * 24


def test_a_subscription_that_somebody_is_sending_to_is_left_to_them_until_their_lease_is_over(account, hook):
    subscribe(hook.url)
    notice("alert 1")
    Subscription.objects.update(lease_until=timezone.now() + 5 * SECOND)
    assert not sender.is_waiting()
    assert sender.send() == 0
    Subscription.objects.update(lease_until=timezone.now() - SECOND)  # they are gone
    assert sender.is_waiting()
    assert sender.send() == 1
    assert Subscription.objects.get().lease_until is None


def test_a_change_of_its_form_leaves_alone_what_is_noted_meanwhile(account, hook):
    subscription = subscribe(hook.url, "conversation.ended")
    take(account, paid_call(1, balance="99"))
    tell()
    subscription.name = "crm 2"
    subscription.save()
    tell()
    assert Subscription.objects.get().name == "crm 2"
    assert len(hook.posts) == 1


# --- Order -----------------------------------------------------------------------------------------------------------


def test_a_later_message_about_the_same_waits_and_those_about_others_do_not(account, hook):
    subscribe(hook.url)
    notice("alert 1", "alert 2", "alert 1", "alert 1")
    hook.answer = lambda post: 422 if json.loads(post.body)["data"]["id"] == "alert 1" else 200
    tell()
    become_due()
    tell()
    assert [about for _, about in told(hook)] == ["alert 1", "alert 2", "alert 1"]
    assert states() == [PENDING, DELIVERED, PENDING, PENDING]
    assert len({post.headers["webhook-id"] for post in hook.posts}) == 2
    hook.answer = lambda post: 200
    become_due()
    tell()
    in_order = [str(one) for one in Message.objects.order_by("pk").values_list("message_id", flat=True)]
    assert [post.headers["webhook-id"] for post in hook.posts[3:]] == [in_order[0], *in_order[2:]]


def test_a_message_that_has_failed_for_good_lets_the_next_one_go(account, hook):
    subscribe(hook.url)
    notice("alert 1", "alert 1")
    hook.answer = lambda post: 422
    tell()
    Message.objects.filter(attempts_made=1).update(first_attempt_at=timezone.now() - sender.TRIED_FOR)
    become_due()
    tell()
    assert states() == [FAILED, PENDING]
    assert len(hook.posts) == 3
    assert "answered 422" in Message.objects.last().last_error


def test_many_messages_about_the_same_arrive_in_order_and_one_at_a_time(account, hook):
    subscribe(hook.url)
    notice(*(f"alert {number % 3}" for number in range(45)))
    at_once, most, lock = [], [], threading.Lock()

    def answer(post):
        about = json.loads(post.body)["data"]["id"]
        with lock:
            assert about not in at_once
            at_once.append(about)
            most.append(len(at_once))
        at_once_for_a_while.wait(0.01)
        with lock:
            at_once.remove(about)
        return 200

    at_once_for_a_while = threading.Event()
    hook.answer = answer
    tell()
    for about in ("alert 0", "alert 1", "alert 2"):
        ids = [
            str(one) for one in Message.objects.filter(about=about).order_by("pk").values_list("message_id", flat=True)
        ]
        assert [post.headers["webhook-id"] for post in hook.posts if about.encode() in post.body] == [
            str(one) for one in ids
        ]
    assert max(most) > 1
    assert states() == [DELIVERED] * 45


# --- Signatures and addresses ----------------------------------------------------------------------------------------


def test_after_a_rotation_both_secrets_sign_for_a_while_and_then_the_new_one(account, hook):
    subscription = subscribe(hook.url)
    old = subscription.secrets[0]
    new = control.rotate(subscription, timedelta(hours=1))
    for secret in (old, new):
        assert secret not in str(Subscription.objects.values().get())
    notice("alert 1")
    tell()
    post = hook.posts[0]
    assert len(post.headers["webhook-signature"].split()) == 2
    for secret in (old, new):
        Webhook(secret).verify(post.body, dict(post.headers))
    Subscription.objects.update(previous_until=timezone.now())
    notice("alert 2")
    tell()
    post = hook.posts[1]
    Webhook(new).verify(post.body, dict(post.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(post.body, dict(post.headers))


def test_every_attempt_is_signed_at_its_own_time_with_the_same_id_and_bytes(account, hook):
    subscription = subscribe(hook.url)
    notice("alert 1")
    hook.answer = lambda post: 500
    hook.body, hook.headers = b"\0caf\xc3\xa9 " + 5000 * b"x", {"Content-Type": "text/plain"}
    for _ in range(3):
        tell()
        become_due()
    assert len({(post.body, post.headers["webhook-id"]) for post in hook.posts}) == 1
    assert len(hook.posts) == 3
    attempts = list(Attempt.objects.order_by("pk"))
    assert [attempt.status for attempt in attempts] == [500] * 3
    for attempt, post in zip(attempts, hook.posts, strict=True):
        assert attempt.request_headers["webhook-signature"] == post.headers["webhook-signature"]
        assert subscription.secrets[0] not in str(attempt.request_headers)
        assert attempt.answer.startswith("\ufffdcafé xxx")
        assert len(attempt.answer) == sender.ANSWER_BYTES - 1
        assert attempt.error == "127.0.0.1 answered 500. An answer of 200 to 299 is taken for received."
        Webhook(subscription.secrets[0]).verify(post.body, attempt.request_headers)


def test_an_address_that_has_become_private_is_not_sent_to(account, hook, settings):
    subscribe(hook.url)
    notice("alert 1")
    settings.ALLOWED_PRIVATE_TARGETS = []
    tell()
    assert hook.posts == []
    assert "127.0.0.1" in Attempt.objects.get().error
    assert Attempt.objects.get().status is None
    assert states() == [PENDING]


def test_a_redirect_is_a_failure_and_is_not_followed(account, hook):
    subscribe(hook.url)
    notice("alert 1")
    hook.answer = lambda post: 302
    tell()
    assert [post.path for post in hook.posts] == ["/hook"]
    assert Attempt.objects.get().status == 302


def test_a_secret_that_was_sealed_under_another_key_is_a_failure_that_says_so(account, hook, settings):
    subscribe(hook.url)
    notice("alert 1")
    settings.SECRET_KEY = "another" * 10
    tell()
    assert hook.posts == []
    assert "SECRET_KEY" in Subscription.objects.get().last_error


# --- Keys ------------------------------------------------------------------------------------------------------------


def a_key(*accounts: Account, **values: object) -> ApiKey:
    key, _ = ApiKey.issue("crm", [Scope.MANAGE], accounts=accounts)
    for name, value in values.items():
        setattr(key, name, value)
    key.save()
    return key


@pytest.mark.parametrize(
    ("change", "is_told"),
    [
        ({}, True),
        ({"is_active": False}, False),
        ({"expires_at": NOON}, False),
        ({"scopes": ["read"]}, False),
    ],
)
def test_a_key_that_has_no_say_any_more_is_told_nothing(account, hook, change, is_told):
    key = a_key()
    subscribe(hook.url, "conversation.ended", "alert.opened", api_key=key)
    take(account, paid_call(1, balance="99"))
    notice("alert 1")
    ApiKey.objects.update(**change)
    tell()
    take(account, paid_call(2, balance="99"))
    notice("alert 2")
    tell()
    assert len(hook.posts) == (4 if is_told else 0)


def test_a_key_of_some_accounts_is_told_of_no_other_neither_new_nor_waiting(account, hook):
    other = Account.objects.create(slug="pune", provider="piopiy")
    subscription = subscribe(hook.url, "conversation.ended", "alert.opened", api_key=a_key(account))
    for one in (account, other):
        take(one, paid_call(1, balance="99"))
        emit(one.pk, [Occurrence(EventType.ALERT_OPENED, f"alert {one.slug}", {"id": one.slug})])
    tell()
    assert {json.loads(post.body)["data"].get("account", "delhi-support") for post in hook.posts} == {"delhi-support"}
    assert len(hook.posts) == 2
    notice("alert 2")
    subscription.api_key.accounts.set([other])
    tell()
    assert len(hook.posts) == 2
    assert states()[-1] == CANCELLED


def test_a_key_of_some_accounts_sees_the_subscriptions_that_are_told_of_these_alone(account, hook):
    other = Account.objects.create(slug="pune", provider="piopiy")
    key = a_key(account)
    mine = subscribe(hook.url, accounts=(account,))
    by_key = subscribe(hook.url, api_key=key)
    hidden = subscribe(hook.url)
    for accounts in ([account, other], [other]):
        subscribe(hook.url, accounts=accounts)
    notice("alert 1")
    tell()
    assert set(visible(key, Subscription.objects.all())) == {mine, by_key}
    assert Message.objects.count() == Attempt.objects.count() == 4
    assert {one.subscription for one in visible(key, Message.objects.all())} == {mine, by_key}
    assert {one.message.subscription for one in visible(key, Attempt.objects.all())} == {mine, by_key}
    assert hidden in visible(a_key_of_all(), Subscription.objects.all())


def a_key_of_all() -> ApiKey:
    return ApiKey.issue("all", [Scope.MANAGE])[0]


# --- Failing ---------------------------------------------------------------------------------------------------------


def test_pauses_grow_fourfold_up_to_two_hours_and_end_after_a_day():
    pauses = [sender.pause_after(attempts).total_seconds() for attempts in range(1, 10)]
    for pause, seconds in zip(pauses, [5, 20, 80, 320, 1280, 5120, 7200, 7200, 7200], strict=True):
        assert 0.8 * seconds <= pause <= 1.2 * seconds
    assert sender.pause_after(30_000) <= timedelta(hours=2.4)
    assert sender.rest_after(30_000) <= 72 * SECOND


def test_a_receiver_that_fails_is_left_alone_for_a_while_and_shown_as_failing_until_it_works(account, hook):
    subscribe(hook.url)
    notice("alert 1", "alert 2", "alert 3")
    hook.answer = lambda post: 503
    hook.headers = {"Retry-After": "120"}
    tell()
    tell()
    assert len(hook.posts) == 1
    failing = Subscription.objects.get()
    assert failing.failing_since is not None
    assert failing.last_error == "127.0.0.1 answered 503. An answer of 200 to 299 is taken for received."
    assert timezone.now() + 100 * SECOND < failing.resume_at <= timezone.now() + 120 * SECOND
    hook.answer = lambda post: 204
    become_due()
    tell()
    mended = Subscription.objects.get()
    assert (mended.failing_since, mended.last_error, mended.failures, mended.resume_at) == (None, "", 0, None)
    assert mended.last_success_at is not None
    assert states() == [DELIVERED] * 3


def test_after_a_day_of_attempts_a_message_has_failed(account, hook):
    subscribe(hook.url)
    notice("alert 1")
    hook.answer = lambda post: 500
    tell()
    Message.objects.update(first_attempt_at=timezone.now() - sender.TRIED_FOR)
    become_due()
    tell()
    assert states() == [FAILED]
    become_due()
    tell()
    assert len(hook.posts) == 2


def test_a_receiver_that_is_back_after_an_outage_gets_at_once_what_has_waited(account, hook):
    subscribe(hook.url)
    notice(*(f"alert {number}" for number in range(6)))
    Message.objects.exclude(about="alert 0").update(next_attempt_at=timezone.now() + timedelta(hours=2))
    Subscription.objects.update(failing_since=timezone.now() - timedelta(hours=3), failures=9)
    tell()
    assert states() == [DELIVERED] * 6


def test_a_receiver_that_says_gone_is_disabled_and_the_administrators_are_told(
    account, hook, mailbox, django_user_model
):
    django_user_model.objects.create_superuser("boss", "boss@example.com")
    subscribe(hook.url)
    notice("alert 1")
    hook.answer = lambda post: 410
    tell()
    disabled = Subscription.objects.get()
    assert (disabled.state, disabled.state_reason) == (
        "disabled", "Its receiver answered 410: it wants no more messages.",
    )  # fmt: skip
    for _ in range(2):
        control.tell_of_disabled()
    [(recipients, mail)] = mailbox.mails
    assert recipients == ["boss@example.com"]
    text = mail.get_payload(0).get_payload(decode=True).decode()
    assert "“crm”" in text
    assert "answered 410" in text
    take(account, paid_call(1, balance="99"))
    become_due()
    tell()
    assert len(hook.posts) == 1
    # What happened meanwhile is kept for it.
    hook.answer = lambda post: 200
    control.resume(disabled)
    tell()
    since = types(hook)[1:]
    since.remove("alert.opened")  # between different things there is no order
    assert since == ["conversation.started", "conversation.answered", "conversation.ended"]


def test_a_subscription_is_disabled_when_nothing_got_through_for_five_days(account, hook):
    subscribe(hook.url)
    notice("alert 1")
    hook.answer = lambda post: 500
    Subscription.objects.update(failing_since=timezone.now() - sender.FAILING_FOR + timedelta(hours=1))
    tell()
    assert Subscription.objects.get().state == "active"
    Subscription.objects.update(failing_since=timezone.now() - sender.FAILING_FOR)
    become_due()
    tell()
    assert Subscription.objects.get().state == "disabled"
    assert "for 5 days" in Subscription.objects.get().state_reason


def test_what_happens_while_it_is_paused_is_told_when_it_goes_on(account, hook):
    subscription = subscribe(hook.url, "conversation.ended", "alert.opened")
    control.pause(subscription, "The receiver moves")
    take(account, paid_call(1, balance="99"))
    notice("alert 1")
    tell()
    assert hook.posts == []
    control.resume(subscription)
    tell()
    assert sorted(types(hook)) == ["alert.opened", "conversation.ended"]


def test_receivers_that_hang_delay_no_other(account, hook, monkeypatch):
    """Also when they are more than there are threads, and all are sent to in one turn of one worker."""
    monkeypatch.setattr(sender, "THREADS", 8)
    monkeypatch.setattr(sender, "MOST_SLOW", 4)
    is_over, others_have_all = threading.Event(), threading.Event()
    was_in_time, hanging = [], []

    def hang(post):
        is_over.wait(30)
        return 200

    def count(post):
        if len(quick.posts) == 60:
            others_have_all.set()
        return 200

    def release():
        was_in_time.append(others_have_all.wait(9))  # less than the time that a post may take
        hanging.append(len(hook.posts))
        is_over.set()

    hook.answer = hang
    with web_sink() as quick:
        quick.answer = count
        for _ in range(12):
            subscribe(hook.url, "alert.cleared")
        for _ in range(3):
            subscribe(quick.url, "alert.opened", last_milliseconds=5)
        emit(account.pk, [Occurrence(EventType.ALERT_CLEARED, "alert 1", {"id": 1})])
        notice(*(f"alert {number}" for number in range(20)))
        watcher = threading.Thread(target=release)
        watcher.start()
        sender.send()
        watcher.join()
    assert was_in_time == [True]
    assert hanging == [4]
    assert len(quick.posts) == 60


def end_turn(monkeypatch) -> None:
    monkeypatch.setattr(sender, "TURN", timedelta(0))


def test_a_turn_ends_in_time_and_leaves_the_rest_to_the_next(account, hook, monkeypatch):
    hook.answer = lambda post: end_turn(monkeypatch) or 200
    subscribe(hook.url)
    notice(*(f"alert {number}" for number in range(20)))
    assert sender.send() == len(hook.posts) == 1
    monkeypatch.undo()
    hook.answer = lambda post: 200
    assert sender.is_waiting()
    assert sender.send() == 19


def test_quick_receivers_are_sent_to_on_while_a_turn_waits_for_slow_ones(account, hook, monkeypatch):
    has_come, is_over = threading.Event(), threading.Event()

    def hang(post):
        has_come.set()
        return 200 if is_over.wait(30) else 500

    def count(post):
        if len(quick.posts) == 1 and has_come.wait(30):
            end_turn(monkeypatch)
        if len(quick.posts) == 60:
            is_over.set()
        return 200

    hook.answer = hang
    with web_sink() as quick:
        quick.answer = count
        subscribe(hook.url)
        subscribe(quick.url, last_milliseconds=5)
        notice(*(f"alert {number}" for number in range(60)))
        sender.send()
    assert (len(hook.posts), len(quick.posts)) == (1, 60)


@pytest.mark.django_db(transaction=True)
def test_several_workers_at_once_write_and_send_each_message_once_and_in_order(account, hook):
    subscriptions = [subscribe(hook.url, "conversation.started", "conversation.ended") for _ in range(3)]
    for number in range(5):
        take(account, paid_call(number, balance="99"))

    def work():
        try:
            while set(states()) != {DELIVERED} or len(states()) != 30:
                tell()
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as pool:
        for worker in [pool.submit(work) for _ in range(3)]:
            worker.result()
    assert len(hook.posts) == len({post.headers["webhook-id"] for post in hook.posts}) == 30
    for subscription in subscriptions:
        ids = {str(one) for one in subscription.messages.values_list("message_id", flat=True)}
        bodies = [json.loads(post.body) for post in hook.posts if post.headers["webhook-id"] in ids]
        for call in Conversation.objects.all():
            of_call = [body["type"] for body in bodies if body["data"]["id"] == str(call.pk)]
            assert of_call == ["conversation.started", "conversation.ended"]


def test_a_subscription_that_is_deleted_while_it_is_sent_to_leaves_nothing_behind(account, hook):
    subscription = subscribe(hook.url)
    notice("alert 1", "alert 2")
    order = sender._order(subscription, Message.objects.first())
    outcome = sender.post(order)
    subscription.delete()
    assert sender._note(subscription, [outcome]) == 0
    assert Attempt.objects.count() == 0


# --- By hand ---------------------------------------------------------------------------------------------------------


def test_a_test_message_is_sent_at_once_and_says_what_became_of_it(account, hook):
    subscription = subscribe(hook.url)
    control.pause(subscription)
    attempt = control.send_test(subscription)
    assert (attempt.status, attempt.error) == (200, "")
    assert types(hook) == ["test"]
    Webhook(subscription.secrets[0]).verify(hook.posts[0].body, dict(hook.posts[0].headers))
    hook.answer = lambda post: 403
    attempt = control.send_test(subscription)
    assert (attempt.status, attempt.pk is not None) == (403, True)
    assert states() == [DELIVERED, FAILED]
    become_due()
    tell()
    assert len(hook.posts) == 2


def test_messages_are_sent_again_in_their_order_with_the_same_ids_and_bytes(account, hook):
    subscription = subscribe(hook.url)
    notice(*["alert 1"] * 5)
    tell()
    assert control.resend(subscription.messages.filter(pk__in=Message.objects.order_by("pk")[1:4].values("pk"))) == 3
    tell()
    first, again = hook.posts[:5], hook.posts[5:]
    assert [(post.headers["webhook-id"], post.body) for post in again] == [
        (post.headers["webhook-id"], post.body) for post in first[1:4]
    ]
    assert states() == [DELIVERED] * 5
    assert Message.objects.order_by("pk")[1].attempts.count() == 2


def test_messages_are_kept_for_a_month_unless_they_can_still_be_sent(account, hook):
    _, standing = subscribe(hook.url), subscribe(hook.url)
    notice("alert 1", "alert 2")
    hook.answer = lambda post: 200 if b"alert 1" in post.body else 422
    control.pause(standing)
    tell()
    assert states() == [DELIVERED, PENDING, PENDING, PENDING]
    assert control.sweep(timezone.now()) == 0
    assert control.sweep(timezone.now() + control.KEPT) == 3
    assert Message.objects.get().about == "alert 2"
