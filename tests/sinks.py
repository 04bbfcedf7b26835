"""Receivers of notices on this machine: a web server and a mail server that keep what they get, and can misbehave."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope

from tests.serving import free_port


class Post(NamedTuple):
    """A request as it came."""

    path: str
    headers: Message
    body: bytes


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # of many who come at once none is made to wait


class WebSink:
    """Keeps the posts; ``answer`` is asked for the status of each, and may take its time.

    Every answer has the ``headers`` and the ``body``.
    """

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.headers: dict[str, str] = {}
        self.body = b""
        self.answer: Callable[[Post], int] = lambda post: 200
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                post = Post(self.path, self.headers, self.rfile.read(length))
                if len(post.body) < length:
                    return  # the sender was killed in the middle of it: nothing was posted
                sink.posts.append(post)
                status = sink.answer(post)
                with contextlib.suppress(OSError):  # who asked may have gone
                    self.send_response(status)
                    if 300 <= status < 400:
                        self.send_header("Location", f"http://127.0.0.1:{self.server.server_address[1]}/elsewhere")
                    for name, value in sink.headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(sink.body)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = _Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"


class MailSink:
    """Keeps the mails with their recipients; ``answer`` is asked for the reply to each."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], Message]] = []
        self.answer: Callable[[Message], str] = lambda mail: "250 OK"

    async def handle_DATA(self, server: object, session: object, envelope: Envelope) -> str:  # noqa: N802
        mail = message_from_bytes(envelope.content)
        self.mails.append((envelope.rcpt_tos, mail))
        return self.answer(mail)


@contextlib.contextmanager
def web_sink() -> Iterator[WebSink]:
    """Run a web server that takes notices."""
    sink = WebSink()
    thread = threading.Thread(target=sink.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield sink
    finally:
        sink.server.shutdown()
        thread.join()
        sink.server.server_close()


@contextlib.contextmanager
def mail_sink() -> Iterator[tuple[MailSink, int]]:
    """Run a mail server; yields what it keeps, and its port."""
    sink = MailSink()
    controller = Controller(sink, hostname="127.0.0.1", port=free_port())
    controller.start()
    try:
        yield sink, controller.server.sockets[0].getsockname()[1]
    finally:
        controller.stop()
