"""Deliveries drained in a second: the drain, and the same adapters with get_or_create for each delivery.

``python -m bench.draining fill | drain | naive``: runs against the database of DATABASE_URL and prints JSON.
"""

import hashlib
import json
import sys
import time

import django

CALLS = 1500
NAIVE_DELIVERIES = 1000
"""How many the slow way is given: its rate does not depend on the number."""


def fill() -> None:
    """Store the deliveries of simulated calls of all providers, repeats and disorder included."""
    from calls.models import Account
    from webhooks.models import Delivery
    from webhooks.simulator.plan import generate_calls

    accounts: dict[str, Account] = {}
    deliveries = []
    for scenario in generate_calls(7, CALLS):
        slug, provider = scenario.account.slug, scenario.account.provider
        if slug not in accounts:
            accounts[slug] = Account.objects.create(slug=slug, provider=provider)
        for request in scenario.requests:
            content = request.body or request.query
            deliveries.append(
                Delivery(
                    account=accounts[slug],
                    received_at=request.at,
                    method=request.method,
                    content_type=request.content_type,
                    query=request.query,
                    body=request.body,
                    size=len(request.body),
                    digest=hashlib.sha256(content).hexdigest(),
                )
            )
    Delivery.objects.bulk_create(deliveries, batch_size=500)


def drain() -> int:
    """Drain it all; return how many that were."""
    from webhooks import processing

    return processing.drain().counts.total()


def naive() -> int:
    """Read each delivery by itself and get or create its rows one by one."""
    from calls.models import Conversation, Event, Leg
    from calls.records import LegCdr, LiveEvent
    from webhooks.models import Delivery
    from webhooks.processing import understand

    deliveries = Delivery.objects.filter(status="pending").select_related("account").order_by("received_at")
    count = 0
    for delivery in deliveries[:NAIVE_DELIVERIES]:
        count += 1
        for record in understand(delivery).records:
            if not isinstance(record, LegCdr | LiveEvent):
                continue
            call, _ = Conversation.objects.get_or_create(
                account=delivery.account,
                external_id=record.conversation_id or record.leg_id,
                defaults={"started_at": delivery.received_at, "last_heard_at": delivery.received_at},
            )
            leg, _ = Leg.objects.get_or_create(
                account=delivery.account, conversation=call, external_id=record.leg_id, label=str(record.label)
            )
            if isinstance(record, LiveEvent):
                Event.objects.get_or_create(
                    account=delivery.account, conversation=call, leg=leg, kind=str(record.kind),
                    leg_external_id=record.leg_id, leg_label=str(record.label), provider_status=record.provider_status,
                    defaults={"occurred_at": record.occurred_at, "received_at": delivery.received_at},
                )  # fmt: skip
            else:
                leg.disposition = record.disposition and str(record.disposition)
                leg.talk_seconds = record.talk_seconds
                leg.save()
        delivery.status = "processed"
        delivery.save(update_fields=["status"])
    return count


if __name__ == "__main__":
    django.setup()
    if sys.argv[1] == "fill":
        fill()
    else:
        began = time.perf_counter()
        done = {"drain": drain, "naive": naive}[sys.argv[1]]()
        print(json.dumps({"deliveries": done, "seconds": time.perf_counter() - began}))
