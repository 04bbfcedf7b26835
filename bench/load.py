"""``python -m bench.load URL [options]``: POSTs with bodies that are all different, and prints JSON.

Prints ``{"requests", "sent", "failed", "per_second", "p50_ms", "p99_ms", "cpu_us"}``, the last being the CPU time that
it takes itself for a request. It has to be light, for it runs beside what it measures: requests are put together from
three pieces, and of an answer that is as long as the first one only the status is looked at.
"""

import argparse
import asyncio
import json
import resource
import time
from array import array
from urllib.parse import urlsplit

import uvloop

BODY_BYTES = 700
WARM_UP_SECONDS = 1.0


class Load:
    """What all connections share: the request, the clock, the results."""

    def __init__(self, options: argparse.Namespace) -> None:
        url = urlsplit(options.url)
        self.host, self.port = url.hostname, url.port
        self.closes = options.close
        begin, end = b'{"appid": 2222222, "number": "', b'"}'
        end = b'", "filling": "' + b"a" * (BODY_BYTES - len(begin) - 16 - len(end) - 15) + end
        head = f"POST {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\n"
        head += "Connection: close\r\n" if self.closes else ""
        self._before = f"{head}Content-Length: {BODY_BYTES}\r\n\r\n".encode() + begin
        self._after = end
        self._number = time.time_ns() // 1000 % 10**9 * 10**7  # another run sends other bodies
        self.most = options.requests
        self.pause = options.connections / options.rate if options.rate else 0.0
        self.started = time.perf_counter() + (0 if self.most else WARM_UP_SECONDS)
        self.ended = self.started + options.seconds
        self.latencies = array("d")
        self.failed = self.sent = 0

    def next_request(self) -> bytes:
        self.sent += 1
        self._number += 1
        return b"%b%016d%b" % (self._before, self._number, self._after)

    @property
    def is_over(self) -> bool:
        return self.sent >= self.most if self.most else time.perf_counter() >= self.ended


class Connection(asyncio.Protocol):
    """Sends the next request when the last one is answered, or at its time when there is a rate."""

    def __init__(self, load: Load, due: float) -> None:
        self._load = load
        self._due = due
        self._answer = b""
        self._usual_length = -1
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        # One that is sent late because the last answer was late has waited since its time.
        now = time.perf_counter()
        self._sent_at = min(now, self._due + 0.001) if self._load.pause else now
        self._transport.write(self._load.next_request())

    def data_received(self, piece: bytes) -> None:
        self._answer += piece
        if len(self._answer) != self._usual_length:
            if self._load.closes or not self._is_whole():
                return
            self._usual_length = len(self._answer)
        self._note()
        load = self._load
        if load.is_over:
            self._transport.close()
        elif load.pause:
            self._due += load.pause
            asyncio.get_running_loop().call_later(max(0.0, self._due - time.perf_counter()), self._send)
        else:
            self._send()

    def _is_whole(self) -> bool:
        head, end, body = self._answer.partition(b"\r\n\r\n")
        return bool(end) and len(body) == int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])

    def _note(self) -> None:
        if self._sent_at >= self._load.started:
            self._load.latencies.append(time.perf_counter() - self._sent_at)
            self._load.failed += not self._answer.startswith(b"HTTP/1.1 200")
        self._answer = b""

    def connection_lost(self, error: Exception | None) -> None:
        if self._load.closes or self._answer:
            self._note()
        if not self.done.done():
            self.done.set_result(None)


async def run(options: argparse.Namespace) -> dict[str, float]:
    """Send until the time, or the number, is reached."""
    loop = asyncio.get_running_loop()
    load = Load(options)

    async def keep_sending(number: int) -> None:
        due = time.perf_counter() + load.pause * number / options.connections  # not all at the same moment
        await asyncio.sleep(due - time.perf_counter())
        while not load.is_over:
            _, connection = await loop.create_connection(lambda: Connection(load, due), load.host, load.port)
            await connection.done

    began = time.perf_counter()
    await asyncio.gather(*(keep_sending(number) for number in range(options.connections)))
    seconds = time.perf_counter() - max(began, load.started)
    latencies = sorted(load.latencies)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "requests": len(latencies),
        "sent": load.sent,
        "failed": load.failed,
        "per_second": round(len(latencies) / seconds, 1),
        "p50_ms": round(latencies[len(latencies) // 2] * 1000, 2),
        "p99_ms": round(latencies[len(latencies) * 99 // 100] * 1000, 2),
        "cpu_us": round((used.ru_utime + used.ru_stime) / load.sent * 1e6, 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=4, help="after a second of warming up")
    parser.add_argument("--requests", type=int, default=0, help="send so many instead, without warming up")
    parser.add_argument("--rate", type=float, default=0, help="requests a second; otherwise as many as are answered")
    parser.add_argument("--close", action="store_true", help="a new connection for each request")
    print(json.dumps(uvloop.run(run(parser.parse_args()))))
