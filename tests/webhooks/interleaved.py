"""``python -m tests.webhooks.interleaved fill | log``: an inbox full of calls told piece by piece, all mixed up.

Run as a program of its own, against the database of DATABASE_URL, beside the workers that drain it.
"""

import hashlib
import json
import random
import sys
from datetime import UTC, datetime, timedelta

CALLS = 150
START = datetime(2026, 11, 2, 12, tzinfo=UTC)


def fill() -> None:
    """Store the deliveries of outbound two-leg calls of two accounts, with repeats, out of order."""
    from calls.models import Account
    from webhooks.models import Delivery

    chance = random.Random(7)
    accounts = [Account.objects.create(slug=slug, provider="piopiy") for slug in ("one", "two")]
    deliveries = []
    for number in range(CALLS):
        for payload in _payloads(number):
            body = json.dumps(payload).encode()
            for _ in range(chance.choice([1, 1, 1, 4])):
                deliveries.append(
                    Delivery(
                        account=accounts[number % 2],
                        received_at=START + timedelta(milliseconds=chance.randrange(600_000)),
                        method="POST",
                        body=body,
                        size=len(body),
                        digest=hashlib.sha256(body).hexdigest(),
                    )
                )
    chance.shuffle(deliveries)
    Delivery.objects.bulk_create(deliveries)


def log() -> None:
    """Print a digest of the call log and how many deliveries have which status."""
    from django.db.models import Count

    from calls.models import Account
    from tests.calls.tables import call_log
    from webhooks.models import Delivery

    tables = [call_log(account) for account in Account.objects.order_by("slug")]
    statuses = Delivery.objects.order_by("status").values_list("status").annotate(Count("pk"))
    print(hashlib.sha256(repr(tables).encode()).hexdigest(), sum(map(len, tables)), list(statuses))  # noqa: T201


def _payloads(number: int) -> list[dict]:
    start = 1793620000 + number
    legs = {"a": f"leg-a-{number}", "b": f"leg-b-{number}"}
    payloads = []
    for label, leg in legs.items():
        common = {
            "appid": 2222222, "conversation_uuid": f"call-{number}", "request_id": f"request-{number}", "cmiuuid": leg,
            "leg": label, "direction": "outbound", "from": 918000000000, "to": 919000000000 + number % 40,
            "time": start * 1000,
        }  # fmt: skip
        payloads += [common | {"status": word} for word in ("out_started", "out_answered", "out_hangup")]
        payloads.append(
            common
            | {
                "status": "answered",
                "start_time": start,
                "answer_time": start + 5,
                "end_time": start + 30,
                "duration": 25,
            }
            | {"call_rate": "0.450000", "balance": f"{10_000 - number}.5"}
        )
    return payloads


if __name__ == "__main__":
    import django

    django.setup()
    {"fill": fill, "log": log}[sys.argv[1]]()
