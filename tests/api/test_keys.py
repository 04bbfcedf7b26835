import io
import re
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.contrib.auth.models import AnonymousUser, Permission
from django.core.management import CommandError, call_command
from django.test import Client, RequestFactory
from rest_framework.request import Request

from calls import audit
from calls.choices import Scope
from calls.ids import new_id
from calls.models import ApiKey, AuditEntry
from tests.api.factories import a_conversation, a_key, an_account, client_with
from tests.calls.staff import logged_in, person

pytestmark = pytest.mark.django_db

ACCOUNTS = "/api/v1/accounts/"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def run(*arguments: str) -> str:
    """Run a management command and return what it prints, without the end of the line."""
    output = io.StringIO()
    call_command(*arguments, stdout=output)
    return output.getvalue().removesuffix("\n")


def answer(text: str) -> tuple[int, str]:
    """Return the status that a key of this text gets, and what the problem says."""
    response = client_with(text).get(ACCOUNTS)
    return response.status_code, response.json().get("detail", "")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer nonsense", "Basic YTpi", "Bearer é\udcff", "Token x"])
def test_it_refuses_who_has_no_key(header: str | None) -> None:
    headers = {} if header is None else {"authorization": header}
    response = Client(headers=headers).get(ACCOUNTS)
    assert response.status_code == 401
    assert response["WWW-Authenticate"].startswith("Bearer")
    assert response["Content-Type"] == "application/problem+json"


def test_it_names_the_scope_that_a_key_lacks() -> None:
    response = client_with(a_key(Scope.EXPORT)).get(ACCOUNTS)
    assert (response.status_code, response.json()["detail"]) == (403, "This key lacks the scope “read”.")


def test_it_takes_a_key_from_the_header_only() -> None:
    assert Client().get("/api/v1/accounts/", {"key": a_key(Scope.READ)}).status_code == 401


def test_it_notes_the_use_of_a_key_once_a_minute(django_assert_num_queries) -> None:
    client = client_with(a_key(Scope.READ))
    for seconds, noted in [(0, 0), (59, 0), (60, 60), (100, 60)]:
        with time_machine.travel(NOON + timedelta(seconds=seconds), tick=False):
            client.get("/api/v1/accounts/")
        assert ApiKey.objects.get().last_used_at == NOON + timedelta(seconds=noted)


def test_a_login_to_the_admin_opens_nothing(admin_client: Client) -> None:
    assert admin_client.get("/api/v1/accounts/").status_code == 401


def test_a_revoked_key_opens_nothing_and_is_told_so() -> None:
    text = a_key(Scope.READ)
    ApiKey.objects.update(is_active=False)
    assert answer(text) == (401, "This API key was revoked. Ask who gave it to you for another.")


def test_a_key_opens_until_it_expires() -> None:
    _, text = ApiKey.issue("crm", [Scope.READ], expires_at=NOON)
    with time_machine.travel(NOON - timedelta(seconds=1), tick=False):
        assert answer(text)[0] == 200
    with time_machine.travel(NOON, tick=False):
        assert answer(text) == (
            401,
            "This API key expired at 2026-01-01T12:00:00Z. Ask who gave it to you for another.",
        )


def test_a_key_of_some_accounts_knows_of_no_other() -> None:
    here, there = an_account("delhi"), an_account("pune")
    own, foreign = a_conversation(account=here), a_conversation(account=there)
    _, text = ApiKey.issue("crm", [Scope.READ], accounts=[here])
    client = client_with(text)
    assert [row["slug"] for row in client.get(ACCOUNTS).json()["results"]] == ["delhi"]
    assert client.get(f"/api/v1/conversations/{own.pk}/").status_code == 200
    hidden = client.get(f"/api/v1/conversations/{foreign.pk}/")
    missing = client.get("/api/v1/conversations/01997d5e-8a4c-7c3a-9d0a-3f2b1c4d5e6f/")
    assert hidden.status_code == missing.status_code == 404
    assert hidden.json() == missing.json()


def test_a_rotated_key_goes_on_beside_the_new_one_and_then_ends_by_itself() -> None:
    key, old = ApiKey.issue("crm", [Scope.READ])
    with time_machine.travel(NOON, tick=False):
        new = run("rotate_api_key", "crm", "--overlap-hours", "2")
        assert re.fullmatch(r"rl_[A-Za-z0-9_-]{43}", new)
        assert answer(old)[0] == answer(new)[0] == 200
    with time_machine.travel(NOON + timedelta(hours=2), tick=False):
        assert answer(new)[0] == 200
        assert answer(old) == (401, "This API key was replaced and ended at 2026-01-01T14:00:00Z. Use the new one.")
    assert ApiKey.objects.get().pk == key.pk


def test_a_rotated_key_keeps_its_name_scopes_accounts_and_limit() -> None:
    delhi = an_account("delhi")
    key, _ = ApiKey.issue("crm", [Scope.READ, Scope.EXPORT], accounts=[delhi], calls_per_minute=7)
    run("rotate_api_key", "crm")
    key.refresh_from_db()
    assert (key.name, key.scopes, key.calls_per_minute) == ("crm", ["export", "read"], 7)
    assert list(key.accounts.all()) == [delhi]


