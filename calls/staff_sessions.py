"""Where staff are logged in: each place has a row, and the oldest goes when there are too many."""

import secrets
from typing import Any

from django.conf import settings
from django.contrib.auth.signals import user_logged_in
from django.http import HttpRequest
from django.utils import timezone

from calls.models import StaffSession

SESSION_KEY = "staff_session"
"""What the session calls the token of its row: a key of Django's changes with the password, this does not."""


def watch_logins() -> None:
    """Begin a row with every log-in from now on."""
    user_logged_in.connect(_begin, dispatch_uid="calls.staff_sessions")


def _begin(request: HttpRequest, user: Any, **kwargs: Any) -> None:
    now = timezone.now()
    token = secrets.token_urlsafe(32)
    StaffSession.objects.create(user=user, token=token, began_at=now, seen_at=now)
    request.session[SESSION_KEY] = token
    kept = StaffSession.objects.filter(user=user).values_list("pk", flat=True)[: settings.MOST_SESSIONS]
    StaffSession.objects.filter(user=user).exclude(pk__in=list(kept)).delete()
