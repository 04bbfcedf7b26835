"""Sends the requests of a run over HTTP, each at its time."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx

from webhooks.simulator.scenario import Request

MOST_IN_FLIGHT = 16
TIMEOUT_SECONDS = 10
STOP_SECONDS = 3
"""How long requests in flight may take once the run is to stop."""
LONGEST_PAUSE_SECONDS = 10
LATEST_SECONDS = 30
"""In an endless run a request overdue by more is given up: providers too lose what a server misses while away."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class ServerAway(Exception):
    """The server takes no connection."""


@dataclass
class Summary:
    """What a run has done. ``calls`` counts those of which something was sent; ``failed`` includes requests given up."""

    calls: int = 0
    requests: int = 0
    accepted: int = 0
    failed: int = 0


class Player:
    """Plays one run. ``summary`` is up to date at any time; ``first_failure`` says what went wrong first, if anything.

    ``paths`` gives each account's webhook path; ``is_endless`` has the run wait for a server that is away, where
    otherwise ``ServerAway`` ends it; ``said`` is called with lines worth reading, ``moved`` after each request.
    """

    def __init__(
        self,
        url: str,
        paths: Mapping[str, str],
        *,
        is_endless: bool,
        said: Callable[[str], None],
        moved: Callable[[Summary], None],
    ) -> None:
        self.summary = Summary()
        self.first_failure = ""
        self.was_stopped = False
        self._url = url
        self._paths = paths
        self._is_endless = is_endless
        self._said = said
        self._moved = moved
        self._refusals = 0
        """How many connections in a row were refused."""

    async def play(self, requests: Iterable[Request]) -> None:
        """Send ``requests`` until there are no more; SIGINT and SIGTERM stop it. Raises ``ServerAway``."""
        self._stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._ask_to_stop)
        try:
            # A proxy of the environment would be asked for 127.0.0.1 too.
            async with httpx.AsyncClient(base_url=self._url, timeout=TIMEOUT_SECONDS, trust_env=False) as client:
                await self._play(client, requests)
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)
        if self._refusals and not self._is_endless and not self.was_stopped:
            raise ServerAway

    def _ask_to_stop(self) -> None:
        self.was_stopped = True
        self._stop.set()

    async def _play(self, client: httpx.AsyncClient, requests: Iterable[Request]) -> None:
        in_flight: set[asyncio.Task[None]] = set()
        stop = asyncio.create_task(self._stop.wait())
        for request in requests:
            seconds = (request.at - datetime.now(UTC)).total_seconds()
            if self._is_endless and seconds < -LATEST_SECONDS:
                self._fail("the server was away for a while")
                continue
            if seconds > 0:
                await self._pause(seconds)
            if self._refusals:
                await self._pause(min(2**self._refusals, LONGEST_PAUSE_SECONDS))
            while len(in_flight) >= MOST_IN_FLIGHT and not stop.done():
                _, in_flight = await asyncio.wait({*in_flight, stop}, return_when=asyncio.FIRST_COMPLETED)
                in_flight.discard(stop)
            if self._stop.is_set():
                break
            in_flight.add(asyncio.create_task(self._send(client, request)))
        stop.cancel()
        if in_flight:
            _, late = await asyncio.wait(in_flight, timeout=STOP_SECONDS if self._stop.is_set() else None)
            for task in late:
                task.cancel()

    async def _pause(self, seconds: float) -> None:
        """Wait, but not beyond the order to stop."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _send(self, client: httpx.AsyncClient, request: Request) -> None:
        self.summary.calls = max(self.summary.calls, request.call + 1)
        self.summary.requests += 1
        try:
            answer = await client.request(
                request.method,
                self._paths[request.account] + (f"?{request.query.decode()}" if request.query else ""),
                content=request.body or None,
                headers={"Content-Type": request.content_type} if request.content_type else None,
            )
        except (httpx.ConnectError, httpx.ConnectTimeout):
            self._fail("the server takes no connection")
            self._refused()
        except httpx.HTTPError as error:
            self._fail(f"account {request.account}: no answer ({type(error).__name__})")
        else:
            self._connected()
            if answer.status_code == httpx.codes.OK:
                self.summary.accepted += 1
            else:
                self._fail(f"account {request.account}: the server answers {answer.status_code}")
        self._moved(self.summary)

    def _fail(self, reason: str) -> None:
        self.summary.failed += 1
        self.first_failure = self.first_failure or reason

    def _refused(self) -> None:
        self._refusals += 1
        if not self._is_endless:
            self._stop.set()
        elif self._refusals == 1:
            self._said(f"The server at {self._url} takes no connection; trying again.")

    def _connected(self) -> None:
        if self._refusals:
            self._refusals = 0
            self._said(f"The server at {self._url} is back.")
