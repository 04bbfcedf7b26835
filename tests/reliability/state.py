"""``python -m tests.reliability.state prepare | tell | derive | compare SLUG``: what an installation holds.

Run as a program of its own against the database of DATABASE_URL. ``prepare`` makes the tables and the accounts that it
reads from its input: provider and token by slug. ``tell`` prints the inbox and the call log; ``derive``
puts the deliveries that it reads from its input, as ``tell`` prints them, in an empty inbox with their ids and times,
drains it undisturbed, and prints the same. These two print one JSON object. ``compare`` prints an account's calls
without the moments of our own clock, to be compared with those of another time or account.
"""

import base64
import json
import pprint
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


def compare(slug: str) -> None:
    """Print what the account's call log holds, when and in which order it arrived left aside."""
    from calls.models import Account
    from tests.calls.tables import call_log

    told = _without_arrivals(call_log(Account.objects.get(slug=slug)))
    print(pprint.pformat(told, width=200))  # noqa: T201


def _without_arrivals(value: object) -> object:
    if isinstance(value, dict):
        arrived = value.get("received_at")  # which also stands in for a moment that the provider does not tell
        kept = [key for key in value if key != "last_heard_at" and (arrived is None or value[key] != arrived)]
        return [(key, _without_arrivals(value[key])) for key in sorted(kept)]
    return sorted(map(_without_arrivals, value), key=repr) if isinstance(value, list) else value


if __name__ == "__main__":
    import django

    django.setup()
    {"prepare": prepare, "tell": tell, "derive": derive, "compare": compare}[sys.argv[1]](*sys.argv[2:])
