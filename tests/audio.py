"""A place where recordings are kept, on this machine: a web server with a WAV file, which can misbehave."""

import contextlib
import io
import math
import struct
import threading
import wave
from collections.abc import Callable, Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from calls import byte_range

RATE = 8000


def a_tone(seconds: int) -> bytes:
    """Return a WAV file with so many seconds of a tone."""
    period = b"".join(struct.pack("<h", int(8000 * math.sin(2 * math.pi * at / 20))) for at in range(20))
    kept = io.BytesIO()
    with wave.open(kept, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(period * (RATE * seconds // 20))
    return kept.getvalue()


class Ask(NamedTuple):
    """A request as it came."""

    path: str
    headers: Message


class Reply(NamedTuple):
    """What the store answers instead of its file."""

    status: int
    headers: dict[str, str] = {}
    body: bytes = b""


class Store:
    """Serves ``file`` under every path; ``reply`` may answer otherwise, and ``asks`` keeps what was asked."""

    def __init__(self, file: bytes) -> None:
        self.file = file
        self.asks: list[Ask] = []
        self.knows_ranges = True
        self.reply: Callable[[Ask], Reply | None] = lambda ask: None
        self.gone = threading.Event()
        """Set when somebody hung up in the middle of the file."""
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                ask = Ask(self.path, self.headers)
                store.asks.append(ask)
                reply = store.reply(ask) or store.serve(ask)
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if not {"Content-Length", "Transfer-Encoding"} & reply.headers.keys():
                    self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                try:
                    for at in range(0, len(reply.body), 65536):
                        self.wfile.write(reply.body[at : at + 65536])
                except OSError:
                    store.gone.set()

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def serve(self, ask: Ask) -> Reply:
        """Answer with the file, or with the part that is asked for."""
        headers = {"Content-Type": "audio/x-wav", "ETag": '"one"', "Set-Cookie": "secret=1", "X-Store": self.url}
        asked = byte_range.parse(ask.headers.get("Range", ""))
        if not asked or not self.knows_ranges or ask.headers.get("If-Range", '"one"') != '"one"':
            return Reply(200, headers, self.file)
        try:
            part = asked.of(len(self.file))
        except byte_range.Unsatisfiable:
            return Reply(416, {"Content-Range": f"bytes */{len(self.file)}"})
        headers["Content-Range"] = f"bytes {part.first}-{part.last}/{len(self.file)}"
        return Reply(206, headers, self.file[part.first : part.last + 1])


@contextlib.contextmanager
def audio_store(seconds: int = 2) -> Iterator[Store]:
    """Run a store whose file lasts so many seconds."""
    store = Store(a_tone(seconds))
    thread = threading.Thread(target=store.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield store
    finally:
        store.server.shutdown()
        thread.join()
        store.server.server_close()
