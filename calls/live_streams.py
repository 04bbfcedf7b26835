"""Server-sent events: what is new told as it comes, without a thread or a database connection for each who listens.

A stream is opened by an ordinary request to Django, with all that guards a page. The view answers it by ``admit``; then
Django is done with it, and it goes on here, on the event loop. It is asked again every now and then whether its viewer
may still see what they see, so that it ends soon after they were signed out or their key was revoked.
"""

import asyncio
import json
import logging
import random
import signal
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol, TypeVar

from django.core.handlers.asgi import ASGIRequest
from django.db import Error, connection
from django.http import HttpRequest, HttpResponse, JsonResponse

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.2
"""How often it is looked what goes on, once for all streams of a process and not at all when there are none."""
BEAT_SECONDS = 15.0
"""How often a stream that has nothing to tell says that it is alive."""
CHECK_SECONDS = 20.0
"""How often it is asked whether a viewer may still see what they see, on an average; by a tenth more at most."""
MOST_STREAMS = 4
"""Streams of one viewer at a time in one process: browsers open no more than six connections to a server."""
SLOW_SECONDS = 30.0
"""A viewer who takes in nothing of what is sent for as long is cut off; they go on later from where they were."""
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
T = TypeVar("T")


class News(Protocol):
    """What a viewer is to be told: server-sent events, or none, and from where to go on."""

    @property
    def id(self) -> Any: ...

    @property
    def text(self) -> bytes: ...


class Source(Protocol):
    """Where news come from. ``look`` is called in a thread, one at a time; everything else on the event loop."""

    def look(self) -> bool:
        """Look what is new, and return whether anything is."""

    def news(self, viewer: Any, since: Any) -> News | Callable[[], News] | None:
        """Return what is new since the news with this id; ``None``: nothing; or what reads it, for a thread to call."""

    def anew(self, since: Any) -> Any:
        """Return from where to go on for a viewer who may see more, or less, than before."""


@dataclass
class Ticket:
    """What the view says of somebody who asks for a stream."""

    owner: str = ""
    viewer: Any = None
    since: Any = ""
    renew: Callable[[], Any] | None = None
    """Returns, in a thread, what the viewer may see by now, or ``None``. Without it the request is made again."""


def ticket_of(request: HttpRequest) -> Ticket | None:
    """Return what is to be filled in to have a stream; ``None`` when this server sends none."""
    return request.scope.get(TICKET) if isinstance(request, ASGIRequest) else None


def admit(request: HttpRequest, owner: str, viewer: Any) -> HttpResponse:
    """Let the request have a stream of what ``viewer`` may see.

    It goes on after the news whose id the header Last-Event-ID, or the parameter ``since``, names.
    A server that cannot stream answers 501: viewers ask for the state now and then instead.
    """
    ticket = ticket_of(request)
    if ticket is None:
        return JsonResponse({"detail": "This server sends no streams. Ask for the state instead."}, status=501)
    ticket.owner, ticket.viewer = owner, viewer
    ticket.since = request.headers.get("Last-Event-ID") or request.GET.get("since", "")
    return HttpResponse(status=204)


