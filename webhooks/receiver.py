"""The fast way in: an ASGI application ahead of Django, whose requests in flight share one INSERT and one commit.

Whatever waits while a commit runs goes into the next one, so a lone request waits for nobody and many cost little more
than one. The writing is done by one thread, which outlives every outage: while the database is away it asks once in a
while whether it is back, and meanwhile deliveries go to the spool.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, connection

from webhooks import bell, inbox, spool
from webhooks.models import Delivery

logger = logging.getLogger(__name__)

MOST_IN_A_COMMIT = 500
PATIENCE_SECONDS = 2.0
"""How long a request waits for its commit before it goes to the spool."""
STUCK_SECONDS = 0.5
"""A commit that takes longer than this sends later requests straight to the spool."""
PROBE_SECONDS = 0.5
"""How often a database that was away is asked whether it is back."""
TABLE_SECONDS = 0.3
"""How long a request waits for a fresh table of webhook URLs before it goes by the last one."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class GroupCommit:
    """Commits deliveries in groups, from one thread."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Delivery, Future[None]]] = []
        self._changed = threading.Condition()
        self._thread_of = 0
        self._commit_began: float | None = None
        self._is_away = False

    @property
    def is_away(self) -> bool:
        """Whether the database is known to be away, or seems stuck."""
        began = self._commit_began
        return self._is_away or (began is not None and time.monotonic() - began > STUCK_SECONDS)

    def put(self, delivery: Delivery) -> "Future[None]":
        """Return a future that is done when ``delivery`` is committed, or fails when it cannot be."""
        future: Future[None] = Future()
        with self._changed:
            if self._thread_of != os.getpid():  # threads do not survive a fork
                self._thread_of = os.getpid()
                threading.Thread(target=self._run, name="inbox writer", daemon=True).start()
            self._waiting.append((delivery, future))
            self._changed.notify()
        return future

    def _run(self) -> None:
        while True:
            try:
                if self._is_away:
                    self._probe()
                else:
                    self._commit(self._next_group())
            except Exception:  # the thread must not end: nobody would be answered again
                logger.exception("the inbox writer goes on after an error")

    def _next_group(self) -> list[tuple[Delivery, "Future[None]"]]:
        with self._changed:
            while not self._waiting:
                self._changed.wait()
            group = self._waiting[:MOST_IN_A_COMMIT]
            del self._waiting[:MOST_IN_A_COMMIT]
        # One who stopped waiting has gone to the spool.
        return [(delivery, future) for delivery, future in group if future.set_running_or_notify_cancel()]

    def _commit(self, group: list[tuple[Delivery, "Future[None]"]]) -> None:
        self._commit_began = time.monotonic()
        try:
            Delivery.objects.bulk_create([delivery for delivery, _ in group], ignore_conflicts=True)
        except (DataError, IntegrityError, ValueError) as error:
            # One row that the table refuses must not fail its neighbours.
            if len(group) == 1:
                group[0][1].set_exception(error)
            else:
                for item in group:
                    self._commit([item])
        except (DatabaseError, InterfaceError) as error:
            self._is_away = True
            connection.close()
            logger.warning("the database is away, deliveries go to the spool: %s", type(error).__name__)
            for _, future in group:
                future.set_exception(error)
        else:
            for _, future in group:
                future.set_result(None)
        finally:
            self._commit_began = None

    def _probe(self) -> None:
        with self._changed:
            abandoned, self._waiting = self._waiting, []
        for _, future in abandoned:
            if future.set_running_or_notify_cancel():
                future.set_exception(InterfaceError("the database is away"))
        try:
            connection.close()
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except (DatabaseError, InterfaceError):
            time.sleep(PROBE_SECONDS)
        else:
            self._is_away = False
            spool.close()
            bell.ring()
            logger.warning("the database is back")


writer = GroupCommit()
_table_reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="webhook URLs")
_spooler = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")


async def receiver(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request under /webhooks/ (ASGI)."""
    body = inbox.Body()
    if not await _read(body, receive):
        return  # the sender went away in the middle: nothing was acknowledged, nothing is kept
    headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
    request = inbox.Request(
        method=scope["method"],
        path=scope["path"],
        query=scope["query_string"],
        content_type=headers.get(b"content-type", ""),
        peer=scope["client"][0] if scope.get("client") else "",
        forwarded_for=headers.get(b"x-forwarded-for", ""),
        body=body,
    )
    await _answer(await _accept(request), send)


async def _read(body: inbox.Body, receive: Receive) -> bool:
    """Read the body; return whether it came to its end (or to the limit of what is read)."""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return False
        if not body.feed(message.get("body", b"")) or not message.get("more_body", False):
            return True


async def _accept(request: inbox.Request) -> inbox.Answer:
    loop = asyncio.get_running_loop()
    if inbox.needs_reading(request.path):
        reading = loop.run_in_executor(_table_reader, inbox.ways.read)
        await asyncio.wait([reading], timeout=TABLE_SECONDS)
    verdict = inbox.judge(request)
    if isinstance(verdict, inbox.Answer):
        return verdict
    if not await _commit(verdict) and not await loop.run_in_executor(_spooler, inbox.keep_in_spool, verdict):
        return inbox.unavailable()
    return inbox.answer_for(verdict)


async def _commit(delivery: Delivery) -> bool:
    """Return whether the delivery was committed. When in doubt it is spooled too: the id makes it one."""
    if writer.is_away:
        return False
    try:
        await asyncio.wait_for(asyncio.wrap_future(writer.put(delivery)), PATIENCE_SECONDS)
    except (DatabaseError, InterfaceError, ValueError, TimeoutError):
        return False
    bell.ring()
    return True


async def _answer(answer: inbox.Answer, send: Send) -> None:
    payload = answer.payload
    headers = [(name.encode(), value.encode()) for name, value in answer.all_headers.items()]
    headers.append((b"Content-Length", str(len(payload)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": payload})
