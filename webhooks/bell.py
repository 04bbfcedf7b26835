"""Telling Celery that there is work: at most once in a short while, off the request path, and never with an error.

A bell that is not heard costs some seconds: the sweep finds the work in the inbox.
"""

import logging
import os
import threading
import time

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 0.2
EXPIRES_SECONDS = 10
"""Age at which a ring is thrown away: while no worker runs they pile up, and one sweep does for all of them."""


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

        is_heard = True
        while True:
            self._rung.wait()
            self._rung.clear()
            try:
                drain.apply_async(expires=EXPIRES_SECONDS)
            except Exception as error:  # noqa: BLE001 - whatever the broker's trouble, the sweep makes it good
                if is_heard:
                    logger.warning("workers cannot be told of new deliveries: %s", type(error).__name__)
                is_heard = False
            else:
                if not is_heard:
                    logger.warning("workers can be told of new deliveries again")
                is_heard = True
            time.sleep(PAUSE_SECONDS)


ring = _Bell().ring
