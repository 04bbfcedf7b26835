"""``python -m tests.calls.followed prepare | write SEED | follow LIMIT | overtake``: some write calls, others follow.

Run as programs of their own on PostgreSQL, several at once, against the database of DATABASE_URL. Writers work on a few
accounts from several threads; some of their transactions are rolled back, some take long to commit. A follower reads
the feed in small pages until its input ends, and then what is left; it prints what it has read as JSON.
"""

import json
import random
import select
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any
from uuid import UUID, uuid4

from django.core.management import call_command
from django.db import connection, transaction

ACCOUNTS = 4
THREADS = 4
TRANSACTIONS = 25
CALLS = 12
SLOWEST_SECONDS = 0.03
START = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


def prepare() -> None:
    """Make the tables, and the accounts that the others work on."""
    from calls.models import Account

    call_command("migrate", verbosity=0)
    for number in range(ACCOUNTS):
        Account.objects.create(slug=f"account-{number}", provider="piopiy")


def write(seed: str) -> None:
    """Take in reports of calls, corrections, mergers and withdrawals, from several threads at once."""
    with ThreadPoolExecutor(THREADS) as threads:
        for done in [threads.submit(_write, f"{seed}-{number}") for number in range(THREADS)]:
            done.result()


def _write(seed: str) -> None:
    from calls.intake import Arrival, lock_account, take_in
    from calls.models import Account

    chance = random.Random(seed)
    accounts = list(Account.objects.order_by("pk").values_list("pk", flat=True))
    kept: dict[int, list[UUID]] = {account: [] for account in accounts}
    for number in range(TRANSACTIONS):
        account, source = chance.choice(accounts), UUID(int=chance.getrandbits(128))
        with transaction.atomic():
            locked = lock_account(account)
            if kept[account] and chance.random() < 0.15:
                take_in(locked, [], withdrawn=[kept[account].pop()])
            else:
                take_in(locked, [Arrival(source, START + timedelta(seconds=number), [_record(chance, number)])])
                kept[account].append(source)
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(%s)", [chance.choice([0, 0, SLOWEST_SECONDS * chance.random()])])
            if chance.random() < 0.25:
                transaction.set_rollback(True)
    connection.close()


def _record(chance: random.Random, number: int) -> Any:
    """Return a report on one of few calls, which may join two of them."""
    from calls.choices import Direction, Disposition, Label, Role
    from calls.records import Alias, LegCdr

    calls = {chance.randrange(CALLS)} | ({chance.randrange(CALLS)} if chance.random() < 0.1 else set())
    return LegCdr(
        aliases=tuple(sorted(Alias("uuid", f"call-{call}") for call in calls)),
        leg_id=f"leg-{min(calls)}",
        label=Label.A,
        role=Role.CUSTOMER,
        call_direction=Direction.INBOUND,
        disposition=Disposition.ANSWERED,
        started_at=START,
        answered_at=START + timedelta(seconds=5),
        ended_at=START + timedelta(seconds=30),
        talk_seconds=chance.randrange(25),
        hangup_cause=f"cause {number}",
    )


def follow(limit: str) -> None:
    """Keep a copy of all calls by the feed alone; print the changes read and the copy."""
    from calls import changes
    from calls.api import representation
    from calls.models import Account, Change, Conversation

    accounts = list(Account.objects.values_list("pk", flat=True))
    cursor, copy, read = changes.Cursor(), {}, []
    is_over = False
    while True:
        page = changes.read(accounts, changes.Cursor.parse(str(cursor)), int(limit))
        cursor = cursor.after(page)
        read += [(change.account_id, change.pk) for change in page]
        told = {change.conversation for change in page}
        now = {row["id"]: row for row in representation.conversations(Conversation.objects.filter(pk__in=told))}
        for change in page:
            pk = str(change.conversation)
            if change.kind in (Change.Kind.MERGED, Change.Kind.ERASED):
                copy.pop(pk, None)
            elif pk in now:
                copy[pk] = now[pk]
        if not page and is_over:
            break
        is_over = is_over or bool(select.select([sys.stdin], [], [], 0 if page else 0.02)[0])
    print(json.dumps({"read": read, "copy": copy}))  # noqa: T201


def overtake() -> None:
    """Commit a change after one that has a later number, and print what is read before and after."""
    from calls import changes
    from calls.intake import lock_account
    from calls.models import Account, Change

    def write_one(account: int) -> None:
        lock_account(account)
        changes.write(account, [(uuid4(), Change.Kind.UPDATED, "", None)])

    def write_slowly() -> None:
        with transaction.atomic():
            write_one(slow)
            is_written.set()
            may_commit.wait()
        connection.close()

    slow, quick = Account.objects.order_by("pk").values_list("pk", flat=True)[:2]
    is_written, may_commit = Event(), Event()
    cursor = changes.now([slow, quick])
    read = []
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(write_slowly)
        is_written.wait()
        with transaction.atomic():
            write_one(quick)
        for _ in range(2):
            page = changes.read([slow, quick], cursor, 10)
            cursor = cursor.after(page)
            read.append([(change.account_id == slow, change.pk) for change in page])
            may_commit.set()
            done.result()
    print(json.dumps(read))  # noqa: T201


if __name__ == "__main__":
    import django

    django.setup()
    {"prepare": prepare, "write": write, "follow": follow, "overtake": overtake}[sys.argv[1]](*sys.argv[2:])
