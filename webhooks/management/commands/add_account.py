import json
import re
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import IntegrityError, transaction

from calls import audit
from calls.models import Account, AuditEntry
from webhooks.models import Endpoint
from webhooks.providers import PROVIDERS

# CallerDesk counts in coins (`coins` of its call report); the others bill in rupees.
DEFAULT_UNITS = {"callerdesk": "coins"}
TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}")


class Command(BaseCommand):
    help = "Adds a provider account and prints its webhook URL as one JSON object."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", help="its name in the API: small letters, digits and dashes, such as delhi-support")
        parser.add_argument("--provider", required=True, choices=list(PROVIDERS))
        parser.add_argument(
            "--app-id", default="", help="the provider's id of the account; others are then quarantined"
        )
        parser.add_argument("--currency", help="what its money is counted in: a currency code, or coins")
        parser.add_argument("--time-zone", default="Asia/Kolkata", help="zone of the times that the provider prints")
        parser.add_argument("--region", default="IN", help="country in which national phone numbers are read")
        parser.add_argument("--token", help="the secret part of the webhook URL; a random one when left out")

    def handle(self, *args: Any, **options: Any) -> None:
        with transaction.atomic():
            account, token = add_account(
                options["slug"],
                options["provider"],
                app_id=options["app_id"],
                unit=options["currency"],
                time_zone=options["time_zone"],
                region=options["region"],
                token=options["token"],
            )
            audit.record(None, AuditEntry.Action.ADD, account, f"account {account}", command="add_account")
        answer = {
            "account": account.slug,
            "provider": account.provider,
            "webhook_url": f"{settings.PUBLIC_URL.rstrip('/')}/webhooks/{account.provider}/{token}/",
            "token": token,
        }
        self.stdout.write(json.dumps(answer))


def add_account(
    slug: str,
    provider: str,
    *,
    app_id: str = "",
    unit: str | None = None,
    time_zone: str = "Asia/Kolkata",
    region: str = "IN",
    token: str | None = None,
) -> tuple[Account, str]:
    """Add an account with one webhook URL and return it with the URL's token.

    ``unit`` is a currency code or "coins"; ``None`` takes what the provider counts in. Raises ``CommandError``, which
    names what is wrong and what is allowed; nothing is added then.
    """
    if token is not None and not TOKEN.fullmatch(token):
        raise CommandError("--token: 16 to 128 of the characters A-Z a-z 0-9 _ - are needed.")
    account = Account(
        slug=slug,
        provider=provider,
        app_id=app_id,
        unit=DEFAULT_UNITS.get(provider, "INR") if unit is None else unit,
        time_zone=time_zone,
        phone_region=region,
    )
    try:
        account.full_clean()
    except ValidationError as error:
        raise CommandError(_in_words(error)) from error
    try:
        with transaction.atomic():
            account.save()
            _, token = Endpoint.issue(account, token)
    except IntegrityError as error:
        if Account.objects.filter(slug=slug).exists():  # made by another command just now
            raise CommandError(f"slug: an account {slug} exists already.") from error
        raise CommandError("--token: another webhook URL has this token. Choose another, or leave it out.") from error
    return account, token


def _in_words(error: ValidationError) -> str:
    options = {"app_id": "--app-id", "unit": "--currency", "time_zone": "--time-zone", "phone_region": "--region"}
    return " ".join(
        f"{options.get(field, field)}: {message}"
        for field, messages in error.message_dict.items()
        for message in messages
    )