def test_of_a_key_that_is_rotated_twice_only_the_last_two_texts_are_good() -> None:
    key, first = ApiKey.issue("crm", [Scope.READ])
    second = key.rotate(timedelta(hours=24))
    third = key.rotate(timedelta(hours=24))
    assert [answer(text)[0] for text in (first, second, third)] == [401, 200, 200]


def test_a_key_that_leaked_is_rotated_without_overlap() -> None:
    _, old = ApiKey.issue("crm", [Scope.READ])
    new = run("rotate_api_key", "crm", "--overlap-hours", "0")
    assert [answer(old)[0], answer(new)[0]] == [401, 200]


def test_a_key_that_expires_is_given_as_long_again_and_its_former_text_no_longer_than_it_had() -> None:
    with time_machine.travel(NOON, tick=False):
        run("create_api_key", "crm", "--expires-in-days", "30")
    with time_machine.travel(NOON + timedelta(days=29), tick=False):
        run("rotate_api_key", "crm", "--overlap-hours", "72")
    key = ApiKey.objects.get()
    assert key.expires_at == NOON + timedelta(days=59)
    assert key.former_expires_at == NOON + timedelta(days=30)


def test_revoking_a_key_ends_its_former_text_too() -> None:
    key, old = ApiKey.issue("crm", [Scope.READ])
    new = key.rotate(timedelta(hours=24))
    ApiKey.objects.update(is_active=False)
    assert [answer(old)[0], answer(new)[0]] == [401, 401]


def test_it_tells_whether_the_former_text_is_still_in_use() -> None:
    key, old = ApiKey.issue("crm", [Scope.READ])
    new = key.rotate(timedelta(hours=24))
    answer(new)
    key.refresh_from_db()
    assert key.last_used_at
    assert key.former_used_at is None
    answer(old)
    key.refresh_from_db()
    assert key.former_used_at


def test_both_texts_of_a_key_share_its_limit() -> None:
    key, old = ApiKey.issue("crm", [Scope.READ], calls_per_minute=2)
    new = key.rotate(timedelta(hours=24))
    assert [answer(text)[0] for text in (old, new, old, new)] == [200, 200, 429, 429]


def test_whether_a_key_is_unknown_or_known_it_is_looked_up_once(django_assert_num_queries) -> None:
    text = a_key(Scope.READ)
    ApiKey.objects.update(is_active=False)
    for one in (text, "rl_unknown"):
        with django_assert_num_queries(1):
            assert answer(one)[0] == 401


def test_create_api_key_takes_accounts_expiry_and_limit() -> None:
    an_account("delhi"), an_account("pune"), an_account("goa")
    with time_machine.travel(NOON, tick=False):
        run("create_api_key", "crm", "--accounts", "delhi, goa", "--expires-in-days", "90", "--rate", "30")
    key = ApiKey.objects.get()
    assert [account.slug for account in key.accounts.order_by("slug")] == ["delhi", "goa"]
    assert key.expires_at == NOON + timedelta(days=90)
    assert key.calls_per_minute == 30


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create_api_key", "b", "--accounts", "delhi,pune"], "--accounts: there is no account 'pune'. Give slugs"),
        (["create_api_key", "b", "--accounts", ""], "--accounts: there is no account ''."),
        (
            ["create_api_key", "b", "--expires-in-days", "0"],
            "--expires-in-days: 0 is not possible. Give a whole number",
        ),
        (["create_api_key", "b", "--rate", "0"], "--rate: 0 is not possible. Give a whole number from 1 to"),
        (["rotate_api_key", "nobody"], "name: there is no API key 'nobody'. There are: ended."),
        (["rotate_api_key", "ended"], "name: the API key ended was revoked. Make a new one"),
        (["rotate_api_key", "ended", "--overlap-hours", "-1"], "--overlap-hours: -1 is not possible."),
    ],
)
def test_the_commands_say_what_is_wrong_and_what_is_allowed(arguments: list[str], said: str) -> None:
    an_account("delhi")
    key, _ = ApiKey.issue("ended", [Scope.READ])
    ApiKey.objects.update(is_active=False)
    with pytest.raises(CommandError, match=re.escape(said)):
        run(*arguments)
    assert ApiKey.objects.get().digest == key.digest


def test_the_audit_log_names_the_program_that_did_it_and_outlives_its_key(admin_client: Client) -> None:
    key, _ = ApiKey.issue("crm-sync", [Scope.MANAGE])
    request = Request(RequestFactory().post("/api/v1/conversations/", REMOTE_ADDR="192.0.2.7"))
    request.user, request.auth = AnonymousUser(), key
    entry = audit.record(request, AuditEntry.Action.CHANGE, a_conversation(), "call", outcome="done")
    assert (entry.api_key, entry.user, entry.address) == (key, None, "192.0.2.7")
    page = admin_client.get("/admin/calls/auditentry/").content.decode()
    assert "API key crm-sync" in page
    key.delete()
    entry.refresh_from_db()
    assert entry.api_key is None


