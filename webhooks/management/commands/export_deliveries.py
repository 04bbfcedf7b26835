import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.progress import Progress, TextColumn

from calls.models import Account
from webhooks.exporting import export
from webhooks.importing import LONGEST_LINE
from webhooks.management.commands.rebuild import iso_time
from webhooks.models import Delivery

BEGINNING = b'{"id":'
"""Of every line that is written here; a file that holds anything else is left alone."""


class Command(BaseCommand):
    help = (
        "Writes stored deliveries as NDJSON, oldest first, one JSON object a line as the API gives a delivery; "
        "import_deliveries reads it. With --file, run it again to go on after a stop: it appends what comes after the "
        "last whole line of the file. Repeats are among the deliveries."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        whose = parser.add_mutually_exclusive_group(required=True)
        whose.add_argument("account", nargs="?", metavar="SLUG", help="whose deliveries")
        whose.add_argument("--all", action="store_true", help="the deliveries of all accounts")
        parser.add_argument("--since", type=iso_time, metavar="ISO", help="received at this time or later")
        parser.add_argument("--until", type=iso_time, metavar="ISO", help="received before this time")
        parser.add_argument("--file", type=Path, metavar="F", help="to this file instead of the standard output")

    def handle(self, **options) -> None:
        chosen = Delivery.objects.all()
        if slug := options["account"]:
            account = Account.objects.filter(slug=slug).first()
            if account is None:
                known = ", ".join(Account.objects.values_list("slug", flat=True)) or "none yet"
                raise CommandError(f"There is no account “{slug}”. Accounts: {known}.")
            chosen = chosen.filter(account=account)
        if options["since"]:
            chosen = chosen.filter(received_at__gte=options["since"])
        if options["until"]:
            chosen = chosen.filter(received_at__lt=options["until"])
        file: Path | None = options["file"]
        try:
            if file is None:
                self._write(chosen, sys.stdout.buffer, None)
                sys.stdout.flush()
            else:
                with file.open("a+b") as output:
                    after = _last_of(output, slug)
                    self._write(chosen, output, after)
                    output.flush()
                    os.fsync(output.fileno())
        except BrokenPipeError:
            # Whoever reads has enough; without this Python complains once more when it closes the pipe.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError as error:
            raise CommandError(f"{error.filename or file} cannot be read or written: {error.strerror}.") from error

    def _write(self, chosen, output: BinaryIO, after: tuple[datetime, UUID] | None) -> None:
        count = 0
        console = Console(stderr=True)
        columns = (TextColumn("{task.completed:,} deliveries, up to {task.fields[reached]}"),)
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task("", total=None, reached="…")
            for lines in export(chosen, after):
                output.writelines(lines)
                count += len(lines)
                progress.update(bar, completed=count, reached=json.loads(lines[-1])["received_at"])


def _last_of(file: BinaryIO, slug: str | None) -> tuple[datetime, UUID] | None:
    """Return the delivery to go on behind, having cut off what a stop left of a line; ``None`` for an empty file."""
    end = file.seek(0, os.SEEK_END)
    tail, length = b"", 64 * 1024
    while tail.count(b"\n") < 2 and len(tail) < min(end, 2 * LONGEST_LINE):
        file.seek(max(0, end - length))
        tail, length = file.read(), 2 * length
    whole, _, rest = tail.rpartition(b"\n")
    last = whole.rpartition(b"\n")[2]
    try:
        if not (last or rest).startswith(BEGINNING[: len(last or rest)]):
            raise ValueError
        line = json.loads(last) if last else {}
        found = (datetime.fromisoformat(line["received_at"]), UUID(line["id"])) if last else None
    except (ValueError, KeyError, TypeError):
        raise CommandError(f"{file.name} does not end with a delivery; it is left as it is.") from None
    if slug and last and line.get("account") != slug:
        raise CommandError(f"{file.name} ends with a delivery of “{line.get('account')}”, not of “{slug}”.")
    file.truncate(end - len(rest))
    file.seek(0, os.SEEK_END)
    return found
