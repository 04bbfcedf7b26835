import json
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.progress import Progress

from calls.models import Account
from webhooks.importing import import_deliveries


class Command(BaseCommand):
    help = (
        "Puts recorded deliveries into the inbox: one JSON object a line, as the API gives a delivery (method, "
        "content_type, query, body, body_encoding, received_at, id). Run it again to go on after a stop. Lines that "
        "cannot be taken are reported and kept in FILE.bad.ndjson."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE.ndjson")
        parser.add_argument("--account", required=True, metavar="SLUG", help="whose deliveries they are")

    def handle(self, **options) -> None:
        file: Path = options["file"]
        account = Account.objects.filter(slug=options["account"]).first()
        if account is None:
            known = ", ".join(Account.objects.values_list("slug", flat=True)) or "none yet"
            raise CommandError(f"There is no account “{options['account']}”. Accounts: {known}.")
        counts = {"read": 0, "added": 0, "already": 0, "bad": 0}
        rejected: list[bytes] = []
        try:
            with file.open("rb") as lines, Progress(console=Console(stderr=True)) as progress:
                bar = progress.add_task(file.name, total=file.stat().st_size)
                for batch in import_deliveries(account, lines):
                    progress.advance(bar, batch.size)
                    counts["read"] += batch.read
                    counts["added"] += batch.added
                    counts["already"] += batch.already
                    counts["bad"] += len(batch.rejected)
                    rejected += [line.line for line in batch.rejected]
                    for line in batch.rejected:
                        progress.console.print(
                            f"line {line.number}: {line.reason}", highlight=False, markup=False, soft_wrap=True
                        )
            if rejected:
                bad = file.with_name(f"{file.name.removesuffix('.ndjson')}.bad.ndjson")
                bad.write_bytes(b"".join(line + b"\n" for line in rejected))
                self.stderr.write(f"The bad lines are in {bad}.")
        except OSError as error:
            raise CommandError(f"{error.filename or file} cannot be read or written: {error.strerror}.") from error
        self.stdout.write(json.dumps(counts))
