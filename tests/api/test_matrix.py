"""Every address of the API with every method, asked for with every kind of key: what ``ENDPOINTS`` says is answered.

There are two accounts with a row of everything each. A new address or method without an entry fails the first test.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_network
from typing import Any, NamedTuple

import pytest
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from calls import changes
from calls.choices import Scope
from calls.ids import new_id
from calls.models import (
    Account,
    ApiKey,
    CallNote,
    Contact,
    ContactNumber,
    Conversation,
    Message,
    MissedCaller,
    Subscription,
)
from calls.subscriptions import control
from config.api_urls import urlpatterns
from tests.api.factories import (
    a_conversation,
    a_delivery,
    a_leg,
    a_live_conversation,
    a_reading,
    an_account,
    an_agent,
    an_alert,
    an_event,
    client_with,
)

pytestmark = pytest.mark.django_db

CLIENT = Client()
"""One for all: each makes the middleware anew."""
METHODS = {"get", "post", "put", "patch", "delete"}
OPEN = {"schema", "docs"}
"""Addresses that need no key."""


@dataclass(frozen=True)
class Endpoint:
    """What a key needs, and what is answered to one that has it."""

    scope: Scope
    rows: tuple[str, ...] = ()
    """Whose ids the address holds. A key that may not see these is answered 404."""
    body: dict[str, Any] | None = None
    status: int = 200
    query: str = ""


READ, STREAM, EXPORT, MANAGE = Scope.READ, Scope.STREAM, Scope.EXPORT, Scope.MANAGE
TO_ALL_OF_TIME = {"after": "2021-01-01T00:00:00Z"}
A_SUBSCRIPTION = {"name": "crm", "url": "https://127.0.0.1/hook", "event_types": ["conversation.ended"]}

ENDPOINTS = {
    ("get", "account-list"): Endpoint(READ),
    ("get", "account-detail"): Endpoint(READ, ("account",)),
    ("get", "statement"): Endpoint(READ, ("account",)),
    ("get", "conversation-list"): Endpoint(READ),
    ("get", "conversation-detail"): Endpoint(READ, ("conversation",)),
    ("patch", "conversation-detail"): Endpoint(MANAGE, ("conversation",), {"outcome": {"kind": "resolved"}}),
    ("get", "conversation-notes"): Endpoint(READ, ("conversation",)),
    ("post", "conversation-notes"): Endpoint(MANAGE, ("conversation",), {"text": "Calls again"}, 201),
    ("get", "conversation-export"): Endpoint(EXPORT),
    ("get", "note-detail"): Endpoint(READ, ("note",)),
    ("patch", "note-detail"): Endpoint(MANAGE, ("note",), {"text": "Called"}),
    ("delete", "note-detail"): Endpoint(MANAGE, ("note",), status=204),
    ("get", "leg-list"): Endpoint(READ),
    ("get", "event-list"): Endpoint(READ),
    ("get", "balance-list"): Endpoint(READ),
    ("get", "alert-list"): Endpoint(READ),
    ("get", "live-list"): Endpoint(READ),
    ("get", "live-changes"): Endpoint(STREAM, status=501),  # let in; but there are no streams in this client
    ("get", "changes"): Endpoint(READ),
    ("get", "summary"): Endpoint(READ),
    ("get", "timeseries"): Endpoint(
        READ, query="?interval=day&started_after=2021-09-22T00:00:00Z&started_before=2021-09-23T00:00:00Z"
    ),
    ("get", "delivery-list"): Endpoint(MANAGE),
    ("get", "delivery-detail"): Endpoint(MANAGE, ("delivery",)),
    ("get", "tag-list"): Endpoint(READ),
    ("post", "tag-list"): Endpoint(MANAGE, body={"name": "VIP"}, status=201),
    ("get", "agent-list"): Endpoint(READ),
    ("get", "agent-detail"): Endpoint(READ, ("agent",)),
    ("patch", "agent-detail"): Endpoint(MANAGE, ("agent",), {"name": "Asha"}),
    ("get", "contact-list"): Endpoint(READ),
    ("post", "contact-list"): Endpoint(MANAGE, body={"name": "Ravi"}, status=201),
    ("get", "contact-detail"): Endpoint(READ, ("contact",)),
    ("patch", "contact-detail"): Endpoint(MANAGE, ("contact",), {"name": "Ravi"}),
    ("delete", "contact-detail"): Endpoint(MANAGE, ("contact",), status=204),
    ("get", "worklist-list"): Endpoint(READ),
    ("get", "worklist-detail"): Endpoint(READ, ("entry",)),
    ("get", "worklist-steps"): Endpoint(READ, ("entry",)),
    ("post", "worklist-steps"): Endpoint(MANAGE, ("entry",), {"kind": "comment", "text": "Tried"}, 201),
    ("get", "subscription-list"): Endpoint(MANAGE),
    ("post", "subscription-list"): Endpoint(MANAGE, body=A_SUBSCRIPTION, status=201),
    ("get", "subscription-detail"): Endpoint(MANAGE, ("subscription",)),
    ("patch", "subscription-detail"): Endpoint(MANAGE, ("subscription",), {"state": "paused"}),
    ("delete", "subscription-detail"): Endpoint(MANAGE, ("subscription",), status=204),
    ("get", "subscription-status"): Endpoint(MANAGE, ("subscription",)),
    ("post", "subscription-test"): Endpoint(MANAGE, ("subscription",)),
    ("post", "subscription-rotate"): Endpoint(MANAGE, ("subscription",), {}),
    ("post", "subscription-resend"): Endpoint(MANAGE, ("subscription",), TO_ALL_OF_TIME, 202),
    ("get", "subscription-message-list"): Endpoint(MANAGE, ("subscription",)),
    ("get", "subscription-message-detail"): Endpoint(MANAGE, ("subscription", "message")),
    ("post", "subscription-message-resend"): Endpoint(MANAGE, ("subscription", "message"), status=202),
}
LISTS = sorted(name for (method, name), one in ENDPOINTS.items() if method == "get" and not one.rows)
OF_ONE = sorted(key for key, one in ENDPOINTS.items() if one.rows)
ELSEWHERE = {"conversation-export"}
"""It reads beside the test's transaction: see ``test_an_export_holds_what_is_of_the_accounts_of_the_key``."""
NOT_OF_ROWS = {"tag-list", "summary", "timeseries", "live-changes"}
"""Lists that name nothing of an account."""
MISSING = {"account": "nowhere", "note": 0, "agent": 0, "contact": 0, "entry": 0, "subscription": 0}
"""Ids that no row has; other rows have UUIDs."""


