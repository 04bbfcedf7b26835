import json
import sys
import time
from datetime import UTC, datetime
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.progress import Progress

from calls.models import Account, Conversation, ConversationRedirect
from webhooks import rebuilding
from webhooks.models import Rebuild

INTERRUPTED = 130
"""Exit status after Ctrl-C, as a shell gives it."""


def iso_time(text: str) -> datetime:
    """Return the time that ``text`` says in ISO 8601; without an offset it is read as UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(f"“{text}” is not a time; write it as 2026-11-21 or 2026-11-21T09:30:00+05:30.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class Command(BaseCommand):
    help = (
        "Derives calls again from the stored deliveries, all of them or some, and prints each field that changes. "
        "Ctrl-C stops after the batch under way; what was applied by then stays, and --undo takes it back."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        scope = parser.add_mutually_exclusive_group()
        scope.add_argument("--account", metavar="SLUG", help="only this account")
        scope.add_argument("--conversation", metavar="UUID", type=UUID, help="only this call")
        scope.add_argument("--all", action="store_true", help="all accounts, as when neither of these is given")
        scope.add_argument("--undo", metavar="ID", type=int, help="put back what this rebuild changed")
        parser.add_argument("--since", metavar="ISO", help="only deliveries received at or after this time")
        parser.add_argument("--until", metavar="ISO", help="only deliveries received before this time")
        parser.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")

    def handle(self, **options) -> None:
        rebuild = _undo(options) if options["undo"] is not None else _rebuild(options)
        with Progress(console=Console(stderr=True)) as progress:
            try:
                self._run(rebuild, progress)
            except KeyboardInterrupt:
                rebuilding.release(rebuild)
                rebuilding.cancel(rebuild)
        rebuild.refresh_from_db()
        fields = 0
        for change in rebuild.changes.iterator():
            fields += len(change.fields)
            for part, field, before, after in change.fields:
                name = f"{part}: {field}" if part and field else part or field
                self.stdout.write(f"{change.conversation_id} {name}: {before} → {after}")
        for source in rebuild.sources.exclude(problem="").iterator():
            self.stderr.write(f"delivery {source.delivery_id}: {source.problem}")
        total = {
            "deliveries": rebuild.deliveries_done,
            "conversations": rebuild.calls_changed,
            "changes": fields,
            "dry_run": rebuild.is_dry_run,
            "rebuild": rebuild.pk,
            "state": rebuild.state,
        }
        self.stdout.write(json.dumps(total))
        if rebuild.state == Rebuild.State.FAILED:
            raise CommandError(f"{rebuild} failed: {rebuild.reason}")
        if rebuild.state == Rebuild.State.CANCELLED:
            sys.exit(INTERRUPTED)

    def _run(self, rebuild: Rebuild, progress: Progress) -> None:
        bar = progress.add_task("waiting for another rebuild", total=None)
        while not rebuilding.claim(rebuild):
            rebuild.refresh_from_db()
            if rebuild.is_finished:  # the worker in the background was there first
                return
            time.sleep(0.2)
        progress.update(bar, description="reading deliveries again")
        for _ in rebuilding.run(rebuild):
            progress.update(bar, total=rebuild.deliveries_total, completed=rebuild.deliveries_done)


def _rebuild(options: dict) -> Rebuild:
    since, until = (iso_time(options[name]) if options[name] else None for name in ("since", "until"))
    account = conversation = None
    if options["account"]:
        account = Account.objects.filter(slug=options["account"]).first()
        if account is None:
            known = ", ".join(Account.objects.values_list("slug", flat=True)) or "none yet"
            raise CommandError(f"There is no account “{options['account']}”. Accounts: {known}.")
    elif options["conversation"]:
        pk = options["conversation"]
        merged = ConversationRedirect.objects.filter(pk=pk).values_list("conversation", flat=True).first()
        conversation = Conversation.objects.filter(pk=merged or pk).select_related("account").first()
        if conversation is None:
            raise CommandError(f"There is no call {pk}.")
        account = conversation.account
    return Rebuild.objects.create(
        account=account, conversation=conversation, since=since, until=until, is_dry_run=options["dry_run"]
    )


def _undo(options: dict) -> Rebuild:
    if options["dry_run"] or options["since"] or options["until"]:
        raise CommandError("--undo puts back all that the rebuild changed: it goes with no other option.")
    rebuild = Rebuild.objects.filter(pk=options["undo"]).first()
    if rebuild is None:
        raise CommandError(f"There is no rebuild {options['undo']}.")
    try:
        return rebuilding.undo(rebuild, None)
    except rebuilding.NotPossible as error:
        raise CommandError(str(error)) from error
