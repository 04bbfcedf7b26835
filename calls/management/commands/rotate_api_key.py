from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from calls import audit
from calls.models import ApiKey, AuditEntry
from calls.models.api_key import LONGEST_OVERLAP_HOURS


class Command(BaseCommand):
    help = (
        "Replaces an API key by a new one and prints that, alone, on standard output. The old one goes on for some "
        "hours, so that the program can change over, and then ends by itself. Scopes, accounts and limit stay; a key "
        "that expires is given as long again as it had."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="whose key it is, such as crm-sync")
        parser.add_argument(
            "--overlap-hours",
            type=int,
            default=24,
            help="how long the old key goes on, 24 when left out; 0: not at all",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        hours = options["overlap_hours"]
        if not 0 <= hours <= LONGEST_OVERLAP_HOURS:
            raise CommandError(
                f"--overlap-hours: {hours} is not possible. Give a whole number from 0 to {LONGEST_OVERLAP_HOURS}."
            )
        key = ApiKey.objects.filter(name=options["name"].strip()).first()
        if key is None:
            known = ", ".join(ApiKey.objects.values_list("name", flat=True)[:20]) or "none yet"
            raise CommandError(f"name: there is no API key {options['name']!r}. There are: {known}.")
        if not key.is_active:
            raise CommandError(f"name: the API key {key} was revoked. Make a new one with create_api_key.")
        with transaction.atomic():
            text = key.rotate(timedelta(hours=hours))
            note = f"Rotated; the former key goes on for {hours} hours"
            audit.record(None, AuditEntry.Action.CHANGE, key, f"API key {key}", command="rotate_api_key", note=note)
        self.stdout.write(text)