@dataclass
class World:
    """The ids of a row of everything of one account, and of another; and words that name what is of each."""

    here: dict[str, Any]
    there: dict[str, Any]


@pytest.fixture
def world(settings: Any) -> World:
    settings.ALLOWED_PRIVATE_TARGETS = [ip_network("127.0.0.1")]  # where nobody listens to a subscription's test
    return World(*(rows_of(slug, number) for slug, number in [("delhi", "+919000000001"), ("pune", "+919000000002")]))


def rows_of(slug: str, number: str) -> dict[str, Any]:
    """Store a row of everything that belongs to an account; return their ids by kind."""
    account = an_account(slug)
    agent = an_agent(f"agent-of-{slug}", account=account)
    call = a_conversation(account=account, agent=agent, customer_number=number, external_id=f"call-of-{slug}")
    event = an_event(a_leg(call, external_id=f"leg-of-{slug}", from_number=number))
    a_reading(event.leg)
    a_live_conversation(account=account, customer_number=number, started_at=timezone.now())
    an_alert(account=account, message=f"The balance of {slug} is low.")
    subscription = Subscription(name=f"crm of {slug}", url="https://127.0.0.1/hook", event_types=["conversation.ended"])
    control.begin(subscription)
    subscription.accounts.add(account)
    message = Message.objects.create(
        subscription=subscription, account=account, type="conversation.ended", about=str(call.pk), body=b"{}"
    )
    changes.edited([call.pk], account.pk)
    contact = Contact.objects.create(name=f"Customer of {slug}")
    ContactNumber.objects.create(contact=contact, number=number)
    entry = MissedCaller.objects.create(
        account=account, customer_number=number, did="+918000000000", misses=1, attempts=0,
        first_missed_at=call.started_at, last_missed_at=call.started_at,
    )  # fmt: skip
    return {
        "account": slug,
        "conversation": call.pk,
        "note": CallNote.objects.create(conversation=call, text="Calls again").pk,
        "delivery": a_delivery(call, account=account).pk,
        "agent": agent.pk,
        "contact": contact.pk,
        "entry": entry.pk,
        "subscription": subscription.pk,
        "message": message.message_id,
    }


