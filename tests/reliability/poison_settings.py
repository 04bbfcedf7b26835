"""Settings of workers whose PIOPIY adapter does what a payload's ``poison`` says, and else reads it as always."""

import os
import signal
import time
from datetime import timedelta

from celery.signals import worker_init

from config.settings import *  # noqa: F403
from webhooks.providers import PROVIDERS, piopiy


def _parse(payload, *, received_at, account):
    match payload.get("poison"):
        case "raise":
            raise RuntimeError("a fault of the adapter")
        case "sleep":
            time.sleep(300)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang up":
            from django.db import connection

            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    return piopiy.parse(payload, received_at=received_at, account=account)


PROVIDERS["piopiy"] = PROVIDERS["piopiy"]._replace(parse=_parse)


@worker_init.connect
def _shorten_leases(**_: object) -> None:
    """Have the short form wait less for what a dead worker had claimed."""
    from webhooks import processing

    if os.environ.get("RELIABILITY") != "long":
        processing.LEASE = timedelta(seconds=8)
