from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from calls.choices import Scope
from calls.models import ApiKey


class Command(BaseCommand):
    help = "Makes an API key and prints it, alone, on standard output. It cannot be shown again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="whose key it is, such as crm-sync")
        parser.add_argument(
            "--scopes", default="read", help=f"what it may do: some of {','.join(Scope)}; read when left out"
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
        _, text = ApiKey.issue(name, [Scope(name) for name in names])
        self.stdout.write(text)
