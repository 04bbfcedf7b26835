"""``python -m tests.reliability.state prepare | tell | derive``: what an installation holds, and what it should hold.

Run as a program of its own against the database of DATABASE_URL. ``prepare`` makes the tables and the accounts that it
reads from its input: provider and token by slug. ``tell`` prints the inbox and the call log; ``derive``
puts the deliveries that it reads from its input, as ``tell`` prints them, in an empty inbox with their ids and times,
drains it undisturbed, and prints the same. These two print one JSON object.
"""

import base64
import json
import sys
from datetime import datetime

COLUMNS = ("account_id", "method", "content_type", "remote_address", "size", "digest")


def prepare() -> None:
    """Make the tables, and the accounts of the input."""
    from django.core.management import call_command

    from webhooks.management.commands.add_account import add_account

    call_command("migrate", verbosity=0)
    for slug, (provider, token) in json.load(sys.stdin).items():
        add_account(slug, provider, token=token)


def tell() -> None:
    """Print ``deliveries`` as they came, ``outcomes`` by delivery, and ``calls``: a text for each."""
    from calls.models import Account
    from tests.calls.tables import call_log
    from webhooks.models import Delivery

    deliveries, outcomes = [], {}
    for row in Delivery.objects.order_by("received_at", "id"):
        text = {"query": base64.b64encode(row.query).decode(), "body": base64.b64encode(row.body).decode()}
        known = {name: getattr(row, name) for name in COLUMNS}
        deliveries.append({"id": str(row.pk), "received_at": row.received_at.isoformat(), **text, **known})
        outcomes[str(row.pk)] = f"{row.status} {row.error_class} {row.repeat_of_id} {row.repeats}"
    calls = [f"{account.slug}: {call}" for account in Account.objects.order_by("slug") for call in call_log(account)]
    print(json.dumps({"deliveries": deliveries, "outcomes": outcomes, "calls": calls}))  # noqa: T201


def derive() -> None:
    """Fill the empty inbox from the input, drain it, and print what came of it."""
    from webhooks import processing
    from webhooks.models import Delivery

    Delivery.objects.bulk_create(
        Delivery(
            **row
            | {"received_at": datetime.fromisoformat(row["received_at"])}
            | {name: base64.b64decode(row[name]) for name in ("query", "body")}
        )
        for row in json.load(sys.stdin)
    )
    processing.drain()
    tell()


if __name__ == "__main__":
    import django

    django.setup()
    {"prepare": prepare, "tell": tell, "derive": derive}[sys.argv[1]]()