class Streams:
    """An ASGI application for the addresses whose views fill in a ticket. An owner may have ``most`` at a time."""

    def __init__(
        self,
        django: Application,
        source: Source,
        *,
        most: int = MOST_STREAMS,
        beat_seconds: float = BEAT_SECONDS,
        check_seconds: float = CHECK_SECONDS,
        slow_seconds: float = SLOW_SECONDS,
    ) -> None:
        self._django = django
        self._source = source
        self._most = most
        self._beat_seconds = beat_seconds
        self._check_seconds = check_seconds
        self._slow_seconds = slow_seconds
        self._owners: Counter[str] = Counter()
        # One looks, while the other reads for those who are behind and asks who may still listen.
        self._threads = ThreadPoolExecutor(2, "live")
        self._looking: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._is_ending = False
        self._is_away = False
        self._knows_when_to_end = False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        ticket, answer = await self._ask(scope)
        if ticket.viewer is None:
            for message in answer:
                await send(message)
            return
        if self._owners[ticket.owner] >= self._most:
            await _refuse(send, self._most)
            return
        self._owners[ticket.owner] += 1
        self._end_with_the_server()
        stream = asyncio.create_task(self._stream(scope, send, ticket, answer[0]["headers"]))
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

    async def _stream(self, scope: Message, send: Send, ticket: Ticket, headers: list[tuple[bytes, bytes]]) -> None:
        """Tell the viewer what is new, until they may see it no longer. ``headers`` are those of Django's answer."""
        loop = asyncio.get_running_loop()
        viewer, since = ticket.viewer, ticket.since
        check_at = loop.time() + self._next_check()
        own = dict(HEADERS).keys() | {b"content-length"}
        kept = [(name, value) for name, value in headers if name.lower() not in own]
        await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, *kept]})
        await self._write(send, f"retry: {RETRY_MILLISECONDS}\n\n".encode())
        await self._first_look()
        while not self._is_ending:
            changed = self._changed
            if news := await self._news(viewer, since):
                since = news.id
                if news.text:
                    await self._write(send, news.text)
            elif not await _happens(changed, min(self._beat_seconds, check_at - loop.time())):
                await self._write(send, BEAT)
            if loop.time() < check_at:
                continue
            seen = await self._renewed(scope, ticket, viewer)
            check_at = loop.time() + self._next_check()
            if seen is None:
                await self._write(send, END)
                break
            if seen != viewer:
                viewer, since = seen, self._source.anew(since)
        await self._write(send, b"", is_last=True)

    async def _news(self, viewer: Any, since: Any) -> News | None:
        news = self._source.news(viewer, since)
        if not callable(news):
            return news
        try:
            return await self._in_thread(news)
        except Error:  # the database is away: the stream waits until it is back
            return None

    async def _renewed(self, scope: Message, ticket: Ticket, viewer: Any) -> Any:
        """Return what the viewer may see by now, ``None``: nothing any more."""
        if ticket.renew:
            try:
                return await self._in_thread(ticket.renew)
            except Error:
                return viewer
        again, answer = await self._ask(scope)
        if again.viewer is None and answer[0]["status"] >= 500:  # Django itself is in trouble
            return viewer
        return again.viewer

    async def _write(self, send: Send, text: bytes, *, is_last: bool = False) -> None:
        async with asyncio.timeout(self._slow_seconds):
            await _write(send, text, is_last=is_last)

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
        """Have the source looked at as long as there are streams, and wait until it has been."""
        if self._looking is None or self._looking.done():
            await self._in_thread(self._look)
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._keep_looking())

    async def _keep_looking(self) -> None:
        while self._owners:
            await asyncio.sleep(LOOK_SECONDS)
            if await self._in_thread(self._look):
                changed, self._changed = self._changed, asyncio.Event()
                changed.set()

    def _look(self) -> bool:
        try:
            found = self._source.look()
            self._is_away = False
            return found
        except Error:
            if not self._is_away:
                logger.warning("the database is away: streams wait for it", exc_info=True)
            self._is_away = True
            return False
        except Exception:  # streams must not fall silent for good because of one look
            logger.exception("it could not be looked what is new")
            return False

    async def _in_thread(self, act: Callable[[], T]) -> T:
        """Do something with the database, and give its connection back."""

        def run() -> T:
            try:
                return act()
            finally:
                connection.close()

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)


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


async def _refuse(send: Send, most: int) -> None:
    headers = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 429, "headers": headers})
    detail = f"There are {most} streams of yours already. Close one, or ask for the state instead."
    problem = {"type": "about:blank", "title": "Too Many Requests", "status": 429, "detail": detail}
    await _write(send, json.dumps(problem).encode(), is_last=True)
