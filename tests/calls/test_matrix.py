"""Every page and endpoint, asked for as every role: a new one without an expectation here fails the first test.

``PAGES`` says who may; of rows there are two, one within everybody's reach and one that only those see who see all.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import URLResolver, get_resolver, reverse
from django.utils import timezone

from calls.choices import Scope
from calls.models import (
    Account,
    Agent,
    Alert,
    AlertRule,
    ApiKey,
    AuditEntry,
    BalanceReading,
    CallNote,
    Channel,
    Contact,
    ContactNumber,
    Export,
    Message,
    MissedCaller,
    Notice,
    Recording,
    SavedView,
    Subscription,
    Tag,
    Team,
)
from calls.subscriptions import control
from tests.calls.staff import call_of, logged_in, person
from webhooks.models import Delivery, Endpoint, Rebuild

pytestmark = pytest.mark.django_db

ROLES = ["viewer", "agent", "supervisor", "manager", "auditor", "administrator"]
ALL = frozenset(ROLES)
SEES_EVERYTHING = frozenset({"auditor", "administrator"})
NOBODY: frozenset[str] = frozenset()
ADMINISTRATOR = frozenset({"administrator"})
OVERSEERS = frozenset({"auditor", "administrator"})
MONEY = OVERSEERS | {"manager"}
WORKERS = frozenset({"agent", "supervisor", "manager", "administrator"})
MANAGERS = frozenset({"manager", "administrator"})
EXPORTERS = frozenset({"supervisor", "manager", "administrator"})
LEADERS = EXPORTERS


@dataclass(frozen=True)
class Page:
    """Who may ask for it, how, and of which row."""

    roles: frozenset[str]
    row: str = ""
    post: bool = False
    """Whether it is only for posting to."""
    more: tuple[Any, ...] = ()
    """Arguments after the row."""


def list_of(model: str, view: frozenset, add: frozenset, change: frozenset, delete: frozenset) -> dict[str, Page]:
    """Return the pages that Django makes for a model; ``change`` is told apart by posting nothing to its page."""
    name = model.partition("_")[2]
    return {
        f"admin:{model}_changelist": Page(view),
        f"admin:{model}_add": Page(add),
        f"admin:{model}_change": Page(view | change, name),
        f"admin:{model}_history": Page(view | change, name),
        f"admin:{model}_delete": Page(delete, name),
    }


PAGES = {
    "admin:index": Page(ALL),
    "admin:search": Page(ALL),
    "admin:password_change": Page(ALL),
    "admin:password_change_done": Page(ALL),
    "admin:jsi18n": Page(ALL),
    "second_step_set_up": Page(ALL),
    "second_step": Page(ALL),
    "reveal": Page(
        frozenset({"agent", "supervisor", "auditor", "administrator"}), "reveal", post=True, more=("customer_number",)
    ),
    # Calls
    **list_of("calls_conversation", ALL, NOBODY, WORKERS, NOBODY),
    "admin:calls_conversation_count": Page(ALL),
    "admin:calls_conversation_columns": Page(ALL, post=True),
    "admin:calls_conversation_save_view": Page(ALL, post=True),
    "admin:calls_conversation_view": Page(ALL, "savedview"),
    "admin:calls_conversation_first_view": Page(ALL, post=True),
    "admin:calls_conversation_export_list": Page(EXPORTERS, post=True),
    "admin:calls_conversation_note": Page(WORKERS, "conversation", post=True),
    "admin:calls_conversation_edit_note": Page(NOBODY, "conversation", post=True, more=("note",)),
    "admin:calls_conversation_delete_note": Page(NOBODY, "conversation", post=True, more=("note",)),
    "admin:calls_conversation_outcome": Page(WORKERS, "conversation", post=True),
    "live": Page(ALL),
    "live-state": Page(ALL),
    "agents": Page(ALL),
    "agents-csv": Page(ALL),
    "agent-days": Page(ALL, "agent"),
    "calls_number_of": Page(ALL, "conversation"),
    "calls_number": Page(ALL, "number"),
    "calls_number_contact": Page(WORKERS, "number", post=True),
    "calls_number_join": Page(WORKERS, "number", post=True),
    **list_of("calls_missedcaller", ALL, NOBODY, NOBODY, NOBODY),
    "admin:calls_missedcaller_figures": Page(ALL),
    "admin:calls_missedcaller_export_list": Page(EXPORTERS, post=True),
    "admin:calls_missedcaller_act": Page(WORKERS, "missedcaller", post=True),
    **list_of("calls_contact", ALL, WORKERS, WORKERS, ADMINISTRATOR),
    "admin:calls_contact_number": Page(WORKERS, "contact", post=True),
    "admin:calls_contact_export_list": Page(EXPORTERS, post=True),
    **list_of("calls_recording", OVERSEERS, NOBODY, NOBODY, NOBODY),
    "admin:calls_export_changelist": Page(EXPORTERS),
    "admin:calls_export_add": Page(NOBODY),
    "admin:calls_export_delete": Page(NOBODY, "export"),
    **list_of("calls_tag", ALL, ADMINISTRATOR, ADMINISTRATOR, ADMINISTRATOR),
    **list_of("calls_agent", ALL, ADMINISTRATOR, LEADERS, NOBODY),
    "admin:calls_agent_export_list": Page(EXPORTERS, post=True),
    # Money, alerts, deliveries
    **list_of("calls_account", MONEY, ADMINISTRATOR, ADMINISTRATOR, NOBODY),
    "admin:calls_account_new_url": Page(ADMINISTRATOR, "account", post=True),
    "admin:calls_account_retire_url": Page(ADMINISTRATOR, "account", post=True, more=("endpoint",)),
    "admin:calls_account_test_delivery": Page(ADMINISTRATOR, "account", post=True),
    "admin:calls_account_statement": Page(MONEY, "account"),
    "admin:calls_account_statement_csv": Page(MONEY, "account"),
    **list_of("calls_balancereading", MONEY, NOBODY, NOBODY, NOBODY),
    "admin:calls_balancereading_export_list": Page(frozenset({"manager", "administrator"}), post=True),
    **list_of("calls_alert", MONEY, NOBODY, NOBODY, NOBODY),
    "admin:calls_alert_export_list": Page(frozenset({"manager", "administrator"}), post=True),
    "admin:calls_alert_acknowledge": Page(frozenset({"manager", "administrator"}), "alert", post=True),
    "admin:calls_alert_assign": Page(frozenset({"manager", "administrator"}), "alert", post=True),
    "admin:calls_alert_comment": Page(frozenset({"manager", "administrator"}), "alert", post=True),
    **list_of(
        "calls_alertrule",
        MONEY,
        frozenset({"manager", "administrator"}),
        frozenset({"manager", "administrator"}),
        NOBODY,  # it has alerts
    ),
    "admin:calls_alertrule_mute": Page(frozenset({"manager", "administrator"}), "alertrule", post=True),
    **list_of("calls_notice", MONEY, NOBODY, NOBODY, NOBODY),
    **list_of("calls_channel", MONEY, ADMINISTRATOR, ADMINISTRATOR, NOBODY),  # it has sent notices
    "admin:calls_channel_test": Page(ADMINISTRATOR, "channel", post=True),
    "admin:calls_channel_new_secret": Page(ADMINISTRATOR, "channel", post=True),
    **list_of("webhooks_delivery", MONEY, NOBODY, NOBODY, NOBODY),
    "admin:webhooks_inbox": Page(OVERSEERS),
    "admin:webhooks_delivery_export": Page(frozenset({"manager", "administrator"})),
    "admin:webhooks_delivery_process_again": Page(ADMINISTRATOR, "delivery", post=True),
    **list_of("webhooks_rebuild", OVERSEERS, ADMINISTRATOR, NOBODY, NOBODY),
    "admin:webhooks_rebuild_of_call": Page(ADMINISTRATOR, "conversation", post=True),
    "admin:webhooks_rebuild_apply": Page(ADMINISTRATOR, "rebuild", post=True),
    "admin:webhooks_rebuild_undo": Page(ADMINISTRATOR, "rebuild", post=True),
    "admin:webhooks_rebuild_cancel": Page(ADMINISTRATOR, "rebuild", post=True),
    "admin:webhooks_rebuild_progress": Page(OVERSEERS, "rebuild"),
    # People and programs
    **list_of("auth_user", OVERSEERS, ADMINISTRATOR, ADMINISTRATOR, NOBODY),
    "admin:auth_user_password_change": Page(ADMINISTRATOR, "user"),
    **list_of("auth_group", OVERSEERS, ADMINISTRATOR, ADMINISTRATOR, ADMINISTRATOR),
    **list_of("calls_team", OVERSEERS | {"supervisor"}, ADMINISTRATOR, ADMINISTRATOR, ADMINISTRATOR),
    **list_of("axes_accessattempt", OVERSEERS, NOBODY, NOBODY, ADMINISTRATOR),
    **list_of("calls_apikey", OVERSEERS, ADMINISTRATOR, ADMINISTRATOR, NOBODY),
    "admin:calls_apikey_rotate": Page(ADMINISTRATOR, "apikey", post=True),
    "admin:calls_apikey_end_former": Page(ADMINISTRATOR, "apikey", post=True),
    "admin:calls_apikey_revoke": Page(ADMINISTRATOR, "apikey", post=True),
    **list_of("calls_subscription", MONEY, MANAGERS, MANAGERS, MANAGERS),
    "admin:calls_subscription_test": Page(MANAGERS, "subscription", post=True),
    "admin:calls_subscription_rotate": Page(MANAGERS, "subscription", post=True),
    "admin:calls_subscription_pause": Page(MANAGERS, "subscription", post=True),
    "admin:calls_subscription_resume": Page(MANAGERS, "subscription", post=True),
    **list_of("calls_message", MONEY, NOBODY, NOBODY, NOBODY),
    "admin:calls_message_send_again": Page(MANAGERS, "message", post=True),
    **list_of("calls_auditentry", OVERSEERS, NOBODY, NOBODY, NOBODY),
    "admin:calls_auditentry_export_list": Page(ADMINISTRATOR, post=True),
}
OF_NOBODY = {"tag", "channel", "user", "group", "team", "accessattempt", "apikey", "auditentry", "savedview"}
"""Rows that belong to no account: who may look at the table sees all of it."""
OPEN = {"admin:login", "admin:logout"}
"""Pages that need no login, and those that end one."""
ELSEWHERE = {
    "admin:autocomplete": "asks the list of the model; test_choices_are_within_reach",
    "admin:view_on_site": "there is no other site",
    "admin:app_list": "test_the_lists_of_an_app_show_what_is_allowed",
    "live-stream": "never ends; tests/calls/test_live.py",
    "subscription-rotate": "is only for posting to; tests/api/test_subscriptions.py",
    "subscription-test": "is only for posting to; tests/api/test_subscriptions.py",
    "subscription-resend": "is only for posting to; tests/api/test_subscriptions.py",
    "subscription-message-list": "of a row of another table; tests/api/test_subscriptions.py",
    "subscription-message-detail": "of a row of another table; tests/api/test_subscriptions.py",
    "subscription-message-resend": "of a row of another table; tests/api/test_subscriptions.py",
    "live-changes": "never ends; tests/api/test_stream.py",
    "admin:calls_conversation_recording": "asks a provider; tests/calls/test_recordings.py",
    "admin:calls_conversation_change_view": "of one's own views; tests/calls/test_saved_views.py",
    "admin:calls_export_change": "leads to the list",
    "admin:calls_export_history": "of one's own exports",
    "admin:calls_export_cancel": "of one's own exports; tests/calls/test_exports.py",
    "admin:calls_export_download": "of one's own exports; tests/calls/test_exports.py",
    "calls_number_separate": "as calls_number_join; tests/calls/test_numbers_page.py",
}
API = {
    "account-list": Scope.READ,
    "account-detail": Scope.READ,
    "conversation-list": Scope.READ,
    "conversation-detail": Scope.READ,
    "leg-list": Scope.READ,
    "event-list": Scope.READ,
    "balance-list": Scope.READ,
    "alert-list": Scope.READ,
    "live-list": Scope.READ,
    "conversation-notes": Scope.READ,
    "note-detail": Scope.READ,
    "tag-list": Scope.READ,
    "agent-list": Scope.READ,
    "agent-detail": Scope.READ,
    "contact-list": Scope.READ,
    "contact-detail": Scope.READ,
    "worklist-list": Scope.READ,
    "worklist-detail": Scope.READ,
    "worklist-steps": Scope.READ,
    "changes": Scope.READ,
    "statement": Scope.READ,
    "summary": Scope.READ,
    "timeseries": Scope.READ,
    "conversation-export": Scope.EXPORT,
    "subscription-list": Scope.MANAGE,
    "subscription-detail": Scope.MANAGE,
    "subscription-status": Scope.MANAGE,
    "delivery-list": Scope.MANAGE,
    "delivery-detail": Scope.MANAGE,
    "schema": None,
    "docs": None,
}


@dataclass
class World:
    """Rows within reach of everybody who is concerned with the Delhi account, and of the Pune account."""

    here: dict[str, Any]
    there: dict[str, Any]
    user: User


@pytest.fixture
def world() -> World:
    delhi, pune = (Account.objects.create(slug=slug, provider="piopiy") for slug in ("delhi", "pune"))
    common = {
        "tag": Tag.objects.create(name="VIP"),
        "channel": Channel.objects.create(name="Mail", kind="email"),
        "apikey": ApiKey.issue("crm", [Scope.READ])[0],
        "user": person("viewer", name="somebody"),
        "group": Group.objects.create(name="empty"),
        "accessattempt": AccessAttempt.objects.create(username="x", failures_since_start=1),
        "auditentry": AuditEntry.objects.create(action="reveal"),
    }
    here, there = rows_of(delhi, "+919000000001", common), rows_of(pune, "+919000000002", common)
    team = Team.objects.create(name="Front desk")
    team.agents.add(here["agent"])
    here["team"] = there["team"] = team
    return World(here, there, common["user"])


def rows_of(account: Account, number: str, common: dict[str, Any]) -> dict[str, Any]:
    """Store one row of everything that belongs to an account."""
    now = timezone.now()
    agent = Agent.objects.create(account=account, external_id="101", name="Asha")
    call = call_of(account, agent, number)
    rule = AlertRule.objects.create(name=f"Low {account}", kind="low_balance", opens_at=50, account=account)
    alert = Alert.objects.create(
        rule=rule, account=account, kind=rule.kind, message="Low", opened_at=now, updated_at=now
    )
    delivery = Delivery.objects.create(
        account=account, received_at=now, method="POST", size=2, body=b"{}", digest="x", status="processed"
    )
    contact = Contact.objects.create(name=f"Somebody of {account}")
    subscription = Subscription(name=f"CRM of {account}", url="https://127.0.0.1/", event_types=["alert.opened"])
    control.begin(subscription)
    subscription.accounts.add(account)
    return common | {
        "account": account,
        "agent": agent,
        "conversation": call,
        "alertrule": rule,
        "alert": alert,
        "notice": Notice.objects.create(
            alert=alert, channel=common["channel"], transition="opened", due_at=now, state="sent"
        ),
        "delivery": delivery,
        "subscription": subscription,
        "message": Message.objects.create(
            subscription=subscription, account=account, type="alert.opened", body=b"{}", state="delivered"
        ),
        "rebuild": Rebuild.objects.create(account=account, state="done"),
        "balancereading": BalanceReading.objects.create(
            account=account,
            conversation=call,
            leg=call.legs.first(),
            occurred_at=now,
            received_at=now,
            booked_at=now,
            balance=10,
            charge=1,
        ),
        "contact": contact,
        "recording": Recording.objects.create(conversation=call, state="ready"),
        "export": Export.objects.create(user=common["user"], table="calls.tag", format="csv"),
        "endpoint": Endpoint.issue(account)[0],
        "number": ContactNumber.objects.create(number=number, contact=contact),
        "note": CallNote.objects.create(conversation=call, text="Calls again", author=common["user"]),
        "missedcaller": MissedCaller.objects.create(
            account=account,
            customer_number=number,
            misses=1,
            attempts=0,
            first_missed_at=now,
            last_missed_at=now,
        ),
        "savedview": SavedView.objects.create(owner=common["user"], name=str(account), is_shared=True),
    }


def staff_of(role: str, world: World) -> User:
    """Return a member of staff whose concern is the Delhi account, its team and its agent."""
    return person(role, accounts=[world.here["account"]], team=world.here["team"], agents=[world.here["agent"]])


def names(resolver: URLResolver | None = None, namespace: str = "") -> Iterator[str]:
    """Yield the names of all pages of staff and the API; what has none only leads on, or is for machines."""
    for pattern in (resolver or get_resolver()).url_patterns:
        if isinstance(pattern, URLResolver):
            yield from names(pattern, f"{namespace}{pattern.namespace}:" if pattern.namespace else namespace)
        elif pattern.name:
            yield namespace + pattern.name


def address_of(name: str, page: Page, rows: dict[str, Any]) -> str:
    if page.row == "reveal":
        return reverse(name, args=["calls.conversation", rows["conversation"].pk, *page.more])
    more = [rows[key].pk for key in page.more]
    return reverse(name, args=[rows[page.row].pk, *more] if page.row else [])


def outcome(client: Client, name: str, page: Page, rows: dict[str, Any]) -> bool:
    """Return whether the page was shown, or what was posted was taken or answered with what is wrong with it."""
    address = address_of(name, page, rows)
    answer = client.post(address, {"format": "csv"}) if page.post else client.get(address)
    if answer.streaming:
        b"".join(answer.streaming_content)
    is_away = answer.status_code == 302 and answer["Location"] in {"/admin/", "/admin/code/"}
    assert answer.status_code < 500
    assert answer.status_code != 405, f"{name} is only for posting to, or not for that"
    return not is_away and answer.status_code not in {401, 403, 404}


def test_every_page_has_an_expectation():
    expected = PAGES.keys() | OPEN | ELSEWHERE.keys() | API.keys()
    assert set(names()) - expected == set()
    assert expected - set(names()) == set()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_opens_its_pages_and_no_other(role: str, world: World):
    client = logged_in(staff_of(role, world))
    expected = {name: role in page.roles for name, page in PAGES.items()}
    found = {name: outcome(client, name, page, world.here) for name, page in PAGES.items()}
    assert [name for name in PAGES if found[name] != expected[name]] == []


@pytest.mark.parametrize("role", sorted(ALL - SEES_EVERYTHING))
def test_a_role_opens_no_page_of_a_row_beyond_its_reach(role: str, world: World):
    client = logged_in(staff_of(role, world))
    owned = {name: page for name, page in PAGES.items() if page.row and page.row not in OF_NOBODY}
    assert [name for name, page in owned.items() if outcome(client, name, page, world.there)] == []


def test_nobody_opens_anything_without_a_login(world: World):
    for name, page in PAGES.items():
        answer = (
            Client().post(address_of(name, page, world.here))
            if page.post
            else Client().get(address_of(name, page, world.here))
        )
        assert answer.status_code == 302, name
        assert answer["Location"].startswith("/admin/login/"), name


def test_who_is_no_staff_opens_nothing(world: World):
    guest = logged_in(User.objects.create_user("guest"))
    for name, page in PAGES.items():
        if not page.post and not name.startswith("second_step"):
            answer = guest.get(address_of(name, page, world.here))
            assert answer.status_code == 302, name


@pytest.mark.parametrize("name", API)
def test_the_api_asks_for_the_scope_and_keeps_to_the_accounts_of_the_key(name: str, world: World):
    scope = API[name]
    by_name = {"statement": "account", "conversation-notes": "conversation"}
    by_name |= {"worklist-detail": "missedcaller", "worklist-steps": "missedcaller"}
    by_name |= {"subscription-status": "subscription"}
    row = by_name.get(name, name.removesuffix("-detail") if name.endswith("-detail") else "")

    def status(text: str, rows: dict[str, Any]) -> int:
        args = [rows[row].slug if row == "account" else rows[row].pk] if row else []
        return Client().get(reverse(name, args=args), HTTP_AUTHORIZATION=f"Bearer {text}").status_code

    if scope is None:
        assert status("", world.here) in {200, 401}
        return
    key, text = ApiKey.issue("with it", [scope])
    _, other = ApiKey.issue("without it", [one for one in Scope if one != scope])
    key.accounts.add(world.here["account"])
    assert status(text, world.here) == 200
    assert status(other, world.here) == 403
    assert status("none", world.here) == 401
    if row:
        assert status(text, world.there) == 404


def test_choices_are_within_reach(world: World):
    client = logged_in(staff_of("manager", world))
    query = {"app_label": "calls", "model_name": "alertrule", "field_name": "agent"}
    found = client.get("/admin/autocomplete/", query).json()["results"]
    assert [row["id"] for row in found] == [str(world.here["agent"].pk)]


def test_the_lists_of_an_app_show_what_is_allowed(world: World):
    viewer = logged_in(staff_of("viewer", world))
    assert "Conversation" in viewer.get("/admin/calls/").content.decode()
    assert viewer.get("/admin/webhooks/").status_code == 404
