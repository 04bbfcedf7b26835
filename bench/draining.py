"""Deliveries drained in a second: the drain, and the same adapters with get_or_create for each delivery.

``python -m bench.draining fill | drain | phases | naive``: runs against the database of DATABASE_URL and prints JSON.
"""

import hashlib
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable

import django

from bench.figures import Bench, Figure, compare

CALLS = 1500
NAIVE_DELIVERIES = 1000
"""How many the slow way is given: its rate does not depend on the number."""


def fill(seed: int = 7, calls: int = CALLS) -> None:
    """Store the deliveries of simulated calls of all providers, repeats and disorder included."""
    from calls.models import Account
    from webhooks.models import Delivery
    from webhooks.simulator.plan import generate_calls

    accounts: dict[str, Account] = {}
    deliveries = []
    for scenario in generate_calls(seed, calls):
        slug, provider = scenario.account.slug, scenario.account.provider
        if slug not in accounts:
            accounts[slug], _ = Account.objects.get_or_create(slug=slug, defaults={"provider": provider})
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


def phases() -> dict[str, float]:
    """Drain it all; return the microseconds that each part of it takes per delivery, the database's included."""
    from calls import intake, ledger
    from webhooks import processing

    seconds: Counter[str] = Counter()

    def timed(module: object, name: str) -> None:
        function: Callable = getattr(module, name)

        def run(*arguments, **options):
            began = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                seconds[name] += time.perf_counter() - began

        setattr(module, name, run)

    for name in ("_claim", "_copies", "understand", "take_in"):
        timed(processing, name)
    for name in ("_gather", "summarize", "_write"):
        timed(intake, name)
    timed(ledger, "settle")
    began = time.perf_counter()
    done = drain()
    seconds["all"] = time.perf_counter() - began
    return {name: round(total / done * 1e6, 1) for name, total in seconds.items()}


def drained(bench: Bench) -> Figure:
    """Return how many are drained in a second, against reading each delivery by itself."""

    def run(how: str) -> dict[str, float]:
        database = bench.database("draining")
        database.python("-m", "bench.draining", "fill")
        database.settle()
        return json.loads(database.python("-m", "bench.draining", how))

    def per_second(how: str) -> float:
        done = run(how)
        return done["deliveries"] / done["seconds"]

    return compare(
        "drained ÷ get_or_create for each delivery",
        lambda: per_second("drain"),
        lambda: per_second("naive"),
        at_least=40,
        details={"us_per_delivery": run("phases"), "client_cpu_us_per_delivery": run("drain")["cpu_us"]},
    )


FIGURES = {"drain": drained}


def main() -> None:
    how = sys.argv[1]
    if how == "fill":
        fill()
    elif how == "phases":
        print(json.dumps(phases()))
    else:
        began, cpu = time.perf_counter(), _cpu_seconds()
        done = {"drain": drain, "naive": naive}[how]()
        seconds, cpu = time.perf_counter() - began, _cpu_seconds() - cpu
        print(json.dumps({"deliveries": done, "seconds": seconds, "cpu_us": cpu / done * 1e6}))


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    django.setup()
    main()
