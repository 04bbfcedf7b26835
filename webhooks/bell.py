"""Telling Celery that there is work: at most once in a short while, off the request path, and never with an error.

A bell that is not heard costs some seconds: the sweep finds the work in the inbox.
"""

import logging
import os
import threading
import time

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 0.2


class _Bell:
    def __init__(self) -> None:
        self._rung = threading.Event()
        self._ringer_of = 0
        self._lock = threading.Lock()

    def ring(self) -> None:
        with self._lock:
            if self._ringer_of != os.getpid():  # threads do not survive a fork
                self._ringer_of = os.getpid()
                threading.Thread(target=self._run, name="bell", daemon=True).start()
        self._rung.set()

    def _run(self) -> None:
        from webhooks.tasks import drain

        while True:
            self._rung.wait()
            self._rung.clear()
            try:
                drain.delay()
            except Exception as error:  # noqa: BLE001 - whatever the broker's trouble, the sweep makes it good
                logger.warning("the worker could not be told of new deliveries: %s", type(error).__name__)
            time.sleep(PAUSE_SECONDS)


ring = _Bell().ring
