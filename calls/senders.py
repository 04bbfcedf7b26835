"""Where a request came from, behind however many proxies of ours."""

import ipaddress

from django.conf import settings
from django.http import HttpRequest


def sender_address(peer: str, forwarded_for: str) -> str:
    """Return the address that the request came from.

    Each proxy of ours adds to X-Forwarded-For the address that it saw, so the one to trust stands as far from the right
    as there are proxies; what stands left of it was made up by whoever likes to.
    """
    if not settings.TRUSTED_PROXIES:
        return peer
    hops = [hop.strip() for hop in forwarded_for.split(",")]
    if len(hops) >= settings.TRUSTED_PROXIES:
        try:
            return str(ipaddress.ip_address(hops[-settings.TRUSTED_PROXIES]))
        except ValueError:
            pass
    return peer


def address_of(request: HttpRequest) -> str | None:
    """Return the address that a request to Django came from, if it is one: a Unix socket has none."""
    address = sender_address(request.META.get("REMOTE_ADDR", ""), request.headers.get("X-Forwarded-For", ""))
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return None
