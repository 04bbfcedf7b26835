"""The pages of alerts and of their rules."""

import re
from datetime import timedelta
from decimal import Decimal
from html import unescape

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from calls.alerting.kinds import KINDS
from calls.models import Account, Agent, Alert, AlertComment, AlertRule, Channel, Notice
from tests.calls.reports import NOON, paid_call, take

pytestmark = pytest.mark.django_db

ALERTS, RULES = "/admin/calls/alert/", "/admin/calls/alertrule/"
LOW = {"name": "Low", "opens_at": "20", "clears_at": "60", "is_active": "on"}
MISSED = {
    "name": "Missed", "opens_at": "60", "clears_at": "40", "window_minutes": "60", "minimum_calls": "5",
    "is_active": "on",
}  # fmt: skip


def text_of(response) -> str:
    assert response.status_code == 200
    return " ".join(re.sub(r"<[^>]*>", " ", unescape(response.content.decode())).split())


def rows(response) -> list:
    return list(response.context["cl"].result_list)


def errors_of(response) -> dict[str, list[str]]:
    assert response.status_code == 200
    return dict(response.context["adminform"].form.errors)


def log() -> list[str]:
    return list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True))


@pytest.fixture
def rule(db) -> AlertRule:
    return AlertRule.objects.create(name="Balance is low", kind="low_balance", opens_at=50, clears_at=100)


@pytest.fixture
def alert(account, rule) -> Alert:
    return an_alert(rule, account)


def an_alert(rule, account, **values) -> Alert:
    moments = {"opened_at": NOON, "updated_at": NOON}
    return Alert.objects.create(
        **{"rule": rule, "account": account, "kind": rule.kind, "message": "The balance is 12.50 INR."}
        | moments
        | values
    )


def one_who_may(*names: str) -> Client:
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=[*names, "see_all_calls"]))
    client = Client()
    client.force_login(user)
    return client


# --- Alerts ----------------------------------------------------------------------------------------------------------


def test_the_list_has_the_open_ones_first_and_is_filtered(admin_client, admin_user, account, rule):
    cleared = an_alert(rule, account, opened_at=NOON + timedelta(days=1), cleared_at=NOON + timedelta(days=2))
    older = an_alert(rule, account, subject="a", acknowledged_at=NOON, assigned_to=admin_user)
    newer = an_alert(rule, account, subject="b", opened_at=NOON + timedelta(hours=1))
    missed = AlertRule.objects.create(name="Missed", kind="missed_calls", opens_at=50)
    other = an_alert(missed, Account.objects.create(slug="other", provider="piopiy"))
    assert rows(admin_client.get(ALERTS)) == [newer, other, older, cleared]
    for query, expected in [
        ("open=1", [newer, other, older]),
        ("open=0", [cleared]),
        ("open=new", [newer, other]),
        ("kind__exact=missed_calls", [other]),
        (f"account__id__exact={other.account_id}", [other]),
        (f"rule__id__exact={missed.pk}", [other]),
        ("assigned=me", [older]),
        ("assigned=nobody&open=0", [cleared]),
    ]:
        assert rows(admin_client.get(f"{ALERTS}?{query}")) == expected, query


def test_the_page_says_what_why_and_where_to_look(admin_client, account, rule):
    page = {"label": "The readings", "page": "admin:calls_balancereading_changelist", "args": []}
    alert = an_alert(rule, account, subject="<b>+91", evidence=[page | {"query": {"account__id__exact": "7"}}])
    channel = Channel.objects.create(name="Owner", kind="email")
    Notice.objects.create(
        alert=alert, channel=channel, transition="opened", due_at=NOON, attempts=3, last_error="Refused by the server."
    )
    response = admin_client.get(f"{ALERTS}{alert.pk}/change/")
    text = text_of(response)
    for words in ("The balance is 12.50 INR.", "Balance is low", "delhi-support", "Owner", "Due", "Refused"):
        assert words in text
    html = response.content.decode()
    assert 'href="/admin/calls/balancereading/?account__id__exact=7"' in html
    assert "&lt;b&gt;+91" in html


