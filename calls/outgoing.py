"""Posting to a checked address and getting from one: from no other whatever DNS says by now, within a time limit.

Posts follow no redirect; gets follow a few, each checked like the first address.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import httpcore
import httpx

from calls.addresses import AddressRefused, Network, Outgoing, Resolver, check_outgoing, resolve

SECONDS = 10.0

Failure = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError)
"""What ``post`` and ``get`` raise when nothing comes of it."""

MOST_REDIRECTS = 3
_REDIRECTS = {301, 302, 303, 307, 308}


class Reply(NamedTuple):
    """The answer to a ``post``."""

    status: int
    headers: dict[str, str]
    """By name in small letters."""
    beginning: bytes
    """Of the body, as far as it was asked for and came in time."""


def post(
    outgoing: Outgoing,
    content: bytes,
    headers: Mapping[str, str],
    *,
    seconds: float = SECONDS,
    most_bytes: int = 0,
    ssl_context: ssl.SSLContext | None = None,
) -> Reply:
    """Send ``content`` and return the answer; a redirect is an answer like any other.

    ``seconds`` bounds all of it, from the connection to the end, however slowly that comes; only the time in which
    the name was looked up is over by then. Of the answer's body ``most_bytes`` are read. Raises one of ``Failure``.
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
        return Reply(response.status, _named(response), _beginning(response, most_bytes))


def _beginning(response: httpcore.Response, most_bytes: int) -> bytes:
    body = bytearray()
    with suppress(*Failure):  # the status has come, and says what is to be known
        pieces = response.iter_stream() if most_bytes else ()
        for piece in pieces:
            body += piece
            if len(body) >= most_bytes:
                break
    return bytes(body[:most_bytes])


def _named(response: httpcore.Response) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}


class Answer:
    """The answer to a ``get``, whose body has not been read. Has to be closed."""

    def __init__(self, pool: httpcore.AsyncConnectionPool, response: httpcore.Response) -> None:
        self._pool, self._response = pool, response
        self.status = response.status
        self.headers = _named(response)
        """By name in small letters."""

    def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes. Raises one of ``Failure`` when no more comes within the time for a step."""
        return self._response.aiter_stream()

    async def aclose(self) -> None:
        """Let go of the connection, also in the middle of the body."""
        await self._response.aclose()
        await self._pool.aclose()


async def get(
    url: str,
    headers: Mapping[str, str],
    *,
    allowed: Sequence[Network] = (),
    resolver: Resolver = resolve,
    seconds: float = SECONDS,
) -> Answer:
    """Ask for ``url`` and return the answer as soon as its headers are there.

    ``seconds`` bounds all of that, redirects included; afterwards each step of reading the body may take as long.
    Raises one of ``Failure``, or ``AddressRefused`` when the address, or one that it leads to, may not be used.
    """
    try:
        async with asyncio.timeout(seconds):
            for _ in range(MOST_REDIRECTS + 1):
                # Looking a name up blocks.
                outgoing = await asyncio.to_thread(check_outgoing, url, allowed=allowed, resolver=resolver)
                answer = await _ask(outgoing, headers, seconds)
                if answer.status not in _REDIRECTS:
                    return answer
                await answer.aclose()
                url = _redirected(outgoing, answer.headers.get("location", ""))
    except TimeoutError:
        raise httpcore.ReadTimeout("The time is up.") from None
    raise httpcore.RemoteProtocolError("Too many redirects.")


async def _ask(outgoing: Outgoing, headers: Mapping[str, str], seconds: float) -> Answer:
    url = httpcore.URL(
        scheme=outgoing.url.raw_scheme, host=outgoing.host, port=outgoing.port, target=outgoing.url.raw_path
    )
    request = httpcore.Request(
        "GET",
        url,
        headers={"Host": outgoing.url.netloc.decode(), **headers},
        extensions={"timeout": dict.fromkeys(("connect", "read", "write", "pool"), seconds)},
    )
    pool = httpcore.AsyncConnectionPool(network_backend=_AsyncPinned(outgoing))
    try:
        return Answer(pool, await pool.handle_async_request(request))
    except BaseException:
        await pool.aclose()
        raise


def _redirected(outgoing: Outgoing, location: str) -> str:
    try:
        return str(outgoing.url.join(location))
    except (httpx.InvalidURL, ValueError):
        raise AddressRefused(f"The host {outgoing.host} leads to what cannot be read as a web address.") from None


class _AsyncPinned(httpcore.AsyncNetworkBackend):
    """Like ``_Pinned``."""

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing, self._backend = outgoing, httpcore.AnyIOBackend()

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:  # fmt: skip
        _check_is_checked(self._outgoing, host, port)
        for address in self._outgoing.addresses:
            try:
                return await self._backend.connect_tcp(address, port, timeout)
            except httpcore.ConnectError as error:
                last_error = error
        raise last_error


class _Pinned(httpcore.NetworkBackend):
    """Connects to the checked addresses only. Host header, server name and certificate stay those of the URL."""

    def __init__(self, outgoing: Outgoing, deadline: float) -> None:
        self._outgoing, self._deadline = outgoing, deadline

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:  # fmt: skip
        _check_is_checked(self._outgoing, host, port)
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


def _check_is_checked(outgoing: Outgoing, host: str, port: int) -> None:
    if (host, port) != (outgoing.host, outgoing.port):
        raise httpcore.ConnectError(f"{host} was not checked.")


def _left(deadline: float, error: type[httpcore.TimeoutException]) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise error("The time is up.")
    return seconds
