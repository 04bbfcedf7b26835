import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from config.celery import app
from tests.api.factories import a_delivery, a_leg, a_live_conversation, a_reading, an_alert
from tests.servers import postgresql_server, redis_server
from webhooks import inbox


@pytest.fixture
def broker_away() -> Iterator[None]:
    """Celery with a Redis that accepts connections and never answers."""
    with redis_server() as server:
        before, app.conf.broker_url = app.conf.broker_url, server.url
        options, app.conf.broker_transport_options = app.conf.broker_transport_options, {"socket_timeout": 60}
        server.pause()
        try:
            yield
        finally:
            server.resume()
            app.conf.broker_url, app.conf.broker_transport_options = before, options


def test_the_process_answers_without_asking_anything(client: Client, django_assert_num_queries) -> None:
    with django_assert_num_queries(0):
        response = client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


@pytest.mark.django_db(transaction=True)
def test_it_is_ready_when_database_and_broker_answer() -> None:
    assert Client().get("/readyz").json() == {"status": "ready", "failing": [], "oldest_pending_seconds": None}


@pytest.mark.django_db(transaction=True)
def test_it_tells_how_long_the_oldest_delivery_has_waited() -> None:
    a_delivery(status="pending", received_at=timezone.now() - timedelta(seconds=90))
    a_delivery(status="pending", received_at=timezone.now())
    a_delivery(status="processed", received_at=timezone.now() - timedelta(days=1))
    assert Client().get("/readyz").json()["oldest_pending_seconds"] == pytest.approx(90, abs=30)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("broker_away")
def test_it_is_not_ready_while_the_broker_is_frozen_and_says_so_in_time() -> None:
    for _ in range(3):
        start = time.monotonic()
        response = Client().get("/readyz")
        assert time.monotonic() - start < 30  # the broker alone would take two minutes
        assert response.status_code == 503
        assert response.json()["failing"] == ["broker"]


ASK_WHEN_DATABASE_IS_FROZEN = """
import os, time
import django
django.setup()
from django.conf import settings
settings.ALLOWED_HOSTS = ["testserver"]
settings.METRICS = True
settings.DATABASES["default"]["OPTIONS"]["pool"]["timeout"] = 60  # without a limit it would be waited for that long
from django.test import Client
start = time.monotonic()
response = Client().get("/readyz")
print(response.status_code, response.content.decode(), time.monotonic() - start < 30, flush=True)
start = time.monotonic()
told = Client().get("/metrics").content.decode()
print("database_up 0.0" in told and "ringledger_spool_files 0.0" in told, time.monotonic() - start < 30, flush=True)
os._exit(0)  # the frozen check is not waited for
"""


def test_it_is_not_ready_while_the_database_is_frozen_and_says_so_in_time() -> None:
    with postgresql_server() as server:
        server.pause()
        try:
            told = subprocess.run(
                [sys.executable, "-c", ASK_WHEN_DATABASE_IS_FROZEN],
                env=os.environ | {"DATABASE_URL": server.url},
                check=True,
                capture_output=True,
                text=True,
                timeout=180,
            )
        finally:
            server.resume()
    assert told.stdout.split("\n") == [
        '503 {"status": "unavailable", "failing": ["database"], "oldest_pending_seconds": null} True',
        "True True",
        "",
    ]


@pytest.mark.django_db(transaction=True)
def test_metrics_are_there_only_when_switched_on(client: Client, settings) -> None:
    assert client.get("/metrics").status_code == 404
    settings.METRICS = True
    a_delivery(status="pending", received_at=timezone.now() - timedelta(seconds=90))
    a_delivery(status="quarantined")
    a_reading(a_leg(a_live_conversation()))
    an_alert()
    refused_before = inbox.counters["not_found"]
    client.post("/webhooks/piopiy/nobody/", b"{}", content_type="application/json")
    response = client.get("/metrics")
    assert response["Content-Type"].startswith("text/plain")
    lines = response.content.decode().splitlines()
    for line in [
        "ringledger_deliveries_pending 1.0",
        "ringledger_deliveries_quarantined 1.0",
        "ringledger_conversations_live 1.0",
        "ringledger_messages_pending 0.0",
        "ringledger_subscriptions_failing 0.0",
        "ringledger_database_up 1.0",
        'ringledger_deliveries_recent{status="pending"} 1.0',
        'ringledger_deliveries_recent{status="repeat"} 0.0',
        'ringledger_alerts_open{account="delhi-support",kind="low_balance"} 1.0',
        'ringledger_balance{account="delhi-support",unit="INR"} 878.9',
        "ringledger_spool_files 0.0",
        f'ringledger_webhook_answers_total{{kind="not_found"}} {refused_before + 1}.0',
    ]:
        assert line in lines
