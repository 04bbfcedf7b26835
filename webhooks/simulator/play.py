"""Plays planned requests over HTTP, each at its time."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx

from webhooks.simulator.plan import Request

MOST_AT_ONCE = 16
TIMEOUT_SECONDS = 20
LONGEST_PAUSE_SECONDS = 30


class ServerAway(Exception):
    """The server cannot be connected to."""


@dataclass
class Tally:
    """What was sent so far. ``refusals`` counts the answers other than 200 by status, 0 for none at all."""

    calls: int = 0
    requests: int = 0
    accepted: int = 0
    refusals: Counter[int] = field(default_factory=Counter)

    def __str__(self) -> str:
        return f"{self.calls} calls, {self.requests} requests, {self.accepted} accepted"

    @property
    def summary(self) -> dict[str, int]:
        return {
            "calls": self.calls,
            "requests": self.requests,
            "accepted": self.accepted,
            "failed": self.requests - self.accepted,
        }


async def play(
    requests: Iterable[Request], urls: Mapping[str, str], tally: Tally, *, on_sent: Callable[[], None]
) -> None:
    """Send ``requests``, which come in order of time, to the webhook URL of their account in ``urls``.

    Once nothing but repetitions is left to come, they are sent without waiting for their time. Raises ``ServerAway``
    as soon as no connection can be had; an answer other than 200 is counted.
    """
    calls_before = tally.calls
    slots = asyncio.Semaphore(MOST_AT_ONCE)

    async def send(request: Request) -> None:
        try:
            answer = await client.request(
                request.method,
                httpx.URL(urls[request.account], query=request.query or None),
                content=request.body or None,
                headers={"Content-Type": request.content_type} if request.content_type else {},
            )
            status = answer.status_code
        except httpx.ConnectError as error:
            raise ServerAway(str(error)) from error
        except httpx.TransportError:
            status = 0
        finally:
            slots.release()
        tally.requests += 1
        tally.calls = max(tally.calls, calls_before + request.call)
        if status == httpx.codes.OK:
            tally.accepted += 1
        else:
            tally.refusals[status] += 1
        on_sent()

    limits = httpx.Limits(max_connections=MOST_AT_ONCE)
    try:
        async with (
            httpx.AsyncClient(timeout=TIMEOUT_SECONDS, limits=limits, trust_env=False) as client,
            asyncio.TaskGroup() as tasks,
        ):
            for request, is_waited_for in _with_wait(requests):
                if is_waited_for:
                    await asyncio.sleep((request.at - datetime.now(UTC)).total_seconds())
                await slots.acquire()
                tasks.create_task(send(request))
    except ExceptionGroup as group:
        for error in group.exceptions:
            if isinstance(error, ServerAway):
                raise error from None
        raise


def _with_wait(requests: Iterable[Request]) -> Iterable[tuple[Request, bool]]:
    """Yield each request and whether its time is to be waited for."""
    resends: list[Request] = []
    for request in requests:
        # Held back until it is known that something comes after them.
        if request.is_resend:
            resends.append(request)
            continue
        yield from ((resend, True) for resend in resends)
        resends.clear()
        yield request, True
    yield from ((resend, False) for resend in resends)


async def wait_until_up(url: str) -> None:
    """Return when a server answers at ``url``, with whatever; ask again after pauses that grow."""
    pause = 1.0
    async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False) as client:
        while True:
            try:
                await client.get(f"{url}/healthz")
            except httpx.TransportError:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                return
