"""What every page goes through."""

import zoneinfo
from collections.abc import Callable
from urllib.parse import unquote

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse
from django.utils import timezone

GetResponse = Callable[[HttpRequest], HttpResponse]


class RefuseUnstorableText:
    """Answers 400 to a path or query with NUL, which PostgreSQL refuses and stock Django pages turn into a 500."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        is_kept_as_it_is = request.path.startswith("/webhooks/")
        text = request.path + unquote(request.META.get("QUERY_STRING", ""))
        if "\x00" in text and not is_kept_as_it_is:
            return _refusal(request, "The address holds a NUL character.")
        return self.get_response(request)


class ViewerZone:
    """Shows times in the zone of the viewer's browser, which static/js/zone.js tells in a cookie."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        name = request.COOKIES.get("zone", "")
        with timezone.override(name if name in zoneinfo.available_timezones() else settings.TIME_ZONE_DISPLAY):
            response = self.get_response(request)
        if request.path.startswith("/admin/"):
            response._csp_update = settings.ADMIN_CSP
        return response


def _refusal(request: HttpRequest, detail: str) -> HttpResponse:
    if request.path.startswith("/api/"):
        problem = {"type": "about:blank", "title": "Bad Request", "status": 400, "detail": detail}
        return JsonResponse(problem, status=400, content_type="application/problem+json")
    return HttpResponseBadRequest(detail, content_type="text/plain")
