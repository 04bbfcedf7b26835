"""Outgoing addresses: what we send goes only where it may, which is decided after the name was looked up.

Imports no model and no settings: what is allowed beyond the public internet is given by the caller.
"""

import ipaddress
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import httpx

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver = Callable[[str, int], Iterable[str]]

_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_SITE_LOCAL = ipaddress.IPv6Network("fec0::/10")


class AddressRefused(ValueError):
    """The address may not be used; the text says why and names no more of it than its host."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A checked URL, and the addresses of its host, any of which may be connected to."""

    url: httpx.URL
    host: str
    """In ASCII, as certificates and the Host header have it."""
    port: int
    addresses: tuple[str, ...]


def resolve(host: str, port: int) -> Iterable[str]:
    """Return the addresses of ``host`` as the system knows them; raises ``OSError`` when there are none."""
    return dict.fromkeys(str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))


def check_outgoing(url: str, *, allowed: Sequence[Network] = (), resolver: Resolver = resolve) -> Outgoing:
    """Return a checked ``url``, which is https or, inside the ``allowed`` networks, http.

    Every address of its host has to be public or ``allowed``. Raises ``AddressRefused`` with the reason.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        raise AddressRefused(
            "This cannot be read as a web address. Give one such as https://example.com/hook."
        ) from None
    if parsed.scheme not in {"https", "http"}:
        raise AddressRefused("This does not start with https://. Give an address such as https://example.com/hook.")
    if parsed.userinfo:
        raise AddressRefused("A web address here must not hold a user name or password. Leave them out.")
    host = parsed.raw_host.decode("ascii").strip("[]").rstrip(".")
    if not host or "%" in host:
        raise AddressRefused(
            "This has no host that can be looked up. Give an address such as https://example.com/hook."
        )
    port = (443 if parsed.scheme == "https" else 80) if parsed.port is None else parsed.port
    found = _check_host(host, port, allowed=allowed, resolver=resolver)
    if parsed.scheme == "http" and not all(_is_within(address, allowed) for address in found):
        raise AddressRefused(f"http://{host} is not encrypted. Use https://.")
    return Outgoing(parsed, host, port, found)


def _check_host(
    host: str, port: int, *, allowed: Sequence[Network] = (), resolver: Resolver = resolve
) -> tuple[str, ...]:
    """Return the addresses of ``host``, every one public or ``allowed``. Raises ``AddressRefused`` with the reason."""
    if not 0 < port < 65536:
        raise AddressRefused(f"{port} is not a port. Give one from 1 to 65535.")
    try:
        found = tuple(resolver(host, port))
    except (OSError, UnicodeError):
        raise AddressRefused(f"The host {host} cannot be looked up. Check its spelling.") from None
    if not found:
        raise AddressRefused(f"The host {host} has no address. Check its spelling.")
    for address in found:
        if not may_reach(address, allowed):
            raise AddressRefused(
                f"The host {host} leads to {address}, which is not on the public internet. Use another."
            )
    return found


def may_reach(address: str, allowed: Sequence[Network] = ()) -> bool:
    """Return whether a numeric address is public or ``allowed``."""
    try:
        meant = list(_meant(ipaddress.ip_address(address)))
    except ValueError:
        return False
    return all(_is_public(one) or any(one in network for network in allowed) for one in meant)


def _is_within(address: str, networks: Sequence[Network]) -> bool:
    return all(any(one in network for network in networks) for one in _meant(ipaddress.ip_address(address)))


def _is_public(address: Address) -> bool:
    return address.is_global and not (address.is_multicast or address.is_reserved or address in _SITE_LOCAL)


def _meant(address: Address) -> Iterator[Address]:
    """Yield the address that counts: the IPv4 addresses inside an IPv6 one, where there are any, else itself."""
    if isinstance(address, ipaddress.IPv4Address):
        yield address
    elif address.ipv4_mapped:
        yield address.ipv4_mapped
    elif address.sixtofour:
        yield address.sixtofour
    elif address.teredo:
        yield from address.teredo
    elif any(address in network for network in _NAT64) or (address in _COMPATIBLE and int(address) > 1):
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    else:
        yield address
