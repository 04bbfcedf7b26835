"""Who may stay logged in, and who must first give a code from an app."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth import logout
from django.db.models import Exists, OuterRef
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django_otp.plugins.otp_totp.models import TOTPDevice

from calls.models import StaffAccess, StaffSession
from calls.staff_sessions import SESSION_KEY

SEEN_IS_NOTED_EVERY = timedelta(minutes=2)
"""A page view must not cost a write each time."""
LOG_OUT = "admin:logout"
FREE = {"admin:login", "admin:jsi18n", "second_step", "second_step_set_up"}
"""Pages that are open before the code is given."""


class StaffSessions:
    """Lets staff go on in the admin while their session lasts, and after the code where one is required."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> HttpResponse | None:
        """Send who may not go on to the page that says what to do."""
        match = request.resolver_match
        if not request.path.startswith("/admin/") or not request.user.is_authenticated or match.view_name == LOG_OUT:
            return None
        now = timezone.now()
        session = _session(request)
        if session is None or _has_ended(session, now):
            logout(request)
            messages.info(request, "Your session has ended. Please log in again.")
            return redirect(f"{reverse('admin:login')}?{urlencode({'next': request.get_full_path()})}")
        if session.seen_at < now - SEEN_IS_NOTED_EVERY:
            StaffSession.objects.filter(pk=session.pk).update(seen_at=now)
        if match.view_name in FREE or request.user.is_verified():
            return None
        if session.has_device:
            return _first_to("second_step", request)
        if settings.REQUIRE_TOTP or session.is_required:
            return _first_to("second_step_set_up", request)
        return None


def locked_out(request: HttpRequest, original: HttpResponse | None, credentials: Mapping[str, Any]) -> HttpResponse:
    """Answer a log-in that is refused because of those that failed before."""
    context = admin.site.each_context(request) | {
        "title": "Too many failed log-ins",
        "minutes": int(settings.AXES_COOLOFF_TIME.total_seconds() // 60),
        "failures": settings.AXES_FAILURE_LIMIT,
        "again_at": timezone.now() + settings.AXES_COOLOFF_TIME,
    }
    return render(request, "admin/locked_out.html", context, status=HTTPStatus.TOO_MANY_REQUESTS)


def _session(request: HttpRequest) -> Any:
    """Return the session with ``has_device`` and ``is_required``, in one query, or ``None`` when it was ended."""
    devices = TOTPDevice.objects.filter(user=OuterRef("user"), confirmed=True)
    required = StaffAccess.objects.filter(user=OuterRef("user"), is_code_required=True)
    sessions = StaffSession.objects.filter(user=request.user.pk, token=request.session.get(SESSION_KEY, ""))
    return sessions.annotate(has_device=Exists(devices), is_required=Exists(required)).first()


def _has_ended(session: StaffSession, now: Any) -> bool:
    is_idle = session.seen_at < now - timedelta(seconds=settings.SESSION_IDLE_SECONDS)
    return is_idle or session.began_at < now - timedelta(seconds=settings.SESSION_COOKIE_AGE)


def _first_to(name: str, request: HttpRequest) -> HttpResponse:
    return redirect(f"{reverse(name)}?{urlencode({'next': request.get_full_path()})}")
