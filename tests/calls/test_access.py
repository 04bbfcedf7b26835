"""Who sees which rows, and which numbers: by role, in one place; and that nobody can make more of a role than it is."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from calls.access import may_see_numbers, seen_by, visible
from calls.admin.people import held_by
from calls.admin.reveal import MOST_PER_HOUR
from calls.choices import Scope
from calls.masking import masked, masked_page
from calls.models import (
    Account,
    Agent,
    Alert,
    AlertRule,
    ApiKey,
    AuditEntry,
    BalanceReading,
    Conversation,
    Leg,
    Notice,
    StaffAccess,
    Tag,
    Team,
)
from calls.roles import ROLES
from calls.templatetags import words
from tests.calls.staff import call_of, leg_of, logged_in, person
from webhooks.models import Delivery

pytestmark = pytest.mark.django_db

CUSTOMER = "+919000000001"


@pytest.fixture
def delhi() -> Account:
    return Account.objects.create(slug="delhi", name="Delhi", provider="piopiy")


@pytest.fixture
def pune() -> Account:
    return Account.objects.create(slug="pune", name="Pune", provider="piopiy")


@pytest.fixture
def asha(delhi) -> Agent:
    return Agent.objects.create(account=delhi, external_id="101", name="Asha", phone="+919000000091")


@pytest.fixture
def ravi(delhi) -> Agent:
    return Agent.objects.create(account=delhi, external_id="102", name="Ravi", phone="+919000000092")


def seen(user, model=Conversation) -> set:
    return set(visible(user, model._default_manager.all()))


# --- Rows ------------------------------------------------------------------------------------------------------------


def test_account_reach_gives_the_calls_of_the_accounts_and_what_belongs_to_them(delhi, pune, asha):
    of_delhi, of_pune = call_of(delhi, asha), call_of(pune)
    for role in ("viewer", "manager"):
        user = person(role, accounts=[delhi])
        assert seen(user) == {of_delhi}
        assert seen(user, Leg) == set(of_delhi.legs.all())
        assert seen(user, Agent) == {asha}
        assert seen(user, Account) == {delhi}
    assert of_pune in seen(person("auditor"))


def test_own_reach_gives_the_calls_in_which_one_of_the_own_agents_took_part(delhi, pune, asha, ravi):
    elsewhere = Agent.objects.create(account=pune, external_id="9", name="Asha")
    own, at_pune, of_ravi = call_of(delhi, asha), call_of(pune, elsewhere), call_of(delhi, ravi)
    passed_on = call_of(delhi, ravi)
    leg_of(passed_on, "agent2", "+919000000091", asha)
    missed = call_of(delhi)
    user = person("agent", agents=[asha, elsewhere])
    assert seen(user) == {own, at_pune, passed_on}
    assert seen(user, Leg) == {*own.legs.all(), *at_pune.legs.all(), *passed_on.legs.all()}
    assert seen(user, Agent) == {asha, elsewhere}
    assert {of_ravi, missed}.isdisjoint(seen(user))


def test_team_reach_gives_the_calls_of_the_agents_of_the_own_team(delhi, asha, ravi):
    of_asha, of_ravi = call_of(delhi, asha), call_of(delhi, ravi)
    team = Team.objects.create(name="Front desk")
    team.agents.add(asha)
    assert seen(person("supervisor", team=team)) == {of_asha}
    assert seen(person("supervisor", name="none yet")) == set()
    team.agents.add(ravi)
    assert seen(User.objects.get(username="supervisor")) == {of_asha, of_ravi}


def test_several_roles_add_up(delhi, pune, asha):
    of_pune, of_asha, other = call_of(pune), call_of(delhi, asha), call_of(delhi)
    user = person("agent", agents=[asha], accounts=[pune])
    assert seen(user) == {of_asha}
    user.groups.add(Group.objects.get(name="viewer"))
    assert seen(User.objects.get(pk=user.pk)) == {of_asha, of_pune}
    assert other not in seen(User.objects.get(pk=user.pk))


def test_what_belongs_to_an_account_but_to_no_call_is_seen_by_account_only(delhi, pune, asha):
    call = call_of(delhi, asha)
    now = timezone.now()
    BalanceReading.objects.create(
        account=delhi,
        conversation=call,
        leg=call.legs.first(),
        occurred_at=now,
        received_at=now,
        booked_at=now,
        balance=10,
        charge=1,
    )
    rule = AlertRule.objects.create(name="Low", kind="low_balance", opens_at=50)
    Alert.objects.create(rule=rule, account=delhi, kind="low_balance", message="Low", opened_at=now, updated_at=now)
    Delivery.objects.create(account=delhi, received_at=now, method="POST", size=0, digest="x")
    team = Team.objects.create(name="Front desk")
    team.agents.add(asha)
    for user in (person("agent", agents=[asha]), person("supervisor", team=team), person("manager", accounts=[pune])):
        for model in (BalanceReading, Alert, Delivery, AlertRule, Notice):
            assert seen(user, model) == set(), (user, model)
    manager = person("manager", accounts=[delhi], name="of delhi")
    assert [len(seen(manager, model)) for model in (BalanceReading, Alert, Delivery)] == [1, 1, 1]


def test_a_rule_for_every_account_is_not_for_who_sees_some(delhi):
    AlertRule.objects.create(name="Everywhere", kind="low_balance", opens_at=50)
    own = AlertRule.objects.create(name="Delhi", kind="low_balance", opens_at=50, account=delhi)
    assert seen(person("manager", accounts=[delhi]), AlertRule) == {own}


def test_without_a_role_nothing_is_seen_and_superusers_see_everything(delhi):
    call = call_of(delhi)
    assert seen(User.objects.create_user("nobody", is_staff=True)) == set()
    assert seen(User.objects.create_superuser("root")) == {call}
    assert seen(User.objects.create_user("nobody2", is_staff=True), Tag) == set(Tag.objects.all())


def test_a_key_reads_what_is_of_its_accounts_and_without_any_what_is_of_all(delhi, pune):
    of_delhi, of_pune = call_of(delhi), call_of(pune)
    key, text = ApiKey.issue("crm", [Scope.READ])
    assert seen(key) == {of_delhi, of_pune}
    key.accounts.add(delhi)
    header = {"HTTP_AUTHORIZATION": f"Bearer {text}"}
    client = Client()

    def ids(resource: str) -> set[str]:
        return {
            row.get("id") or row.get("slug") for row in client.get(f"/api/v1/{resource}/", **header).json()["results"]
        }

    assert ids("conversations") == {str(of_delhi.pk)}
    assert ids("accounts") == {"delhi"}
    assert client.get(f"/api/v1/conversations/{of_pune.pk}/", **header).status_code == 404
    assert client.get(f"/api/v1/conversations/{of_delhi.pk}/", **header).status_code == 200
    assert client.get("/api/v1/stats/summary/", **header).json()["calls"] == 1
    assert len(ids("legs")) == of_delhi.legs.count()


def test_lists_pages_and_choices_show_only_what_is_within_reach(delhi, pune, asha):
    mine, other = call_of(delhi, asha), call_of(pune)
    client = logged_in(person("viewer", accounts=[delhi]))
    page = client.get("/admin/calls/conversation/").content.decode()
    assert str(mine.pk) in page
    assert str(other.pk) not in page
    assert "Pune" not in page
    assert client.get(f"/admin/calls/conversation/{mine.pk}/change/").status_code == 200
    assert client.get(f"/admin/calls/conversation/{other.pk}/change/").status_code == 302
    assert str(other.pk) not in client.get("/admin/search/?s=9000000001").content.decode()


def test_a_manager_makes_rules_for_accounts_within_reach_only(delhi, pune):
    client = logged_in(person("manager", accounts=[delhi]))
    data = {"name": "Low", "opens_at": "50", "clears_at": "", "repeat_minutes": "0", "is_active": "on"}
    for account in ("", pune.pk):
        client.post("/admin/calls/alertrule/add/?kind=low_balance", data | {"account": account})
        assert not AlertRule.objects.exists()
    page = client.get("/admin/calls/alertrule/add/?kind=low_balance").content.decode()
    assert "Delhi" in page
    assert "Pune" not in page


def test_reach_is_found_by_indexes(delhi, asha):
    if connection.vendor != "postgresql":
        return
    now = timezone.now()
    Conversation.objects.bulk_create(
        Conversation(account=delhi, started_at=now - timedelta(minutes=n), last_heard_at=now) for n in range(20_000)
    )
    calls = list(Conversation.objects.all()[:200])
    for call in calls[:20]:
        leg_of(call, "agent", "", asha)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    plan = visible(person("agent", agents=[asha]), Conversation.objects.all())[:50].explain()
    assert "Seq Scan on calls_conversation" not in plan, plan


# --- Numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("+919000000001", "+91 •••• ••01"),
        ("from 9000000001 to 09000000001", "from •••• ••01 to •••• ••01"),
        ("rec_919000000001.mp3", "rec_•••• ••01.mp3"),
        ("+1 212-555-0100", "+1 •••• ••00"),
        ("extension 101", "extension 101"),
        ("2026-11-21 at 14:00", "2026-11-21 at 14:00"),
        ("0190f3c2-1234-5678-9012-123456789012", "0190f3c2-1234-5678-9012-123456789012"),
        ("", ""),
    ],
)
def test_numbers_in_a_text_are_masked_and_dates_are_not(text, expected):
    assert masked(text) == expected


@pytest.mark.parametrize("spelling", ["+919000000001", "+91 90000 00001", "%2B919000000001", r"\u002B919000000001"])
def test_the_wall_masks_what_a_page_forgets(spelling):
    assert "0000" not in masked_page(f'<a title="{spelling}">{spelling}</a>')


def test_the_wall_leaves_dids_and_everything_else_alone():
    page = '<a href="?did=%2B918000000000"><span class="rl-did">+91 80000 00000</span></a> +05:30 12345678901'
    assert masked_page(page) == page


def test_numbers_are_masked_only_for_who_may_not_see_them(delhi):
    call = call_of(delhi)
    with seen_by(person("viewer", accounts=[delhi])):
        assert words.phone(CUSTOMER) == "+91 •••• ••01"
        assert "0000" not in str(call)
    with seen_by(person("manager", accounts=[delhi])):
        assert words.phone(CUSTOMER) == "+91 90000 00001"
    assert words.phone(CUSTOMER) == "+91 90000 00001"
    assert may_see_numbers(ApiKey())


def test_a_reveal_shows_one_number_and_is_written_down(delhi, asha):
    call = call_of(delhi, asha)
    user = person("agent", agents=[asha])
    client = logged_in(user)
    page = client.get(f"/admin/calls/conversation/{call.pk}/change/").content.decode()
    address = f"/admin/reveal/calls.conversation/{call.pk}/customer_number/"
    assert f'data-reveal="{address}"' in page
    answer = client.post(address)
    assert answer.json()["number"] == "+91 90000 00001"
    entry = AuditEntry.objects.get(action="reveal")
    assert (entry.user, entry.target_id, entry.target_type) == (user, str(call.pk), "calls.conversation")
    assert "0000" not in json.dumps([entry.target_name, entry.details])
    assert client.get(address).status_code == 405


def test_only_what_is_within_reach_is_revealed_and_only_numbers(delhi, pune, asha):
    client = logged_in(person("agent", agents=[asha]))
    mine, other = call_of(delhi, asha), call_of(pune)
    assert client.post(f"/admin/reveal/calls.conversation/{other.pk}/customer_number/").status_code == 404
    assert client.post(f"/admin/reveal/calls.conversation/{mine.pk}/extra_params/").status_code == 404
    assert client.post(f"/admin/reveal/calls.conversation/{mine.pk}/pk/").status_code == 404
    assert client.post("/admin/reveal/calls.conversation/no-id/customer_number/").status_code == 404
    assert client.post("/admin/reveal/calls.nothing/1/phone/").status_code == 404
    assert client.post("/admin/reveal/auth.user/1/phone/").status_code in {403, 404}
    assert not AuditEntry.objects.filter(action="reveal").exists()
    viewer = logged_in(person("viewer", accounts=[pune]))
    assert viewer.post(f"/admin/reveal/calls.conversation/{other.pk}/customer_number/").status_code == 403


def test_reveals_are_limited(delhi, asha):
    call, user = call_of(delhi, asha), person("agent", agents=[asha])
    AuditEntry.objects.bulk_create(AuditEntry(user=user, action="reveal") for _ in range(MOST_PER_HOUR))
    answer = logged_in(user).post(f"/admin/reveal/calls.conversation/{call.pk}/customer_number/")
    assert answer.status_code == 429
    assert "Try again later" in answer.json()["problem"]


# --- Roles -----------------------------------------------------------------------------------------------------------


def test_the_roles_are_there_after_a_migration_and_keep_what_was_added():
    assert {group.name for group in Group.objects.all()} == set(ROLES)
    viewer = Group.objects.get(name="viewer")
    added = Permission.objects.get(codename="view_account")
    viewer.permissions.add(added)
    before = {group.name: set(group.permissions.all()) for group in Group.objects.all()}
    viewer.permissions.remove(Permission.objects.get(codename="view_conversation"))
    call_command("migrate", stdout=StringIO(), verbosity=0)
    assert {group.name: set(group.permissions.all()) for group in Group.objects.all()} == before


def test_every_permission_that_a_role_names_exists():
    there = {
        f"{one.content_type.app_label}.{one.codename}" for one in Permission.objects.select_related("content_type")
    }
    assert {name for names in ROLES.values() for name in names} - there == set()


def test_the_auditor_changes_nothing():
    auditor = Group.objects.get(name="auditor")
    words_of = {codename.partition("_")[0] for codename in auditor.permissions.values_list("codename", flat=True)}
    assert words_of == {"view", "see", "reveal", "play"}


# --- Nobody makes more of a role than it is --------------------------------------------------------------------------


def form_of(user: User, **changes) -> dict:
    data = {"username": user.username, "first_name": "", "last_name": "", "email": "", "is_active": "on"}
    access = StaffAccess.objects.filter(user=user).first()
    inline = {"access-TOTAL_FORMS": "1" if access else "0", "access-INITIAL_FORMS": "1" if access else "0"}
    if access:
        inline |= {"access-0-id": access.pk, "access-0-user": user.pk}
    return data | {"is_staff": "on", "groups": [group.pk for group in user.groups.all()]} | inline | changes


def test_an_administrator_gives_roles_and_what_they_are_concerned_with(delhi):
    client = logged_in(person("administrator"))
    user = person("viewer")
    manager = Group.objects.get(name="manager")
    data = form_of(user, groups=[manager.pk], **{"access-0-accounts": [delhi.pk]})
    answer = client.post(f"/admin/auth/user/{user.pk}/change/", data)
    assert answer.status_code == 302, answer.context["errors"]
    assert list(User.objects.get(pk=user.pk).groups.all()) == [manager]
    assert list(user.access.accounts.all()) == [delhi]
    entry = AuditEntry.objects.get(action="change", target_type="auth.user")
    assert entry.details["changes"]["groups"] == ["viewer", "manager"]


def test_an_administrator_makes_no_superusers_and_hands_out_no_permission_beyond_the_own():
    administrator = person("administrator")
    client = logged_in(administrator)
    beyond = Permission.objects.exclude(pk__in=held_by(administrator)).first()
    assert beyond
    strong = Group.objects.create(name="strong")
    strong.permissions.add(beyond)
    user = person("viewer")
    data = form_of(user, is_superuser="on", user_permissions=[beyond.pk])
    assert client.post(f"/admin/auth/user/{user.pk}/change/", data).status_code == 302
    client.post(f"/admin/auth/user/{user.pk}/change/", form_of(user, groups=[strong.pk]))
    client.post("/admin/auth/group/add/", {"name": "mine", "permissions": [beyond.pk]})
    client.post(f"/admin/auth/group/{strong.pk}/change/", {"name": "weak", "permissions": []})
    user = User.objects.get(pk=user.pk)
    assert not user.is_superuser
    assert not user.has_perm(f"{beyond.content_type.app_label}.{beyond.codename}")
    assert [group.name for group in user.groups.all()] == ["viewer"]
    assert not Group.objects.filter(name="mine").exists()
    assert Group.objects.get(pk=strong.pk).name == "strong"


def test_nobody_takes_over_who_may_do_more():
    root = User.objects.create_superuser("root", password="a long password")
    passwords = {"password1": "another password", "password2": "another password"}
    client = logged_in(person("administrator"))
    assert client.get(f"/admin/auth/user/{root.pk}/change/").status_code == 200
    assert client.post(f"/admin/auth/user/{root.pk}/change/", form_of(root, is_active="")).status_code == 403
    assert client.post(f"/admin/auth/user/{root.pk}/password/", passwords).status_code == 403
    action = {"action": "forget_app", "_selected_action": [root.pk]}
    assert client.post("/admin/auth/user/", action).status_code == 403
    assert User.objects.get(pk=root.pk).check_password("a long password")


# --- What is written down --------------------------------------------------------------------------------------------


def test_changes_are_written_down_field_by_field_without_secrets(delhi):
    client = logged_in(User.objects.create_superuser("root"))
    page = client.get(f"/admin/calls/account/{delhi.pk}/change/")
    form = page.context["adminform"].form
    data = {name: form[name].value() for name in form.fields if form[name].value() is not None}
    data = {name: value for name, value in data.items() if value is not False}
    answer = client.post(
        f"/admin/calls/account/{delhi.pk}/change/",
        data | {"name": "New Delhi", "app_id": "2222223", "api_secret": "very-secret-word"},
    )
    assert answer.status_code == 302, answer.context["errors"]
    entry = AuditEntry.objects.get(action="change")
    assert entry.details["changes"]["name"] == ["Delhi", "New Delhi"]
    assert "very-secret-word" not in json.dumps(entry.details)
    assert entry.details["changes"]["api_secret"] == ["not shown", "not shown"]


def test_additions_and_deletions_are_written_down():
    client = logged_in(User.objects.create_superuser("root"))
    client.post("/admin/calls/tag/add/", {"name": "VIP"})
    tag = Tag.objects.get()
    client.post(f"/admin/calls/tag/{tag.pk}/delete/", {"post": "yes"})
    kinds = AuditEntry.objects.filter(target_type="calls.tag").order_by("id").values_list("action", "target_name")
    assert list(kinds) == [("add", "tag VIP"), ("delete", "tag VIP")]


def test_the_audit_log_is_for_auditors_and_administrators_and_nobody_changes_it(delhi):
    entry = AuditEntry.objects.create(action="reveal", target_name="conversation")
    for role in ("auditor", "administrator"):
        client = logged_in(person(role))
        page = client.get("/admin/calls/auditentry/?action__exact=reveal")
        assert "Revealed a number" in page.content.decode()
        assert client.get(f"/admin/calls/auditentry/{entry.pk}/change/").status_code == 200
        assert client.post(f"/admin/calls/auditentry/{entry.pk}/change/", {}).status_code == 403
        assert client.post(f"/admin/calls/auditentry/{entry.pk}/delete/", {"post": "yes"}).status_code == 403
        assert client.get("/admin/calls/auditentry/add/").status_code == 403
    root = logged_in(User.objects.create_superuser("root"))
    assert root.post(f"/admin/calls/auditentry/{entry.pk}/delete/", {"post": "yes"}).status_code == 403
    data = {"action": "delete_selected", "_selected_action": [entry.pk], "post": "yes"}
    root.post("/admin/calls/auditentry/", data)
    assert AuditEntry.objects.filter(pk=entry.pk).exists()
    assert logged_in(person("manager", accounts=[delhi])).get("/admin/calls/auditentry/").status_code == 403


@pytest.mark.parametrize("page", ["calls/auditentry", "auth/user", "calls/team"])
def test_the_lists_of_people_cost_the_same_for_many(page, delhi):
    client = logged_in(person("administrator"))

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(f"/admin/{page}/").status_code == 200
        return len(queries)

    def add(first: int, last: int) -> None:
        for number in range(first, last):
            user = person("viewer", name=f"viewer-{number}", accounts=[delhi])
            Team.objects.create(name=f"Team {number}")
            AuditEntry.objects.create(user=user, action="change", target_type="auth.user", target_id=str(user.pk))

    add(0, 2)
    cost()
    few = cost()
    add(2, 22)
    assert cost() == few