def routes() -> Iterator[tuple[str, str]]:
    """Yield the method and the name of each operation."""
    for pattern in urlpatterns:
        for method in getattr(pattern.callback, "actions", None) or ():
            if method in METHODS:
                yield method, pattern.name


class Answer(NamedTuple):
    """Status and body of an answer."""

    status: int
    body: str


def ask(method: str, name: str, ids: dict[str, Any], text: str | None) -> Answer:
    """Send the request with a key of this text, undo what it did, and return the answer."""
    endpoint = ENDPOINTS.get((method, name)) or next(one for key, one in ENDPOINTS.items() if key[1] == name)
    headers = {"if-match": "*"} | ({"authorization": f"Bearer {text}"} if text else {})
    address = reverse(name, args=[ids[row] for row in endpoint.rows]) + endpoint.query
    body = b"" if endpoint.body is None else json.dumps(endpoint.body).encode()
    with transaction.atomic():
        CallNote.objects.update(api_key=ApiKey.of_text(text or ""))  # its own: a key changes no other
        response = CLIENT.generic(method.upper(), address, body, "application/json", headers=headers)
        content = b"".join(response.streaming_content) if response.streaming else response.content
        transaction.set_rollback(True)
    return Answer(response.status_code, content.decode())


def holders(scopes: list[Scope]) -> dict[str, str | None]:
    """Return the text of a key with these scopes by what else is to be said of it."""
    here, there = Account.objects.get(slug="delhi"), Account.objects.get(slug="pune")

    def key(*accounts: Account, **values: Any) -> tuple[ApiKey, str]:
        return ApiKey.issue(new_id().hex, scopes, accounts=accounts, **values)

    revoked, of_revoked = key()
    ApiKey.objects.filter(pk=revoked.pk).update(is_active=False)
    replaced, of_replaced = key()
    replaced.rotate(timedelta(0))
    being_replaced, of_being_replaced = key(here)
    being_replaced.rotate(timedelta(hours=1))
    return {
        "of all accounts": key()[1],
        "of its account": key(here)[1],
        "of both accounts": key(here, there)[1],
        "of its account, being replaced": of_being_replaced,
        "of another account": key(there)[1],
        "expired": key(expires_at=timezone.now())[1],
        "revoked": of_revoked,
        "replaced": of_replaced,
        "unknown": "rl_unknown",
        "none": None,
    }


def test_every_operation_has_an_entry() -> None:
    assert set(routes()) == ENDPOINTS.keys()
    without_key = {pattern.name for pattern in urlpatterns if not hasattr(pattern.callback, "actions")} - {None}
    assert without_key == OPEN


@pytest.mark.parametrize(("method", "name"), sorted(ENDPOINTS))
def test_a_key_is_answered_by_its_scopes_and_accounts_and_while_it_is_good(
    method: str, name: str, world: World
) -> None:
    endpoint = ENDPOINTS[method, name]
    others = [scope for scope in Scope if scope != endpoint.scope]
    found, expected = {}, {}
    for holder, text in holders([endpoint.scope]).items():
        found[holder] = ask(method, name, world.here, text).status
        if holder in {"expired", "revoked", "replaced", "unknown", "none"}:
            expected[holder] = 401
        else:
            expected[holder] = 404 if holder == "of another account" and endpoint.rows else endpoint.status
    for scopes in ([], others, list(Scope)):
        for account in ("delhi", "pune"):
            _, text = ApiKey.issue(new_id().hex, scopes, accounts=[Account.objects.get(slug=account)])
            found[account, *scopes] = ask(method, name, world.here, text).status
            is_hidden = endpoint.rows and account == "pune"
            expected[account, *scopes] = 403 if endpoint.scope not in scopes else 404 if is_hidden else endpoint.status
    assert found == expected


