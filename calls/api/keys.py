"""Who may use the API: keys in the Authorization header, each with its scopes."""

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.db.models import Q
from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from calls.models import ApiKey
from calls.models.api_key import digest_of

USE_IS_NOTED_EVERY = timedelta(minutes=1)


class BearerKey(BaseAuthentication):
    """``Authorization: Bearer <key>``; the key becomes ``request.auth``. There are no sessions in the API."""

    def authenticate(self, request: Request) -> tuple[AnonymousUser, ApiKey] | None:
        header = request.META.get("HTTP_AUTHORIZATION", "")
        if not header.strip():
            return None
        scheme, _, text = header.strip().partition(" ")
        if scheme.lower() != "bearer":
            raise AuthenticationFailed("Use the header “Authorization: Bearer <key>”.")
        key = ApiKey.objects.filter(digest=digest_of(text.strip()), is_active=True).first()
        if key is None:
            raise AuthenticationFailed("This API key is not known, or is no longer active.")
        _note_use(key)
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


def _note_use(key: ApiKey) -> None:
    """Note the time, at most once a minute: a read must not cost a write each time."""
    now = timezone.now()
    if key.last_used_at and key.last_used_at > now - USE_IS_NOTED_EVERY:
        return
    is_due = Q(last_used_at=None) | Q(last_used_at__lte=now - USE_IS_NOTED_EVERY)
    ApiKey.objects.filter(is_due, pk=key.pk).update(last_used_at=now)
