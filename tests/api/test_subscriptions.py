"""Subscriptions in the API: made, changed, tried, looked into and sent again, by keys that see only what is theirs."""

import ipaddress
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from jsonschema import Draft202012Validator
from standardwebhooks.webhooks import Webhook

from calls import changes, intake
from calls.choices import EventType, Scope
from calls.ids import new_id
from calls.models import Account, ApiKey, AuditEntry, Change, Conversation, Message, Subscription
from calls.subscriptions import control, following, sender
from calls.subscriptions.occurrences import OFFERED, emit_alerts
from tests.api.factories import a_conversation, an_account, an_alert, client_with
from tests.sinks import WebSink, web_sink
from webhooks.telling import Quarantined, tell_of_quarantined

pytestmark = pytest.mark.django_db

Make = Callable[..., dict[str, Any]]
LIST = "/api/v1/subscriptions/"
CHANGES = "/api/v1/changes/"


@pytest.fixture
def sink(settings: Any) -> Iterator[WebSink]:
    settings.ALLOWED_PRIVATE_TARGETS = [ipaddress.ip_network("127.0.0.0/8")]
    with web_sink() as running:
        yield running


@pytest.fixture
def make(client: Client, sink: WebSink) -> Make:
    """Make a subscription by the API and return it, with its secret."""

    def subscribe(as_client: Client = client, **values: Any) -> dict[str, Any]:
        answer = post(as_client, LIST, {"name": "crm", "url": sink.url, "event_types": ["alert.opened"]} | values)
        assert answer.status_code == 201, answer.content
        return answer.json()

    return subscribe


def post(client: Client, address: str, body: Any = None, **headers: str) -> Any:
    return client.post(address, body, content_type="application/json", headers=headers)


def patch(client: Client, subscription: dict[str, Any], body: dict[str, Any], etag: str = "*") -> Any:
    address = f"{LIST}{subscription['id']}/"
    return client.patch(address, body, content_type="application/json", headers={"if-match": etag})


def client_of(*accounts: str, scopes: tuple[Scope, ...] = (Scope.READ, Scope.MANAGE)) -> Client:
    """A client whose key is restricted to these accounts."""
    key, text = ApiKey.issue(f"key of {', '.join(accounts)}", list(scopes))
    key.accounts.set([an_account(slug) for slug in accounts])
    return client_with(text)


def a_message(subscription: dict[str, Any], **values: Any) -> Message:
    defaults = {"type": "alert.opened", "about": "alert 7", "body": b'{"type":"alert.opened"}', "state": "delivered"}
    return Message.objects.create(subscription_id=subscription["id"], **(defaults | values))


def told(subscription: dict[str, Any]) -> list[Conversation]:
    """Return the conversations that the messages of a subscription speak of, in order."""
    about = Message.objects.filter(subscription_id=subscription["id"]).order_by("id").values_list("about", flat=True)
    return [Conversation.objects.get(pk=pk) for pk in about]


def refused(answer: Any) -> dict[str, str]:
    """Return what an answer 400 finds wrong, by field."""
    assert answer.status_code == 400, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    return {error["field"]: error["message"] for error in answer.json()["errors"]}


def test_a_subscription_is_made_and_its_secret_is_shown_only_then(client, make, sink):
    an_account()
    made = make(
        event_types=["conversation.ended", "conversation.ended"],
        accounts=["delhi-support"],
        filters={"direction": ["inbound"]},
    )
    assert made["secret"].startswith("whsec_")
    shown = client.get(f"{LIST}{made['id']}/")
    assert shown.json() == {
        "id": made["id"],
        "name": "crm",
        "url": sink.url,
        "event_types": ["conversation.ended"],
        "accounts": ["delhi-support"],
        "filters": {"direction": ["inbound"]},
        "state": "active",
        "state_reason": "",
        "previous_secret_until": None,
        "created_at": made["created_at"],
    }
    assert shown.json() == {name: value for name, value in made.items() if name != "secret"}
    assert client.get(LIST).json()["results"] == [shown.json()]
    assert made["secret"] not in json.dumps(list(Subscription.objects.values()), default=str), "it is kept sealed"
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.api_key.subscriptions.get().pk) == ("add", made["id"])


