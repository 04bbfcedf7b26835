import json
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.progress import Progress

from calls.models import Account
from webhooks.importing import import_deliveries, read_lines


class Command(BaseCommand):
    help = (
        "Puts recorded deliveries into the inbox: one JSON object a line, as the API gives a delivery (method, "
        "content_type, query, body, their encodings, received_at, id). Run it again to go on after a stop. Lines that "
        "name another account are left out and counted, so that an export of all accounts is imported once for each. "
        "Lines that cannot be taken are reported and kept in FILE.bad.ndjson. - as the file stands for the standard "
        "input, whose bad lines go to stdin.bad.ndjson in the current directory."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE.ndjson")
        parser.add_argument("--account", required=True, metavar="SLUG", help="into whose inbox")
        parser.add_argument(
            "--from", dest="exported_from", default="", metavar="SLUG",
            help="take the lines that name this account instead, such as one that had another name where it was "
            "exported",
        )  # fmt: skip

    def handle(self, **options) -> None:
        file: Path = options["file"]
        is_stdin = str(file) == "-"
        account = Account.objects.filter(slug=options["account"]).first()
        if account is None:
            known = ", ".join(Account.objects.values_list("slug", flat=True)) or "none yet"
            raise CommandError(f"There is no account “{options['account']}”. Accounts: {known}.")
        counts = {"read": 0, "added": 0, "already": 0, "other": 0, "bad": 0}
        others: Counter[str] = Counter()
        bad = (
            Path("stdin.bad.ndjson") if is_stdin else file.with_name(f"{file.name.removesuffix('.ndjson')}.bad.ndjson")
        )
        try:
            with ExitStack() as stack:
                lines = sys.stdin.buffer if is_stdin else stack.enter_context(file.open("rb"))
                progress = stack.enter_context(Progress(console=Console(stderr=True)))
                bar = progress.add_task(file.name, total=None if is_stdin else file.stat().st_size)
                kept: BinaryIO | None = None
                for batch in import_deliveries(account, read_lines(lines), options["exported_from"]):
                    progress.advance(bar, batch.size)
                    counts["read"] += batch.read
                    counts["added"] += batch.added
                    counts["already"] += batch.already
                    counts["other"] += batch.others.total()
                    counts["bad"] += len(batch.rejected)
                    others += batch.others
                    if batch.rejected and kept is None:
                        kept = stack.enter_context(bad.open("wb"))
                    for line in batch.rejected:
                        kept.write(line.line + b"\n")
                        progress.console.print(
                            f"line {line.number}: {line.reason}", highlight=False, markup=False, soft_wrap=True
                        )
            if others:
                named = ", ".join(f"“{slug}” ({count:,})" for slug, count in others.most_common(10))
                self.stderr.write(f"Lines of other accounts were left out: {named}. --from SLUG takes those of one.")
            if kept:
                self.stderr.write(f"The bad lines are in {bad}.")
        except OSError as error:
            raise CommandError(f"{error.filename or file} cannot be read or written: {error.strerror}.") from error
        self.stdout.write(json.dumps(counts))
