import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from calls.models import Account
from webhooks import pulling
from webhooks.management.commands.rebuild import iso_time
from webhooks.pulling import Window


class Command(BaseCommand):
    help = "Reads the providers' own lists of calls, which say what each call cost, into the inbox."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--account", metavar="SLUG", help="only this account; all with an API secret when left out")
        parser.add_argument(
            "--since",
            type=iso_time,
            metavar="ISO",
            help="read from then on, such as 2026-11-01 (UTC), not from the last",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        slug, since, now = options["account"], options["since"], timezone.now()
        if since and since > now:
            raise CommandError(f"--since: {since.isoformat()} is not past.")
        accounts = Account.objects.filter(slug=slug) if slug else Account.objects.filter(is_active=True)
        chosen = [account for account in accounts if pulling.can_pull(account)]
        if not chosen:
            which = f"“{slug}” is no account with" if slug else "No account has"
            raise CommandError(
                f"{which} an API secret at a provider that lists its calls. Set it on the account's page."
            )
        failed = []
        for account in chosen:
            pulled = pulling.pull(account, now, since=since, report=self._say)
            answer = {"account": account.slug, **pulled._asdict()}
            self.stdout.write(json.dumps(answer))
            failed += [account.slug] if pulled.error else []
        if failed:
            raise CommandError(f"Not read to the end: {', '.join(failed)}.")

    def _say(self, window: Window, stored: int) -> None:
        self.stderr.write(f"read up to {window.end:%Y-%m-%d %H:%M} UTC: {stored} new page{'' if stored == 1 else 's'}")
