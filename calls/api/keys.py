"""Who may use the API, and how often: keys in the Authorization header, each with its scopes and its limit."""

import ipaddress
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db.models import Q
from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied, Throttled
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from calls import rates
from calls.models import ApiKey
from calls.models.api_key import digest_of
from calls.senders import address_of

USE_IS_NOTED_EVERY = timedelta(minutes=1)
_IPV6_OF_ONE_SENDER = 64
"""Bits of an IPv6 address that whoever has one network cannot choose."""


class BearerKey(BaseAuthentication):
    """``Authorization: Bearer <key>``; the key becomes ``request.auth``. There are no sessions in the API.

    Each request with a key is counted against the key's limit, and the request's ``quota`` says what is left of it, for
    ``config.middleware.RateLimitHeaders``. An address that sent too many keys that there never were is not heard for a
    while, whatever it sends then; a key that has ended is no guess and counts for itself.
    """

    def authenticate(self, request: Request) -> tuple[AnonymousUser, ApiKey] | None:
        header = request.META.get("HTTP_AUTHORIZATION", "").strip()
        if not header:
            return None
        scheme, _, text = header.partition(" ")
        if scheme.lower() != "bearer":
            raise AuthenticationFailed("Use the header “Authorization: Bearer <key>”.")
        text, sender = text.strip(), f"sender:{_sender(request)}"
        _let_pass(request, rates.look(sender, settings.API_UNKNOWN_KEYS_PER_MINUTE), "unknown keys from this address")
        key = ApiKey.of_text(text)
        if key is None:
            request._request.quota = rates.take(sender, settings.API_UNKNOWN_KEYS_PER_MINUTE)
            raise AuthenticationFailed("This API key is not known. Make one with “manage.py create_api_key NAME”.")
        reason = refusal(key, text)
        limit = key.calls_per_minute or settings.API_RATE_PER_MINUTE
        quota = rates.take(f"key:{key.pk}{':ended' if reason else ''}", limit)
        _let_pass(request, quota, "requests with this key")
        if reason:
            raise AuthenticationFailed(reason)
        _note_use(key, text)
        return AnonymousUser(), key

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="api"'


class HasScope(BasePermission):
    """Lets a key in that has the view's ``required_scope``; no scope includes another."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if request.auth is None:
            return False
        if view.required_scope not in request.auth.scopes:
            raise PermissionDenied(f"This key lacks the scope “{view.required_scope}”.")
        return True


class BearerKeyScheme(OpenApiAuthenticationExtension):
    """Tells the schema of ``BearerKey``."""

    target_class = BearerKey
    name = "key"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "A key made with `manage.py create_api_key NAME`."}


def _let_pass(request: Request, quota: rates.Quota, what: str) -> None:
    """Keep the quota for the answer's headers. Raises ``Throttled`` when it is used up."""
    request._request.quota = quota
    if not quota.is_open:
        raise Throttled(quota.seconds, f"At most {quota.limit} {what} are answered in a minute.")


def refusal(key: ApiKey, text: str) -> str:
    """Return why the key, as this text of it, may no longer be used, or ``""``."""
    if not key.is_active:
        return "This API key was revoked. Ask who gave it to you for another."
    expires_at = key.expiry_of(text)
    if expires_at is None or expires_at > timezone.now():
        return ""
    if digest_of(text) == key.former_digest:
        return f"This API key was replaced and ended at {expires_at:%Y-%m-%dT%H:%M:%SZ}. Use the new one."
    return f"This API key expired at {expires_at:%Y-%m-%dT%H:%M:%SZ}. Ask who gave it to you for another."


def _sender(request: Request) -> str:
    """Return whose requests are counted together: an address, or the network that one sender has of IPv6."""
    address = address_of(request._request)
    if address is None:
        return "unknown"
    ip = ipaddress.ip_address(address)
    if ip.version == 4 or ip.ipv4_mapped:
        return address
    return str(ipaddress.ip_network((ip, _IPV6_OF_ONE_SENDER), strict=False))


def _note_use(key: ApiKey, text: str) -> None:
    """Note the time, at most once a minute: a read must not cost a write each time."""
    now = timezone.now()
    field = "former_used_at" if digest_of(text) == key.former_digest else "last_used_at"
    noted = getattr(key, field)
    if noted and noted > now - USE_IS_NOTED_EVERY:
        return
    is_due = Q((field, None)) | Q((f"{field}__lte", now - USE_IS_NOTED_EVERY))
    ApiKey.objects.filter(is_due, pk=key.pk).update(**{field: now})
