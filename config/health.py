"""Whether the server is well: for load balancers, supervisors and Prometheus."""

import logging
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from calls import ledger
from calls.choices import State
from calls.counting import CAP, count_up_to_cap
from calls.models import Account, Alert, Conversation, Message, Subscription
from config.celery import app
from webhooks import inbox, spool
from webhooks.models import Delivery

log = logging.getLogger(__name__)

LONGEST_CHECK_SECONDS = 2.0


def healthz(request: HttpRequest) -> HttpResponse:
    """Answer that the process answers."""
    return JsonResponse({"status": "ok"})


def readyz(request: HttpRequest) -> HttpResponse:
    """Answer 200 when database and broker answer, else 503 with the names of those that do not, within 2 s.

    ``oldest_pending_seconds`` is the age of the oldest delivery not yet processed; null when there is none.
    """
    checks = {name: checker.submit(_CHECKS[name]) for name, checker in _checkers.items()}
    deadline = time.monotonic() + LONGEST_CHECK_SECONDS
    failing = [name for name, check in checks.items() if not _is_well(name, check, deadline)]
    oldest = None if "database" in failing else checks["database"].result()
    return JsonResponse(
        {"status": "unavailable" if failing else "ready", "failing": failing, "oldest_pending_seconds": oldest},
        status=503 if failing else 200,
    )


def metrics(request: HttpRequest) -> HttpResponse:
    """Answer with figures for Prometheus; 404 unless METRICS is set.

    All but the answers to webhooks are read when asked for, so that every process tells the same.
    """
    if not settings.METRICS:
        raise Http404
    registry = CollectorRegistry()
    registry.register(_Figures())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class _Figures:
    """Collects the figures of the moment; while the database is away, those that do without it."""

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "ringledger_spool_files",
            "Files of deliveries that came while the database was away and are not in the inbox yet.",
            len(spool.waiting_files()),
        )
        answers = CounterMetricFamily(
            "ringledger_webhook_answers",
            "Answers to webhooks by kind, of this process since it started.",
            labels=["kind"],
        )
        for kind, count in inbox.counters.items():
            answers.add_metric([kind], count)
        yield answers
        check = _checkers["database"].submit(_ask_figures)
        is_up = _is_well("database", check, time.monotonic() + LONGEST_CHECK_SECONDS)
        yield GaugeMetricFamily("ringledger_database_up", "Whether the database gave its figures in time.", is_up)
        if is_up:
            yield from check.result()


def _ask_figures() -> list[Metric]:
    try:
        return list(_database_figures())
    finally:
        connection.close()  # this thread's own


def _database_figures() -> Iterator[Metric]:
    most = f"any number above {CAP} is told as {CAP + 1}"  # counting them all would take ever longer
    pending = Delivery.objects.filter(status=Delivery.Status.PENDING)
    yield GaugeMetricFamily(
        "ringledger_deliveries_pending", f"Deliveries not yet processed; {most}.", count_up_to_cap(pending)
    )
    yield GaugeMetricFamily(
        "ringledger_deliveries_oldest_pending_seconds",
        "Age of the oldest delivery not yet processed; 0 when there is none.",
        _oldest_pending_seconds() or 0,
    )
    quarantined = Delivery.objects.filter(status=Delivery.Status.QUARANTINED)
    yield GaugeMetricFamily(
        "ringledger_deliveries_quarantined",
        f"Deliveries that could not be understood; {most}.",
        count_up_to_cap(quarantined),
    )
    recent = GaugeMetricFamily(
        "ringledger_deliveries_recent", "Deliveries received in the last five minutes, by status.", labels=["status"]
    )
    received = Delivery.objects.filter(received_at__gte=timezone.now() - timedelta(minutes=5)).order_by()
    counts = dict(received.values_list("status").annotate(Count("pk")))
    for status in Delivery.Status.values:
        recent.add_metric([status], counts.get(status, 0))
    yield recent
    live = Conversation.objects.filter(state=State.LIVE)
    yield GaugeMetricFamily("ringledger_conversations_live", f"Calls going on now; {most}.", count_up_to_cap(live))

    alerts = GaugeMetricFamily("ringledger_alerts_open", "Open alerts.", labels=["account", "kind"])
    opened = Alert.objects.filter(cleared_at=None).order_by().values_list("account__slug", "kind")
    for slug, kind, count in opened.annotate(Count("pk")):
        alerts.add_metric([slug, kind], count)
    yield alerts

    waiting = Message.objects.filter(state=Message.State.PENDING)
    yield GaugeMetricFamily(
        "ringledger_messages_pending", f"Messages to subscriptions not yet delivered; {most}.", count_up_to_cap(waiting)
    )
    yield GaugeMetricFamily(
        "ringledger_subscriptions_failing",
        "Subscriptions whose last attempt failed, and those disabled for it.",
        Subscription.objects.exclude(failing_since=None).count(),
    )

    balances = GaugeMetricFamily("ringledger_balance", "Latest balance.", labels=["account", "unit"])
    for account in Account.objects.all():
        reading = ledger.current(account)
        if reading is not None:
            balances.add_metric([account.slug, account.unit], float(reading.balance))
    yield balances


def _oldest_pending_seconds() -> float | None:
    pending = Delivery.objects.filter(status=Delivery.Status.PENDING).order_by("received_at", "id")
    oldest = pending.values_list("received_at", flat=True).first()
    return None if oldest is None else round((timezone.now() - oldest).total_seconds(), 3)


def _ask_database() -> float | None:
    try:
        return _oldest_pending_seconds()
    finally:
        connection.close()  # this thread's own


def _ask_broker() -> None:
    with app.connection_for_write() as broker:
        broker.connect()


# In threads, because neither a frozen database nor a frozen broker can be asked with a limit that always holds; each
# in threads of its own, so that one that hangs does not hold up the other's check.
_CHECKS = {"database": _ask_database, "broker": _ask_broker}
_checkers = {name: ThreadPoolExecutor(max_workers=2, thread_name_prefix=f"ask-{name}") for name in _CHECKS}


def _is_well(name: str, check: Future[Any], deadline: float) -> bool:
    try:
        check.result(timeout=max(0.0, deadline - time.monotonic()))
    except Exception as error:  # noqa: BLE001 - whatever keeps it from answering is what is asked about
        check.cancel()
        log.warning("not ready: %s (%s)", name, type(error).__name__)
        return False
    return True
