"""Server-sent events: the board told to browsers as it changes, without a thread or a database connection for each.

A stream is opened by an ordinary request to Django, with all that guards a page. The view answers it by ``admit``; then
Django is done with it, and it goes on here, on the event loop. The same request is made again every now and then, so
that it ends soon after the viewer was signed out or may no longer see calls.
"""

import asyncio
import logging
import random
import signal
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import FrameType
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse

from calls.live import Board, Viewer

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.2
"""How often it is looked what goes on, once for all streams of a process and not at all when there are none."""
BEAT_SECONDS = 15.0
"""How often a stream that has nothing to tell says that it is alive."""
CHECK_SECONDS = 20.0
"""How often it is asked whether a viewer may still see what they see, on an average; by a tenth more at most."""
MOST_STREAMS = 4
"""Streams of one viewer at a time in one process: browsers open no more than six connections to a server."""
RETRY_MILLISECONDS = 2000
"""After which a browser that has lost its stream opens it again."""

TICKET = "ringledger.ticket"
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]
BEAT = b"event: beat\ndata: {}\n\n"
END = b"event: end\ndata: {}\n\n"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


@dataclass
class Ticket:
    """What the view says of somebody who asks for a stream."""

    owner: str = ""
    viewer: Viewer | None = None
    since: str = ""


def admit(request: HttpRequest, owner: str, viewer: Viewer) -> HttpResponse:
    """Let the request have a stream of what ``viewer`` may see; its ``owner`` may have ``MOST_STREAMS`` of them.

    It goes on after the news whose id the header Last-Event-ID, or the parameter ``since``, names.
    A server that cannot stream answers 501: viewers ask for the state now and then instead.
    """
    ticket = request.scope.get(TICKET) if isinstance(request, ASGIRequest) else None
    if ticket is None:
        return JsonResponse({"detail": "This server sends no streams. Ask for the state instead."}, status=501)
    ticket.owner, ticket.viewer = owner, viewer
    ticket.since = request.headers.get("Last-Event-ID") or request.GET.get("since", "")
    return HttpResponse(status=204)


class Streams:
    """An ASGI application for the addresses whose views call ``admit``."""

    def __init__(
        self,
        django: Application,
        board: Board,
        *,
        beat_seconds: float = BEAT_SECONDS,
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        self._django = django
        self._board = board
        self._beat_seconds = beat_seconds
        self._check_seconds = check_seconds
        self._owners: Counter[str] = Counter()
        self._thread = ThreadPoolExecutor(1, "live")
        self._looking: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._is_ending = False
        self._knows_when_to_end = False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        ticket, answer = await self._ask(scope)
        if ticket.viewer is None:
            for message in answer:
                await send(message)
            return
        if self._owners[ticket.owner] >= MOST_STREAMS:
            await _refuse(send)
            return
        self._owners[ticket.owner] += 1
        self._end_with_the_server()
        stream = asyncio.create_task(self._stream(scope, send, ticket.viewer, ticket.since))
        left = asyncio.create_task(_until_left(receive))
        try:
            await asyncio.wait({stream, left}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._owners[ticket.owner] -= 1
            self._owners += Counter()  # drops those at zero
            for task in (stream, left):
                task.cancel()
            await asyncio.gather(stream, left, return_exceptions=True)

    async def _ask(self, scope: Message) -> tuple[Ticket, list[Message]]:
        """Make the request to Django, and return what the view says and what Django answers."""
        ticket = Ticket()
        answer: list[Message] = []
        body: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Message:
            return body.pop() if body else await asyncio.Future()

        async def send(message: Message) -> None:
            answer.append(message)

        await self._django({**scope, TICKET: ticket}, receive, send)
        return ticket, answer

    async def _stream(self, scope: Message, send: Send, viewer: Viewer, since: str) -> None:
        """Tell ``viewer`` what is new, until they may see it no longer."""
        loop = asyncio.get_running_loop()
        check_at = loop.time() + self._next_check()
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await _write(send, f"retry: {RETRY_MILLISECONDS}\n\n".encode())
        await self._first_look()
        while not self._is_ending:
            changed = self._changed
            if news := self._board.news(viewer, since):
                since = news.id
                await _write(send, f"id: {news.id}\ndata: {news.data}\n\n".encode())
            elif not await _happens(changed, min(self._beat_seconds, check_at - loop.time())):
                await _write(send, BEAT)
            if loop.time() < check_at:
                continue
            ticket, answer = await self._ask(scope)
            check_at = loop.time() + self._next_check()
            if ticket.viewer is not None and ticket.viewer != viewer:
                viewer, since = ticket.viewer, ""
            elif ticket.viewer is None and answer[0]["status"] < 500:  # not when Django itself is in trouble
                await _write(send, END)
                break
        await _write(send, b"", is_last=True)

    def _next_check(self) -> float:
        return self._check_seconds * random.uniform(0.9, 1.1)  # noqa: S311 - so that they do not all fall together

    def _end_with_the_server(self) -> None:
        """Let streams end when the server is told to stop: uvicorn waits for them, and tells applications nothing."""
        stop = signal.getsignal(signal.SIGTERM)
        if self._knows_when_to_end or not callable(stop) or threading.current_thread() is not threading.main_thread():
            return
        self._knows_when_to_end = True
        loop = asyncio.get_running_loop()

        def end(number: int, frame: FrameType | None) -> None:
            self._is_ending = True
            loop.call_soon_threadsafe(lambda: self._changed.set())
            stop(number, frame)

        signal.signal(signal.SIGTERM, end)

    async def _first_look(self) -> None:
        """Have the board looked at as long as there are streams, and wait until it has been."""
        loop = asyncio.get_running_loop()
        if self._looking is None or self._looking.done():
            await loop.run_in_executor(self._thread, self._look)
            if self._looking is None or self._looking.done():
                self._looking = loop.create_task(self._keep_looking())

    async def _keep_looking(self) -> None:
        loop = asyncio.get_running_loop()
        while self._owners:
            await asyncio.sleep(LOOK_SECONDS)
            if await loop.run_in_executor(self._thread, self._look):
                changed, self._changed = self._changed, asyncio.Event()
                changed.set()

    def _look(self) -> bool:
        try:
            return self._board.look()
        except Exception:  # streams must not fall silent for good because of one look
            logger.exception("the live board could not be looked at")
            return False
        finally:
            connection.close()


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _happens(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), max(seconds, 0))
    except TimeoutError:
        return False
    return True


async def _write(send: Send, text: bytes, *, is_last: bool = False) -> None:
    await send({"type": "http.response.body", "body": text, "more_body": not is_last})


async def _refuse(send: Send) -> None:
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 429, "headers": headers})
    text = f'{{"detail": "You watch in {MOST_STREAMS} places already. Ask for the state instead."}}'
    await _write(send, text.encode(), is_last=True)
