import json
from datetime import UTC, datetime

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.progress import Progress

from calls.models import Account
from webhooks.rebuilding import deliveries_to_rebuild, rebuild


def iso_time(text: str) -> datetime:
    """Return the time that ``text`` says in ISO 8601; without an offset it is read as UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(f"“{text}” is not a time; write it as 2026-11-21 or 2026-11-21T09:30:00+05:30.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class Command(BaseCommand):
    help = "Derives calls again from the stored deliveries and prints each field that changes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--account", metavar="SLUG", help="only this account")
        parser.add_argument("--since", metavar="ISO", help="only deliveries received at or after this time")
        parser.add_argument("--until", metavar="ISO", help="only deliveries received before this time")
        parser.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")

    def handle(self, **options) -> None:
        since, until = (iso_time(options[name]) if options[name] else None for name in ("since", "until"))
        accounts = Account.objects.all()
        if options["account"]:
            accounts = accounts.filter(slug=options["account"])
            if not accounts:
                known = ", ".join(Account.objects.values_list("slug", flat=True)) or "none yet"
                raise CommandError(f"There is no account “{options['account']}”. Accounts: {known}.")
        total = {"deliveries": 0, "conversations": 0, "changes": 0, "dry_run": options["dry_run"]}
        changed = set()
        with Progress(console=Console(stderr=True)) as progress:
            for account in accounts:
                count = deliveries_to_rebuild(account, since, until).count()
                bar = progress.add_task(account.slug, total=count)
                for step in rebuild(account, since=since, until=until, dry_run=options["dry_run"]):
                    progress.advance(bar, step.deliveries)
                    total["deliveries"] += step.deliveries
                    total["changes"] += len(step.changes)
                    changed |= {change.conversation_id for change in step.changes}
                    for change in step.changes:
                        self.stdout.write(f"{change.conversation_id} {change.field}: {change.before} → {change.after}")
        total["conversations"] = len(changed)
        self.stdout.write(json.dumps(total))