@pytest.mark.parametrize(("method", "name"), OF_ONE)
def test_a_row_of_another_account_is_answered_as_one_that_there_is_not(method: str, name: str, world: World) -> None:
    scope, there = ENDPOINTS[method, name].scope, Account.objects.get(slug="pune")
    _, limited = ApiKey.issue("limited", [scope], accounts=[there])
    _, unlimited = ApiKey.issue("unlimited", [scope])
    missing = {row: MISSING.get(row, new_id()) for row in world.here}
    hidden = ask(method, name, world.here, limited)
    assert hidden == ask(method, name, missing, unlimited) == ask(method, name, missing, limited)
    assert hidden.status == 404


@pytest.mark.parametrize("name", sorted(set(LISTS) - ELSEWHERE))
def test_a_list_holds_what_is_of_the_accounts_of_the_key_and_nothing_else(name: str, world: World) -> None:
    scope = ENDPOINTS["get", name].scope
    for slug, own, foreign in [("delhi", world.here, world.there), ("pune", world.there, world.here)]:
        _, text = ApiKey.issue(slug, [scope], accounts=[Account.objects.get(slug=slug)])
        said = words_in(ask("get", name, {}, text).body)
        assert name in NOT_OF_ROWS or names_of(own) & said
        assert not names_of(foreign) & said


@pytest.mark.django_db(transaction=True)
def test_an_export_holds_what_is_of_the_accounts_of_the_key(world: World) -> None:
    _, text = ApiKey.issue("crm", [EXPORT], accounts=[Account.objects.get(slug="delhi")])
    response = client_with(text).get(reverse("conversation-export"))
    said = words_in(b"".join(response.streaming_content).decode())
    assert names_of(world.here) & said
    assert not names_of(world.there) & said


def names_of(ids: dict[str, Any]) -> set[str]:
    """Return what is only said of one account: its slug, the ids of its calls and deliveries, its customer's number."""
    slug = ids["account"]
    number = {"delhi": "919000000001", "pune": "919000000002"}[slug]
    return {slug, number, *(str(ids[row]) for row in ("conversation", "delivery", "message"))}


def words_in(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]{8}(?:-[a-z0-9]{4}){3}-[a-z0-9]{12}|[a-z]+|[0-9]{8,}", text))


@pytest.mark.parametrize("name", ["summary", "timeseries"])
def test_figures_count_the_calls_of_the_accounts_of_the_key(name: str, world: World) -> None:
    here = Account.objects.get(slug="delhi")
    _, of_all = ApiKey.issue("of all", [READ])
    _, of_one = ApiKey.issue("of one", [READ], accounts=[here])
    assert ask("get", name, {}, of_all) != ask("get", name, {}, of_one)
    Conversation.objects.exclude(account=here).delete()
    assert ask("get", name, {}, of_all) == ask("get", name, {}, of_one)


@pytest.mark.parametrize("name", sorted({name for _, name in ENDPOINTS}))
def test_other_methods_are_refused(name: str) -> None:
    _, text = ApiKey.issue("all", list(Scope))
    ids = {row: MISSING.get(row, new_id()) for one in ENDPOINTS.values() for row in one.rows}
    for method in METHODS - {method for method, of in ENDPOINTS if of == name}:
        assert ask(method, name, ids, text).status == 405, method
        assert ask(method, name, ids, None).status == 401, method


@pytest.mark.parametrize("name", sorted(OPEN))
def test_what_needs_no_key_tells_of_no_data(name: str, world: World) -> None:
    text = Client().get(reverse(name)).content.decode()
    assert not {str(world.here["conversation"]), str(world.here["delivery"])} & words_in(text)