def test_it_is_acknowledged_once_and_the_first_one_stays(admin_client, admin_user, alert):
    page = f"{ALERTS}{alert.pk}/"
    assert admin_client.post(f"{page}acknowledge/").status_code == 302
    alert.refresh_from_db()
    first_at = alert.acknowledged_at
    assert alert.acknowledged_by == admin_user
    text = text_of(admin_client.post(f"{page}acknowledge/", follow=True))
    assert "It has been acknowledged already." in text
    assert "Acknowledged admin" in text
    alert.refresh_from_db()
    assert alert.acknowledged_at == first_at
    assert log() == ["Acknowledged"]


def test_it_is_assigned_to_staff_only(admin_client, alert):
    asha = User.objects.create_user("asha", is_staff=True)
    nobody = User.objects.create_user("customer")
    page = f"{ALERTS}{alert.pk}/assign/"
    for value, expected in [(asha.pk, asha), (nobody.pk, asha), ("x", asha), ("9" * 5000, asha), ("", None)]:
        admin_client.post(page, {"assignee": value})
        alert.refresh_from_db()
        assert alert.assigned_to == expected
    assert log() == ["Assigned to asha", "Assigned to nobody"]


def test_comments_are_kept_with_their_author_and_escaped(admin_client, admin_user, alert):
    page = f"{ALERTS}{alert.pk}/comment/"
    for text in ("Asked for a <top-up>.\nBy noon.", "  ", "x" * 2001):
        admin_client.post(page, {"text": text})
    comment = AlertComment.objects.get()
    assert (comment.alert, comment.author) == (alert, admin_user)
    response = admin_client.get(f"{ALERTS}{alert.pk}/change/")
    assert "Asked for a &lt;top-up&gt;.<br>By noon." in response.content.decode()
    assert log() == ["Commented"]


@pytest.mark.parametrize("action", ["acknowledge", "assign", "comment"])
def test_only_those_who_may_change_alerts_act_on_them_and_only_by_post(admin_client, admin_user, alert, action):
    page = f"{ALERTS}{alert.pk}/{action}/"
    viewer = one_who_may("view_alert")
    assert viewer.post(page, {"text": "x", "assignee": admin_user.pk}).status_code == 403
    shown = viewer.get(f"{ALERTS}{alert.pk}/change/").content.decode()
    assert page not in shown
    assert "/mute/" not in shown
    assert admin_client.get(page).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(admin_user)
    assert strict.post(page, {"text": "x"}).status_code == 403
    alert.refresh_from_db()
    assert (alert.acknowledged_at, alert.assigned_to, alert.comments.count()) == (None, None, 0)


