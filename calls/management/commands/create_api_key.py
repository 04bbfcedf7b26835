from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone

from calls import audit
from calls.choices import Scope
from calls.models import Account, ApiKey, AuditEntry
from calls.models.api_key import MOST_CALLS_PER_MINUTE

MOST_DAYS = 3650


class Command(BaseCommand):
    help = "Makes an API key and prints it, alone, on standard output. It cannot be shown again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="whose key it is, such as crm-sync")
        parser.add_argument(
            "--scopes", default="read", help=f"what it may do: some of {','.join(Scope)}; read when left out"
        )
        parser.add_argument("--accounts", help="slugs of the accounts it reads, with commas; all when left out")
        parser.add_argument("--expires-in-days", type=int, help="how long it is good; for ever when left out")
        parser.add_argument(
            "--rate", type=int, help="requests it may make in a minute; what API_RATE_PER_MINUTE says when left out"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        names = [name.strip() for name in options["scopes"].split(",")]
        unknown = [name for name in names if name not in list(Scope)]
        if unknown:
            raise CommandError(f"--scopes: {unknown[0]!r} is no scope. Allowed, with commas: {','.join(Scope)}.")
        name = options["name"].strip()
        try:
            ApiKey(name=name).clean_fields(exclude=["hint", "digest", "scopes"])
            ApiKey(name=name).validate_unique()
        except ValidationError as error:
            raise CommandError(f"name: {' '.join(error.messages)}") from error
        days, rate = options["expires_in_days"], options["rate"]
        if days is not None and not 1 <= days <= MOST_DAYS:
            raise CommandError(f"--expires-in-days: {days} is not possible. Give a whole number from 1 to {MOST_DAYS}.")
        if rate is not None and not 1 <= rate <= MOST_CALLS_PER_MINUTE:
            raise CommandError(
                f"--rate: {rate} is not possible. Give a whole number from 1 to {MOST_CALLS_PER_MINUTE}."
            )
        with transaction.atomic():
            key, text = ApiKey.issue(
                name,
                [Scope(name) for name in names],
                accounts=_accounts(options["accounts"]),
                expires_at=None if days is None else timezone.now() + timedelta(days=days),
                calls_per_minute=rate,
            )
            audit.record(None, AuditEntry.Action.ADD, key, f"API key {key}", command="create_api_key")
        self.stdout.write(text)


def _accounts(text: str | None) -> list[Account]:
    """Return the accounts that are named. Raises ``CommandError`` for one that there is not: fewer would be more."""
    if text is None:
        return []
    slugs = {slug.strip() for slug in text.split(",")}
    found = list(Account.objects.filter(slug__in=slugs))
    missing = sorted(slugs - {account.slug for account in found})
    if missing:
        known = ", ".join(Account.objects.order_by("slug").values_list("slug", flat=True)[:20]) or "none yet"
        raise CommandError(
            f"--accounts: there is no account {missing[0]!r}. Give slugs with commas; there are: {known}."
        )
    return found
