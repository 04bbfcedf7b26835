"""A limit to how long reading one delivery may take."""

import functools
import signal
import threading
from types import FrameType

from webhooks.errors import DeliveryError


class TooSlow(DeliveryError):
    """Reading the delivery took longer than any may: an adapter that hangs, or that a payload makes very slow."""


class TimeLimit:
    """A block in which ``TooSlow`` is raised after ``seconds``, and again until it ends.

    Only in the main thread, where workers and commands read deliveries: no other thread can be interrupted, and there
    the block has no limit. Written out as a class because a generator would cost three times as much per delivery.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._applies = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> None:
        if self._applies:
            _install()
            signal.setitimer(signal.ITIMER_REAL, self._seconds, self._seconds)

    def __exit__(self, *error: object) -> None:
        if self._applies:
            signal.setitimer(signal.ITIMER_REAL, 0)


@functools.cache
def _install() -> None:
    signal.signal(signal.SIGALRM, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    seconds = signal.getitimer(signal.ITIMER_REAL)[1]
    raise TooSlow(f"Reading it took longer than {seconds:g} seconds and was stopped.")
