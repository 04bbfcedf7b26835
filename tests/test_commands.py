"""The commands by which operators add accounts and API keys."""

import json
import re

import pytest
from django.core.management import CommandError, call_command

from calls.models import Account, ApiKey, AuditEntry
from calls.models.api_key import digest_of as digest_of_key
from webhooks.models import Endpoint, digest_of
from webhooks.providers import PROVIDERS

pytestmark = pytest.mark.django_db


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    def run(*arguments: str) -> str:
        call_command(*arguments)
        return capsys.readouterr().out

    return run


def test_add_account_prints_the_webhook_url_as_one_json_object(run, settings):
    settings.PUBLIC_URL = "https://calls.example.com"
    answer = json.loads(run("add_account", "delhi-support", "--provider", "piopiy"))
    token = answer.pop("token")
    assert answer == {
        "account": "delhi-support",
        "provider": "piopiy",
        "webhook_url": f"https://calls.example.com/webhooks/piopiy/{token}/",
    }
    endpoint = Endpoint.objects.get(account__slug="delhi-support")
    assert endpoint.digest == digest_of(token)
    assert endpoint.token == token


def test_add_account_keeps_what_it_is_told(run):
    run(
        "add_account", "london", "--provider", "telecmi", "--app-id", "1111112", "--currency", "GBP",
        "--time-zone", "Europe/London", "--region", "GB", "--token", "an-operators-own-token",
    )  # fmt: skip
    account = Account.objects.get(slug="london")
    assert (account.app_id, account.unit, account.time_zone, account.phone_region) == (
        "1111112", "GBP", "Europe/London", "GB",
    )  # fmt: skip
    assert account.endpoints.get().digest == digest_of("an-operators-own-token")


@pytest.mark.parametrize(("provider", "unit"), [("piopiy", "INR"), ("telecmi", "INR"), ("callerdesk", "coins")])
def test_add_account_counts_money_as_the_provider_does(run, provider: str, unit: str):
    run("add_account", "some-account", "--provider", provider)
    assert Account.objects.get().unit == unit


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Delhi Support", "--provider", "piopiy"], "slug: Use 1 to 64 small letters, digits and inner dashes"),
        (["delhi", "--provider", "acme"], "choose from"),
        (["delhi"], "--provider"),
        (["delhi", "--provider", "piopiy", "--time-zone", "India"], "--time-zone: “India” is not a time zone. Use"),
        (["delhi", "--provider", "piopiy", "--region", "XX"], "--region: “XX” is not a phone region. Use"),
        (["delhi", "--provider", "piopiy", "--currency", "₹"], "--currency: Use a currency code such as INR"),
        (["delhi", "--provider", "piopiy", "--currency", ""], "--currency: "),
        (["delhi", "--provider", "piopiy", "--token", "tooshort"], "--token: 16 to 128 of the characters"),
        (["delhi", "--provider", "piopiy", "--token", "sixteen/or/more/characters"], "--token: 16 to 128"),
        (["delhi", "--provider", "piopiy", "--token", "sixteen-or-more-and-a-newline\n"], "--token: 16 to 128"),
        (["delhi", "--provider", "piopiy", "--app-id", "1" * 65], "--app-id: "),
        (["", "--provider", "piopiy"], "slug: "),
    ],
)
def test_add_account_says_what_is_wrong_and_what_is_allowed(run, arguments: list[str], said: str):
    with pytest.raises(CommandError, match=re.escape(said)) as caught:
        run("add_account", *arguments)
    assert caught.value.returncode == 1
    assert not Account.objects.exists()


def test_add_account_refuses_a_slug_and_a_token_that_are_taken(run):
    run("add_account", "delhi", "--provider", "piopiy", "--token", "the-same-token-twice")
    with pytest.raises(CommandError, match="slug: Account with this Slug already exists"):
        run("add_account", "delhi", "--provider", "telecmi")
    with pytest.raises(CommandError, match="--token: another webhook URL has this token"):
        run("add_account", "mumbai", "--provider", "telecmi", "--token", "the-same-token-twice")
    assert Account.objects.get().provider == "piopiy"


def test_add_account_knows_every_provider(run):
    for provider in PROVIDERS:
        run("add_account", f"an-{provider}", "--provider", provider)
    assert Account.objects.count() == len(PROVIDERS)


def test_create_api_key_prints_the_key_alone_and_keeps_only_its_digest(run):
    text = run("create_api_key", "crm-sync")
    assert re.fullmatch(r"rl_[A-Za-z0-9_-]{43}\n", text)
    key = ApiKey.objects.get(name="crm-sync")
    assert key.digest == digest_of_key(text.strip())
    assert key.scopes == ["read"]


def test_create_api_key_gives_the_scopes_that_are_named(run):
    run("create_api_key", "wallboard", "--scopes", "stream, read")
    assert ApiKey.objects.get().scopes == ["read", "stream"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["crm", "--scopes", "write"],
            "--scopes: 'write' is no scope. Allowed, with commas: read,stream,export,manage.",
        ),
        (["crm", "--scopes", ""], "--scopes: '' is no scope."),
        ([""], "name: This field cannot be blank."),
        (["x" * 101], "name: Ensure this value has at most 100 characters"),
        ([], "name"),
    ],
)
def test_create_api_key_says_what_is_wrong_and_what_is_allowed(run, arguments: list[str], said: str):
    with pytest.raises(CommandError, match=re.escape(said)):
        run("create_api_key", *arguments)
    assert not ApiKey.objects.exists()


def test_create_api_key_refuses_a_name_that_is_taken(run):
    run("create_api_key", "crm-sync")
    with pytest.raises(CommandError, match="name: API key with this Name already exists"):
        run("create_api_key", "crm-sync")


def test_the_audit_log_tells_what_commands_made_and_no_secret(run, admin_client):
    token = json.loads(run("add_account", "delhi-support", "--provider", "piopiy"))["token"]
    keys = [run("create_api_key", "crm-sync").strip(), run("rotate_api_key", "crm-sync").strip()]
    entries = AuditEntry.objects.exclude(action="login").order_by("id")
    assert [(entry.details["command"], entry.action, entry.target_name) for entry in entries] == [
        ("add_account", "add", "account delhi-support"),
        ("create_api_key", "add", "API key crm-sync"),
        ("rotate_api_key", "change", "API key crm-sync"),
    ]
    page = admin_client.get("/admin/calls/auditentry/").content.decode()
    assert page.count("a command on the server") == 3
    assert not [secret for secret in [token, *keys] if secret in page]
    with pytest.raises(CommandError):
        run("add_account", "delhi-support", "--provider", "piopiy")
    assert entries.count() == 3
