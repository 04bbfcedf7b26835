"""A sender of webhooks that remembers what was acknowledged and how long each answer took.

Each request goes over a connection of its own, as the providers send them. Nothing but a whole answer with status 200
is an acknowledgement: a refused or broken connection, a cut answer and a timeout are not.
"""

import asyncio
import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tests.serving import until

PATIENCE_SECONDS = 20
"""How long a request waits for its answer."""
NO_ANSWER = 0


class Post(NamedTuple):
    """A request to send; ``query`` and ``body`` are raw."""

    path: str
    body: bytes = b""
    query: bytes = b""
    method: str = "POST"
    content_type: str = "application/json"

    @property
    def digest(self) -> str:
        """What the inbox should keep of it: SHA-256 of the body, or of the query where there is no body."""
        return hashlib.sha256(self.body or self.query).hexdigest()

    @property
    def wire(self) -> bytes:
        path = f"{self.path}?".encode() + self.query if self.query else self.path.encode()
        kind = f"Content-Type: {self.content_type}\r\n" if self.content_type else ""
        head = f" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {len(self.body)}\r\n{kind}\r\n"
        return self.method.encode() + b" " + path + head.encode() + self.body


class Sent(NamedTuple):
    """A request that was sent and what came of it."""

    post: Post
    began: float
    """``time.monotonic()`` when it was sent."""
    seconds: float
    status: int
    """Of the answer; ``NO_ANSWER`` when there was no whole one."""
    delivery: str
    """The id that the answer gave it."""
    retry_after: str


class Sender:
    """Sends ``posts`` at ``rate`` a second, however long the answers take, from a thread of its own.

    As a context manager it begins on entering, and on leaving waits for the last answer; ``stop`` ends it early.
    """

    def __init__(self, port: int, posts: Iterable[Post], rate: float) -> None:
        self._port, self._posts, self._rate = port, posts, rate
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.sent: list[Sent] = []

    def __enter__(self) -> "Sender":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        if error[0]:
            self.stop()
        self._thread.join()

    def stop(self) -> None:
        """Begin no further request."""
        self._is_stopped.set()

    @property
    def is_done(self) -> bool:
        """Whether the last answer is in."""
        return not self._thread.is_alive()

    def wait_for_more(self, count: int) -> None:
        """Return when so many more requests have ended."""
        wanted = len(self.sent) + count
        assert until(lambda: len(self.sent) >= wanted, 120), summary(self.sent)

    @property
    def answers(self) -> Counter[int]:
        """How many requests ended with which status."""
        return Counter(sent.status for sent in self.sent)

    @property
    def acknowledged(self) -> dict[str, Post]:
        """What was answered with 200, by the id that the answer gave."""
        return {sent.delivery: sent.post for sent in self.sent if sent.status == 200}

    @property
    def unacknowledged(self) -> list[Post]:
        """What was not: it may be in the inbox, or not."""
        return [sent.post for sent in self.sent if sent.status != 200]

    def repeat_unacknowledged(self) -> None:
        """Send again, as providers do with reports, what was not acknowledged, until all is. Call it when done."""
        left = self.unacknowledged
        deadline = time.monotonic() + 180
        while left:
            assert time.monotonic() < deadline, f"not acknowledged: {summary(self.sent)}"
            with Sender(self._port, left, self._rate) as again:
                pass
            self.sent += again.sent
            left = again.unacknowledged

    async def _run(self) -> None:
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for number, post in enumerate(self._posts):
                await asyncio.sleep(began + number / self._rate - time.monotonic())
                if self._is_stopped.is_set():
                    return
                tasks.create_task(self._send(post))

    async def _send(self, post: Post) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                status, delivery, retry_after = await self._ask(post)
        except (OSError, EOFError, TimeoutError):
            status, delivery, retry_after = NO_ANSWER, "", ""
        self.sent.append(Sent(post, began, time.monotonic() - began, status, delivery, retry_after))

    async def _ask(self, post: Post) -> tuple[int, str, str]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(post.wire)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            fields = dict(line.split(": ", 1) for line in head.splitlines()[1:] if line)
            content = await reader.readexactly(int(fields["content-length"]))
        finally:
            writer.close()
        answer = json.loads(content) if content.startswith(b"{") else {}
        return int(head.split(" ", 2)[1]), answer.get("delivery", ""), fields.get("retry-after", "")


def summary(sent: Sequence[Sent]) -> str:
    """Return how many requests had which status, and how long the answers took."""
    if not sent:
        return "nothing sent"
    times = sorted(1000 * one.seconds for one in sent)
    p50, p99 = (times[int(len(times) * share)] for share in (0.5, 0.99))
    statuses = Counter(str(one.status or "no answer") for one in sent)
    counts = ", ".join(f"{count} × {status}" for status, count in statuses.most_common())
    return f"{counts}; p50 {p50:.0f} ms, p99 {p99:.0f} ms, most {times[-1]:.0f} ms"