@pytest.mark.parametrize(
    ("values", "field", "message"),
    [
        ({"url": "http://example.com/"}, "url", "cannot be looked up"),
        ({"url": "https://10.0.0.1/hook"}, "url", "not on the public internet"),
        ({"url": "https://169.254.169.254/latest/meta-data"}, "url", "not on the public internet"),
        ({"url": "ftp://127.0.0.1/"}, "url", "does not start with https://"),
        ({"url": "https://user:secret@127.0.0.1/"}, "url", "user name or password"),
        ({"url": 7}, "url", "Give one, in quotes"),
        ({"url": None}, "url", "null"),
        ({"name": " "}, "name", "blank"),
        ({"name": "x" * 121}, "name", "at most 120"),
        ({"event_types": []}, "event_types", "at least 1"),
        ({"event_types": "alert.opened"}, "event_types", "Give one, in brackets"),
        ({"event_types": ["alert.opend"]}, "event_types[0]", "Did you mean “alert.opened”?"),
        ({"event_types": ["test"]}, "event_types[0]", "Give one of: conversation.started"),
        ({"accounts": ["delhi-suport"]}, "accounts", "Did you mean “delhi-support”?"),
        ({"filters": {"direction": ["inwards"]}}, "filters.direction", "Use one of: inbound"),
        ({"filters": {"colour": ["red"]}}, "filters.colour", "Use one of: direction"),
        ({"filters": ["inbound"]}, "filters", "Give an object of lists"),
        ({"nme": "crm"}, "nme", "Did you mean “name”?"),
        ({"secret": "whsec_mine"}, "secret", "There is no such field."),
        ({"state": "active"}, "state", "There is no such field."),
        ({"cursor": "nonsense"}, "cursor", "This is no cursor."),
        ({"cursor": ""}, "cursor", "It is blank."),
        ({"cursor": 7}, "cursor", "Give one, in quotes."),
        ({"cursor": "x" * 100_000}, "cursor", "at most 65536"),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(client, sink, values, field, message):
    an_account()
    body = {"name": "crm", "url": sink.url, "event_types": ["alert.opened"]} | values
    found = refused(post(client, LIST, body))
    assert set(found) == {field}
    assert message in found[field]
    assert not Subscription.objects.exists()


def test_it_goes_on_from_a_cursor_of_the_feed(client, make):
    account, calls = an_account(), [a_conversation() for _ in range(5)]

    def ended(*conversations: Conversation) -> None:
        for call in conversations:
            changes.write(account.pk, [(call.pk, Change.Kind.CREATED, "ended", None)])

    ended(*calls[:2])
    read = client.get(CHANGES, {"limit": 1}).json()
    first = make(event_types=["conversation.ended"], cursor=read["next_cursor"])
    ended(calls[2])
    read = client.get(CHANGES, {"after": read["next_cursor"]}).json()
    second = make(event_types=["conversation.ended"], cursor=read["next_cursor"])
    third, fourth = make(event_types=["conversation.ended"], cursor="now"), make(event_types=["conversation.ended"])
    ended(*calls[3:])
    following.follow_all(timedelta(seconds=20))
    assert told(first) == calls[1:]
    assert told(second) == told(third) == told(fourth) == calls[3:]


def test_a_cursor_is_none_for_accounts_that_the_key_cannot_see(make):
    mine, elsewhere = client_of("delhi-support"), an_account("pune-sales")
    earlier, later = a_conversation(account=elsewhere), a_conversation(account=elsewhere)
    changes.write(elsewhere.pk, [(earlier.pk, Change.Kind.CREATED, "ended", None)])
    everything = str(changes.Cursor({elsewhere.pk: 0}))
    made = make(mine, event_types=["conversation.ended"], cursor=everything)
    Subscription.objects.get().api_key.accounts.add(elsewhere)
    changes.write(elsewhere.pk, [(later.pk, Change.Kind.CREATED, "ended", None)])
    following.follow_all(timedelta(seconds=20))
    assert told(made) == [later], "what it was allowed to see later, from its beginning on and not from the cursor's"


def test_a_cursor_that_is_ahead_of_the_database_is_refused(client, sink):
    ahead = str(changes.Cursor({an_account().pk: 10**9}))
    body = {"name": "crm", "url": sink.url, "event_types": ["conversation.ended"], "cursor": ahead}
    assert "ahead of all changes" in refused(post(client, LIST, body))["cursor"]


def test_a_whole_number_may_have_a_point(make):
    assert make(filters={"agent": [7.0]})["filters"] == {"agent": [7]}


def test_what_is_wrong_is_told_before_that_it_has_changed(client, make):
    assert set(refused(patch(client, make(), {"name": None}, '"old"'))) == {"name"}


def test_what_is_missing_is_named(client):
    assert set(refused(post(client, LIST, {}))) == {"name", "url", "event_types"}


def test_plain_http_is_for_networks_that_are_allowed(client, settings):
    settings.ALLOWED_PRIVATE_TARGETS = []
    body = {"name": "crm", "url": "http://127.0.0.1:9/", "event_types": ["alert.opened"]}
    assert "not on the public internet" in refused(post(client, LIST, body))["url"]


def test_a_repeated_request_makes_one_subscription_and_gets_the_same_secret(client, sink):
    body = {"name": "crm", "url": sink.url, "event_types": ["alert.opened"]}
    first, second = (post(client, LIST, body, **{"idempotency-key": "one"}) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert second["Idempotent-Replayed"] == "true"
    assert Subscription.objects.count() == 1


def test_a_change_needs_the_tag_of_what_was_read(client, make):
    made = make()
    tag = client.get(f"{LIST}{made['id']}/")["ETag"]
    without = client.patch(f"{LIST}{made['id']}/", {"name": "mine"}, content_type="application/json")
    assert without.status_code == 428
    changed = patch(client, made, {"name": "mine"}, tag)
    assert changed.status_code == 200
    assert changed.json() == client.get(f"{LIST}{made['id']}/").json()
    assert changed["ETag"] == client.get(f"{LIST}{made['id']}/")["ETag"] != tag
    assert patch(client, made, {"name": "yours"}, tag).status_code == 412
    assert Subscription.objects.get().name == "mine"
    assert AuditEntry.objects.filter(action="change").get().details == {"changes": {"name": ["crm", "mine"]}}


@pytest.mark.django_db(transaction=True)
def test_of_changes_at_the_same_time_to_what_was_read_one_is_made(client, make):
    made = make()
    tag = client.get(f"{LIST}{made['id']}/")["ETag"]

    def rename(name: str) -> int:
        try:
            return patch(client, made, {"name": name}, tag).status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(rename, [f"crm {i}" for i in range(6)]))
    assert sorted(statuses) == [200, *[412] * 5]


def test_what_a_message_does_is_no_change_of_the_subscription(client, make):
    made = make()
    tag = client.get(f"{LIST}{made['id']}/")["ETag"]
    Subscription.objects.update(last_success_at=timezone.now(), failures=3)
    assert client.get(f"{LIST}{made['id']}/")["ETag"] == tag


def test_the_audit_log_does_not_tell_the_address(client, make, sink):
    made = make()
    assert patch(client, made, {"url": f"{sink.url}?token=hidden"}).status_code == 200
    assert AuditEntry.objects.filter(action="change").get().details == {"changes": {"url": ["not shown", "not shown"]}}


def test_a_subscription_is_paused_and_goes_on_with_what_waited(client, make):
    made = make()
    assert patch(client, made, {"state": "paused"}).json()["state"] == "paused"
    waiting = a_message(made, state="pending", next_attempt_at=timezone.now() + timedelta(hours=1))
    assert not sender.send()
    assert client.get(f"{LIST}{made['id']}/status/").json()["waiting"] == 1
    assert patch(client, made, {"state": "active"}).json()["state"] == "active"
    assert sender.send() == 1
    waiting.refresh_from_db()
    assert waiting.state == "delivered"


def test_it_cannot_be_disabled_by_hand(client, make):
    assert "Give one of: active, paused." in refused(patch(client, make(), {"state": "disabled"}))["state"]


def test_its_status_tells_what_goes_wrong(client, make, sink):
    made = make()
    sink.answer = lambda post: 500
    a_message(made, state="pending")
    sender.send()
    status = client.get(f"{LIST}{made['id']}/status/").json()
    assert (status["state"], status["waiting"], status["failures"]) == ("active", 1, 1)
    assert status["failing_since"]
    assert "answered 500" in status["last_error"]
    assert status["last_success_at"] is None


def test_a_subscription_is_deleted_with_its_log(client, make):
    made = make()
    a_message(made)
    address = f"{LIST}{made['id']}/"
    assert client.delete(address).status_code == 428
    assert client.delete(address, headers={"if-match": "*"}).status_code == 204
    assert client.get(address).status_code == 404
    assert not Message.objects.exists()
    assert AuditEntry.objects.filter(action="delete").get().target_name == "subscription crm"


def test_a_rotated_secret_signs_beside_the_old_one_for_a_while(client, make, sink):
    made = make()
    rotated = post(client, f"{LIST}{made['id']}/rotate/", {"overlap_hours": 2}).json()
    until = timezone.datetime.fromisoformat(rotated["previous_secret_until"])
    assert timedelta(hours=1, minutes=59) < until - timezone.now() <= timedelta(hours=2)
    assert rotated["secret"] != made["secret"]
    assert post(client, f"{LIST}{made['id']}/test/").json()["status"] == 200
    for secret in (made["secret"], rotated["secret"]):
        assert Webhook(secret).verify(sink.posts[-1].body, dict(sink.posts[-1].headers))["type"] == "test"
    at_once = post(client, f"{LIST}{made['id']}/rotate/", {"overlap_hours": 0}).json()
    assert at_once["previous_secret_until"] is None
    assert "overlap_hours" in refused(post(client, f"{LIST}{made['id']}/rotate/", {"overlap_hours": 169}))
    assert rotated["secret"] not in client.get(f"{LIST}{made['id']}/").content.decode()


def test_a_test_message_is_sent_at_once_and_its_outcome_told(client, make, sink):
    made = make()
    attempt = post(client, f"{LIST}{made['id']}/test/").json()
    [sent] = sink.posts
    assert (attempt["status"], attempt["error"], attempt["message"]) == (200, "", sent.headers["webhook-id"])
    assert attempt["request_headers"]["webhook-signature"] == sent.headers["webhook-signature"]
    sink.answer = lambda post: 503
    assert "answered 503" in post(client, f"{LIST}{made['id']}/test/").json()["error"]
    assert [row["type"] for row in client.get(f"{LIST}{made['id']}/messages/").json()["results"]] == ["test", "test"]


def test_the_log_tells_what_was_sent_and_what_was_answered(client, make, sink):
    made = make()
    sink.answer = lambda post: 500
    a_message(made, state="pending")
    sender.send()
    [row] = client.get(f"{LIST}{made['id']}/messages/").json()["results"]
    assert (row["state"], row["attempts_made"], row["about"]) == ("pending", 1, "alert 7")
    assert row["next_attempt_at"]
    whole = client.get(f"{LIST}{made['id']}/messages/{row['id']}/").json()
    assert {name: whole[name] for name in row} == row
    assert whole["body"] == '{"type":"alert.opened"}'
    [attempt] = whole["attempts"]
    assert attempt["status"] == 500
    assert attempt["request_headers"]["webhook-id"] == row["id"]


def test_the_log_is_filtered(client, make):
    made = make()
    call = "01997d5e-8a4c-7c3a-9d0a-3f2b1c4d5e6f"
    a_message(made, about=call, type="conversation.ended")
    a_message(made, state="failed", created_at=timezone.now() - timedelta(days=2))

    def types(**parameters: str) -> list[str]:
        found = client.get(f"{LIST}{made['id']}/messages/", parameters)
        assert found.status_code == 200, found.content
        return [row["type"] for row in found.json()["results"]]

    yesterday = (timezone.now() - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert types() == ["alert.opened", "conversation.ended"]
    assert types(state="failed,pending") == ["alert.opened"]
    assert types(type="conversation.ended") == types(conversation=call) == ["conversation.ended"]
    assert types(created_before=yesterday) == ["alert.opened"]
    assert types(created_after=yesterday) == ["conversation.ended"]
    assert "type" in refused(client.get(f"{LIST}{made['id']}/messages/?type=ended"))


def test_one_message_is_sent_again_with_its_id(client, make, sink):
    made = make()
    message = a_message(made)
    address = f"{LIST}{made['id']}/messages/{message.message_id}/resend/"
    answer = post(client, address)
    assert (answer.status_code, answer.json()["state"]) == (202, "pending")
    assert sender.send() == 1
    [sent] = sink.posts
    assert sent.headers["webhook-id"] == str(message.message_id)
    assert sent.body == b'{"type":"alert.opened"}'
    assert AuditEntry.objects.filter(details__note=f"Message {message.message_id} sent again").count() == 1
    trial = Message.objects.create(subscription_id=made["id"], type="test", body=b"{}", state="failed")
    assert post(client, f"{LIST}{made['id']}/messages/{trial.message_id}/resend/").status_code == 409


def test_the_messages_of_a_time_are_sent_again_in_their_order(client, make, sink):
    made = make()
    noon = timezone.now() - timedelta(days=1)
    states = ["delivered", "failed", "delivered", "pending"]
    rows = [a_message(made, created_at=noon + timedelta(hours=i), state=state) for i, state in enumerate(states)]
    Message.objects.filter(state="pending").update(next_attempt_at=timezone.now() + timedelta(days=1))

    def resend(**body: str) -> int:
        answer = post(client, f"{LIST}{made['id']}/resend/", body)
        assert answer.status_code == 202, answer.content
        return answer.json()["messages"]

    assert resend(after=(noon + timedelta(minutes=30)).isoformat(), state="failed") == 1
    assert resend(after=noon.isoformat(), before=(noon + timedelta(hours=2)).isoformat()) == 1
    assert sender.send() == 2
    assert [sent.headers["webhook-id"] for sent in sink.posts] == [str(row.message_id) for row in rows[:2]]
    found = refused(post(client, f"{LIST}{made['id']}/resend/", {"after": "yesterday", "state": "pending"}))
    assert set(found) == {"after", "state"}
    assert set(refused(post(client, f"{LIST}{made['id']}/resend/", {}))) == {"after"}


@pytest.mark.parametrize("is_made_by", ["staff", "a key of all", "a key of the account"])
def test_a_key_never_learns_of_another_accounts_subscription(client, make, is_made_by):
    mine, theirs = client_of("delhi-support"), client_of("pune-sales")
    made = make(theirs) if is_made_by == "a key of the account" else make(accounts=["pune-sales"])
    if is_made_by == "staff":
        Subscription.objects.update(api_key=None)
    message = a_message(made, account=Account.objects.get(slug="pune-sales"))
    address = f"{LIST}{made['id']}/"
    nothing = mine.get(f"{LIST}999999/")
    assert nothing.status_code == 404
    for path in ("", "status/", "messages/", f"messages/{message.message_id}/"):
        answer = mine.get(f"{address}{path}")
        assert (answer.status_code, answer.content) == (404, nothing.content)
        assert theirs.get(f"{address}{path}").status_code == 200
    for path in ("rotate/", "test/", "resend/", f"messages/{message.message_id}/resend/"):
        assert post(mine, f"{address}{path}", {"after": "2021-09-22T13:48:30Z"}).status_code == 404
    assert patch(mine, made, {"name": "mine"}).status_code == 404
    assert mine.delete(address, headers={"if-match": "*"}).status_code == 404
    assert mine.get(LIST).json()["results"] == []


def test_a_key_of_some_accounts_does_not_see_a_subscription_to_more(client, make):
    mine = client_of("delhi-support")
    an_account("pune-sales")
    make()
    make(accounts=["delhi-support", "pune-sales"])
    ours = make(accounts=["delhi-support"])
    own = make(mine)
    assert [row["id"] for row in mine.get(LIST).json()["results"]] == [own["id"], ours["id"]]


def test_a_key_of_some_accounts_cannot_subscribe_to_others(client, make, sink):
    mine = client_of("delhi-support")
    an_account("pune-sales")
    body = {"name": "crm", "url": sink.url, "event_types": ["alert.opened"], "accounts": ["pune-sales"]}
    assert "There is no account “pune-sales”." in refused(post(mine, LIST, body))["accounts"]
    ours = make(accounts=["delhi-support"])
    assert "may not see" in refused(patch(mine, ours, {"accounts": []}))["accounts"]
    assert client.get(f"{LIST}{ours['id']}/").json()["accounts"] == ["delhi-support"]
    own = make(mine)
    assert patch(mine, own, {"accounts": ["delhi-support"]}).status_code == 200
    assert patch(mine, own, {"accounts": []}).status_code == 200


def test_the_log_of_an_account_that_was_given_up_is_hidden(make):
    mine = client_of("delhi-support")
    ours = make(accounts=["delhi-support"])
    old = a_message(ours, account=an_account("pune-sales"))
    assert mine.get(f"{LIST}{ours['id']}/messages/").json()["results"] == []
    assert mine.get(f"{LIST}{ours['id']}/messages/{old.message_id}/").status_code == 404
    assert post(mine, f"{LIST}{ours['id']}/resend/", {"after": "2021-09-22T13:48:30Z"}).json() == {"messages": 0}


def test_a_key_without_the_scope_is_refused(make):
    made = make()
    reader = client_of("delhi-support", scopes=(Scope.READ, Scope.EXPORT, Scope.STREAM))
    for answer in (reader.get(LIST), post(reader, LIST, {}), post(reader, f"{LIST}{made['id']}/test/")):
        assert answer.status_code == 403


@pytest.mark.parametrize("path", ["x/", "-1/", f"{10**30}/", "1/messages/x/", "1/messages/00000000/resend/"])
def test_what_is_no_id_is_not_there(client, path):
    assert client.get(f"{LIST}{path}").status_code in {404, 405}
    assert post(client, f"{LIST}{path}").status_code in {404, 405}


def test_lists_cost_the_same_whatever_they_hold(client, make):
    def cost(address: str) -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert client.get(address).status_code == 200
        return len(queries)

    an_account()
    made = make(accounts=["delhi-support"])
    message = a_message(made)
    log = f"{LIST}{made['id']}/messages/"
    control.send_test(Subscription.objects.get())
    detail = f"{log}{message.message_id}/"
    before = cost(LIST), cost(log), cost(detail)
    for _ in range(20):
        make(accounts=["delhi-support"])
        a_message(made)
        message.attempts.create(started_at=timezone.now(), milliseconds=1, request_headers={}, status=500)
    assert (cost(LIST), cost(log), cost(detail)) == before


def test_what_is_sent_is_as_the_schema_says(client, make, sink):
    account, call = an_account(), a_conversation("VIP", account=an_account())
    alert = an_alert(account=account, kind="low_balance")
    make(event_types=[one.value for one in OFFERED])
    with transaction.atomic():
        intake.lock_account(account.pk)
        kinds = ["updated", "corrected", "merged", "erased"]
        changes.write(account.pk, [(call.pk, Change.Kind.CREATED, "started,answered,ended", None)])
        changes.write(account.pk, [(call.pk, Change.Kind(kind), "", call.pk) for kind in kinds])
        emit_alerts(account.pk, [alert], [alert])
        tell_of_quarantined(account, [Quarantined(new_id(), timezone.now(), "BadField", "leg", "z", "wrong")])
    following.follow_all(timedelta(seconds=20))
    control.send_test(Subscription.objects.get())
    document = client.get("/api/v1/schema/").json()
    assert set(document["webhooks"]) == {one.value for one in EventType}
    assert set(Message.objects.values_list("type", flat=True)) == set(EventType)
    for message in Message.objects.all():
        content = document["webhooks"][message.type]["post"]["requestBody"]["content"]["application/json"]
        checker = Draft202012Validator(content["schema"] | {"components": document["components"]})
        checker.validate(json.loads(bytes(message.body)))
        checker.validate(content["example"])