def test_many_rows_cost_as_much_as_few(admin_client, account, rule):
    def cost(url: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert admin_client.get(url).status_code == 200
        return len(queries)

    for url in (ALERTS, RULES):
        cost(url)
        few = cost(url)
        for number in range(20):
            an_alert(rule, account, subject=f"{url}{number}")
            AlertRule.objects.create(name=f"{number}", kind="low_balance", opens_at=1)
        assert cost(url) == few


# --- Rules -----------------------------------------------------------------------------------------------------------


def test_the_kind_is_chosen_first_and_the_form_asks_for_what_it_goes_by(admin_client, account):
    text = text_of(admin_client.get(f"{RULES}add/"))
    for kind in KINDS.values():
        assert kind.help in text
    form = admin_client.get(f"{RULES}add/?kind=low_balance").context["adminform"].form
    assert set(form.fields) == {
        "name", "account", "opens_at", "clears_at", "channels", "is_active", "muted_until", "quiet_from", "quiet_until"
    }  # fmt: skip
    assert form.fields["opens_at"].label == KINDS["low_balance"].mark
    more = admin_client.get(f"{RULES}add/?kind=missed_calls").context["adminform"].form.fields
    assert set(more) - set(form.fields) == {"did", "agent", "window_minutes", "minimum_calls"}
    channel = Channel.objects.create(name="Owner", kind="email")
    response = admin_client.post(f"{RULES}add/?kind=low_balance", LOW | {"channels": [channel.pk]})
    assert response.status_code == 302
    rule = AlertRule.objects.get()
    assert (rule.kind, rule.opens_at, rule.clears_at, *rule.channels.all()) == ("low_balance", 20, 60, channel)
    form = admin_client.get(f"{RULES}{rule.pk}/change/").context["adminform"].form
    assert form.initial["opens_at"] == "20"


@pytest.mark.parametrize(
    ("kind", "form", "field", "reason"),
    [
        ("low_balance", LOW | {"clears_at": "10"}, "clears_at", "10 is below the mark of 20. Give that or more."),
        ("low_balance", LOW | {"opens_at": "-1"}, "opens_at", "-1 is negative. Give 0 or more."),
        ("low_balance", LOW | {"opens_at": ""}, "opens_at", "Give the mark at which an alert opens"),
        ("low_balance", LOW | {"opens_at": "NaN"}, "opens_at", "Enter a number."),
        ("missed_calls", MISSED | {"opens_at": "101"}, "opens_at", "101 can never be reached. Give at most 100."),
        ("missed_calls", MISSED | {"clears_at": "70"}, "clears_at", "70 is above the mark of 60. Give that or less."),
        ("missed_calls", MISSED | {"window_minutes": "1"}, "window_minutes", "greater than or equal to 5"),
        ("low_balance", LOW | {"quiet_from": "22:00"}, "quiet_until", "both a beginning and an end"),
        ("low_balance", LOW | {"quiet_from": "22:00", "quiet_until": "22:00"}, "quiet_until", "22:00"),
        ("low_balance", LOW | {"channels": ["77"]}, "channels", "77 is not one of the available choices"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_with_the_reason(admin_client, kind, form, field, reason):
    assert reason in " ".join(errors_of(admin_client.post(f"{RULES}add/?kind={kind}", form))[field])
    assert not AlertRule.objects.exists()


def test_an_agent_of_another_account_is_refused(admin_client, account):
    agent = Agent.objects.create(account=Account.objects.create(slug="other", provider="piopiy"), external_id="7")
    form = MISSED | {"account": account.pk, "agent": agent.pk}
    assert "belongs to other" in errors_of(admin_client.post(f"{RULES}add/?kind=missed_calls", form))["agent"][0]


def test_a_rule_that_matches_no_calls_is_saved_with_a_warning(admin_client, account):
    form = MISSED | {"did": "+918000000000"}
    text = text_of(admin_client.post(f"{RULES}add/?kind=missed_calls", form, follow=True))
    assert "matches no calls of the last 30 days" in text
    assert AlertRule.objects.exists()


def test_the_list_shows_state_and_open_alerts(admin_client, account, rule):
    an_alert(rule, account)
    an_alert(rule, account, cleared_at=NOON)
    AlertRule.objects.create(name="Off", kind="low_balance", opens_at=1, is_active=False)
    response = admin_client.get(RULES)
    assert f'href="{ALERTS}?rule__id__exact={rule.pk}&amp;open=1"' in response.content.decode()
    text = text_of(response)
    assert "Balance is low Low balance Every account Active 1" in text
    assert "Off Low balance Every account Off –" in text


def test_rules_are_muted_and_unmuted_from_the_list_and_from_an_alert(admin_client, rule, alert, time_machine):
    time_machine.move_to(NOON, tick=False)
    admin_client.post(RULES, {"action": "mute_for_a_day", "_selected_action": [rule.pk]})
    rule.refresh_from_db()
    assert rule.muted_until == NOON + timedelta(days=1)
    response = admin_client.post(f"{RULES}{rule.pk}/mute/", {"hours": "1", "alert": alert.pk})
    assert response.url == f"{ALERTS}{alert.pk}/change/"
    rule.refresh_from_db()
    assert rule.muted_until == NOON + timedelta(hours=1)
    assert "Muted until" in text_of(admin_client.get(response.url))
    assert admin_client.post(f"{RULES}{rule.pk}/mute/", {"hours": "0"}).url == f"{RULES}{rule.pk}/change/"
    admin_client.post(f"{RULES}{rule.pk}/mute/", {"hours": "1e9"})
    rule.refresh_from_db()
    assert rule.muted_until is None
    assert log() == ["Muted for 24 h", "Muted for 1 h", "Unmuted"]
    viewer = one_who_may("view_alertrule", "view_alert")
    assert viewer.post(f"{RULES}{rule.pk}/mute/", {"hours": "1"}).status_code == 403


def test_a_rule_with_alerts_is_switched_off_and_not_deleted(admin_client, rule, alert):
    page = f"{RULES}{rule.pk}/change/"
    assert "it cannot be deleted. Switch it off instead" in text_of(admin_client.get(page))
    assert admin_client.post(f"{RULES}{rule.pk}/delete/", {"post": "yes"}).status_code == 403
    fresh = AlertRule.objects.create(name="Fresh", kind="low_balance", opens_at=1)
    admin_client.post(f"{RULES}{fresh.pk}/delete/", {"post": "yes"})
    assert list(AlertRule.objects.all()) == [rule]


# --- Trying a rule out -----------------------------------------------------------------------------------------------


def test_a_rule_is_tried_as_it_stands_in_the_form_and_nothing_is_saved(admin_client, account, rule):
    now = timezone.now()
    for days, balance in [(20, "40"), (19, "500"), (9, "10"), (8, "90")]:
        take(account, paid_call(days, balance=balance, at=now - timedelta(days=days)))
    response = admin_client.post(
        f"{RULES}{rule.pk}/change/", LOW | {"name": "Changed", "_try": "1", "try_account": account.pk}
    )
    text = text_of(response)
    assert "On delhi-support it would have fired 1 time in the last 30 days" in text
    assert "10.00 INR" in text
    assert 'value="Changed"' in response.content.decode(), "what was typed is not lost"
    assert re.search(r'href="/admin/calls/balancereading/\?[^"]*booked_at', response.content.decode())
    rule.refresh_from_db()
    assert (rule.name, rule.opens_at) == ("Balance is low", Decimal(50))
    response = admin_client.post(
        f"{RULES}{rule.pk}/change/", LOW | {"opens_at": "50", "_try": "1", "account": account.pk}
    )
    assert "it would have fired 2 times" in text_of(response)
    assert not Alert.objects.exists()
    assert log() == []


def test_a_new_rule_is_tried_before_it_is_saved_and_warned_of_a_did_without_calls(admin_client, account):
    form = MISSED | {"did": "+918000000000", "account": account.pk, "_try": "1"}
    text = text_of(admin_client.post(f"{RULES}add/?kind=missed_calls", form))
    assert "it would not have fired in the last 30 days" in text
    assert "matches no calls of the last 30 days. Check the DID and the agent." in text
    assert not AlertRule.objects.exists()


def test_a_senseless_rule_is_not_tried(admin_client, account, rule):
    response = admin_client.post(f"{RULES}{rule.pk}/change/", LOW | {"clears_at": "1", "_try": "1"})
    assert "would have fired" not in text_of(response)
    assert "clears_at" in errors_of(response)
    response = admin_client.post(f"{RULES}{rule.pk}/change/", LOW | {"_try": "1", "try_account": "x"})
    assert "Choose the account" in text_of(response)


def test_who_may_only_view_rules_can_neither_try_nor_change_them(account, rule):
    viewer = one_who_may("view_alertrule")
    page = f"{RULES}{rule.pk}/change/"
    assert "Try on the last" not in text_of(viewer.get(page))
    assert viewer.post(page, LOW | {"_try": "1", "try_account": account.pk}).status_code == 403
    assert viewer.get(f"{RULES}add/").status_code == 403


@pytest.mark.browser
def test_a_rule_is_made_and_tried_by_keyboard_on_a_phone(page, live_server, admin_user, account, client):
    take(account, paid_call(1, balance="10", at=timezone.now() - timedelta(days=3)))
    client.force_login(admin_user)
    cookie = {"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}
    page.context.add_cookies([cookie])
    page.set_viewport_size({"width": 360, "height": 740})
    complaints = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(f"{live_server.url}{RULES}add/")
    page.get_by_role("link", name="Low balance").press("Enter")
    page.get_by_label("Name").fill("Low")
    page.get_by_label("Balance, in the account").fill("20")
    page.get_by_role("button", name="Try on the last 30 days").press("Enter")
    page.get_by_role("heading", name="would have fired 1 time").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_role("button", name="Save", exact=True).press("Enter")
    page.get_by_text("was added successfully").wait_for()
    assert AlertRule.objects.get().opens_at == 20
    assert not complaints