class TestPageOfKeys:
    """The admin's page of keys."""

    def test_a_key_is_made_with_all_its_limits_and_shown_once(self, admin_client: Client) -> None:
        delhi = an_account("delhi")
        data = {"name": "crm", "scopes": ["read"], "accounts": [delhi.pk], "calls_per_minute": 30}
        data |= {"expires_at_0": "2099-01-01", "expires_at_1": "12:00"}
        page = admin_client.post("/admin/calls/apikey/add/", data, follow=True).content.decode()
        text = re.search(r"rl_[\w-]{43}", page)[0]
        key = ApiKey.objects.get()
        assert list(key.accounts.all()) == [delhi]
        assert key.calls_per_minute == 30
        assert key.expires_at.year == 2099
        assert answer(text)[0] == 200
        assert text not in admin_client.get(f"/admin/calls/apikey/{key.pk}/change/").content.decode()

    def test_it_refuses_an_expiry_that_is_past_and_keeps_one_that_has_come(self, admin_client: Client) -> None:
        data = {"name": "crm", "scopes": ["read"], "expires_at_0": "2020-01-01", "expires_at_1": "12:00"}
        page = admin_client.post("/admin/calls/apikey/add/", data).content.decode()
        assert "This is past." in page
        key, _ = ApiKey.issue("old", [Scope.READ], expires_at=datetime(2020, 1, 1, 6, 30, tzinfo=UTC))
        data["name"] = "renamed"
        admin_client.post(f"/admin/calls/apikey/{key.pk}/change/", data)
        key.refresh_from_db()
        assert key.name == "renamed"

    def test_it_rotates_a_key_shows_the_new_one_once_and_ends_the_former_when_told(self, admin_client: Client) -> None:
        key, old = ApiKey.issue("crm", [Scope.READ])
        page = admin_client.post(f"/admin/calls/apikey/{key.pk}/rotate/", {"hours": 72}, follow=True).content.decode()
        new = re.search(r"rl_[\w-]{43}", page)[0]
        assert "End the former key" in page
        assert [answer(old)[0], answer(new)[0]] == [200, 200]
        admin_client.post(f"/admin/calls/apikey/{key.pk}/end-former/")
        assert [answer(old)[0], answer(new)[0]] == [401, 200]

    def test_who_sees_some_accounts_is_shown_no_key_that_sees_more(self) -> None:
        delhi, pune = an_account("delhi"), an_account("pune")
        user = person("manager", accounts=[delhi])
        permissions = Permission.objects.filter(codename__in=["see_numbers", "view_apikey", "change_apikey"])
        user.user_permissions.add(*permissions)
        browser = logged_in(user)
        for accounts, status in [([delhi], 302), ([delhi, pune], 403), ([], 403)]:
            key, text = ApiKey.issue(new_id().hex, [Scope.READ], accounts=accounts)
            assert browser.post(f"/admin/calls/apikey/{key.pk}/rotate/", {"hours": 24}).status_code == status
            assert (ApiKey.of_text(text).hint == text[:8]) == (status == 403)

    def test_it_revokes_a_key_for_good(self, admin_client: Client) -> None:
        key, text = ApiKey.issue("crm", [Scope.READ])
        admin_client.post(f"/admin/calls/apikey/{key.pk}/revoke/")
        assert answer(text)[0] == 401
        assert admin_client.post(f"/admin/calls/apikey/{key.pk}/rotate/", {"hours": 24}).status_code == 403
        data = {"name": "crm", "scopes": ["read"], "is_active": "on"}
        admin_client.post(f"/admin/calls/apikey/{key.pk}/change/", data)
        assert answer(text)[0] == 401

    def test_the_audit_log_has_what_was_done_to_a_key(self, admin_client: Client) -> None:
        key, _ = ApiKey.issue("crm", [Scope.READ])
        for what in ("rotate", "end-former", "revoke"):
            admin_client.post(f"/admin/calls/apikey/{key.pk}/{what}/", {"hours": 24})
        notes = [
            entry.details["note"] for entry in AuditEntry.objects.filter(target_type="calls.apikey").order_by("id")
        ]
        assert notes == ["Rotated; the former key goes on for a day", "The former key was ended", "Revoked"]

    def test_the_list_asks_the_same_of_the_database_for_2_keys_and_for_22(
        self, admin_client: Client, django_assert_num_queries, django_assert_max_num_queries
    ) -> None:
        delhi = an_account("delhi")
        counts = []
        for many in (2, 20):
            for _ in range(many):
                ApiKey.objects.get(digest=ApiKey.of_text(a_key(Scope.READ)).digest).accounts.add(delhi)
            with django_assert_max_num_queries(40) as captured:
                admin_client.get("/admin/calls/apikey/")
            counts.append(len(captured))
        assert counts[0] == counts[1]
