"""What every page goes through."""

import zoneinfo
from collections.abc import AsyncIterator, Callable, Iterator
from urllib.parse import unquote

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse, StreamingHttpResponse
from django.utils import timezone

from calls import access, masking

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


class NumbersAsTheViewerMaySee:
    """Masks phone numbers in what is answered to staff who may not see them.

    Pages mask what they show by themselves. What begins with + and looks like a number is masked here once more, for
    the page that forgets; downloads and streams are left alone.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not request.path.startswith("/admin/"):
            return self.get_response(request)
        with access.seen_by(request.user):
            response = self.get_response(request)
            is_masking = masking.is_masking()
            if response.streaming:
                response.streaming_content = _pieces(response, is_masking)
            elif is_masking and _is_text(response) and not getattr(response, "is_revealing", False):
                response.content = masking.masked_page(response.content.decode(response.charset))
        return response


def _is_text(response: HttpResponse) -> bool:
    return response.headers.get("Content-Type", "").startswith(("text/html", "application/json"))


def _pieces(response: StreamingHttpResponse, is_masking: bool) -> AsyncIterator[bytes] | Iterator[bytes]:
    """Return the pieces of a stream, each made as its viewer may see it: the request is over by then."""

    def pieces() -> Iterator[bytes]:
        rest = iter(content)
        while True:
            with masking.masking(lambda: is_masking):
                piece = next(rest, None)
            if piece is None:
                return
            yield piece

    async def pieces_to_come() -> AsyncIterator[bytes]:
        rest = aiter(content)
        while True:
            with masking.masking(lambda: is_masking):
                piece = await anext(rest, None)
            if piece is None:
                return
            yield piece

    content = response.streaming_content
    return pieces_to_come() if response.is_async else pieces()


def _refusal(request: HttpRequest, detail: str) -> HttpResponse:
    if request.path.startswith("/api/"):
        problem = {"type": "about:blank", "title": "Bad Request", "status": 400, "detail": detail}
        return JsonResponse(problem, status=400, content_type="application/problem+json")
    return HttpResponseBadRequest(detail, content_type="text/plain")
