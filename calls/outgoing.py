"""Posting to a checked address: to no other whatever DNS says by now, without redirects, within a time limit."""

import ssl
import time
from collections.abc import Iterable, Mapping
from typing import Any

import httpcore

from calls.addresses import Outgoing

SECONDS = 10.0

Failure = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError)
"""What ``post`` raises when nothing comes of it."""


def post(
    outgoing: Outgoing,
    content: bytes,
    headers: Mapping[str, str],
    *,
    seconds: float = SECONDS,
    ssl_context: ssl.SSLContext | None = None,
) -> int:
    """Send ``content`` and return the HTTP status of the answer; a redirect is an answer like any other.

    ``seconds`` bounds all of it, from the connection to the status, however slowly that comes; only the time in which
    the name was looked up is over by then. Of the answer's body nothing is read. Raises one of ``Failure``.
    """
    url = httpcore.URL(
        scheme=outgoing.url.raw_scheme, host=outgoing.host, port=outgoing.port, target=outgoing.url.raw_path
    )
    backend = _Pinned(outgoing, time.monotonic() + seconds)
    with (
        httpcore.ConnectionPool(ssl_context=ssl_context, network_backend=backend) as pool,
        pool.stream(
            "POST", url, headers={"Host": outgoing.url.netloc.decode(), **headers}, content=content
        ) as response,
    ):
        return response.status


class _Pinned(httpcore.NetworkBackend):
    """Connects to the checked addresses only. Host header, server name and certificate stay those of the URL."""

    def __init__(self, outgoing: Outgoing, deadline: float) -> None:
        self._outgoing, self._deadline = outgoing, deadline

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:  # fmt: skip
        if (host, port) != (self._outgoing.host, self._outgoing.port):
            raise httpcore.ConnectError(f"{host} was not checked.")
        for address in self._outgoing.addresses:
            try:
                seconds = _left(self._deadline, httpcore.ConnectTimeout)
                return _Limited(httpcore.SyncBackend().connect_tcp(address, port, seconds), self._deadline)
            except httpcore.ConnectError as error:
                last_error = error
        raise last_error


class _Limited(httpcore.NetworkStream):
    """A connection whose every step has the time that is left of the whole."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        seconds = _left(self._deadline, httpcore.ConnectTimeout)
        return _Limited(self._stream.start_tls(ssl_context, server_hostname, seconds), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float, error: type[httpcore.TimeoutException]) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise error("The time is up.")
    return seconds
