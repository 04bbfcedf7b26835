"""What every page goes through."""

import zoneinfo
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from urllib.parse import unquote

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, StreamingHttpResponse
from django.utils import timezone

from calls import access, masking, rates
from calls.api.problems import MOST_ERRORS, FieldError, problem

GetResponse = Callable[[HttpRequest], HttpResponse]
_known_zones = cache(zoneinfo.available_timezones)


class RefuseUnstorableText:
    """Answers 400 to a path or query with NUL, which PostgreSQL refuses and stock Django pages turn into a 500."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        is_kept_as_it_is = request.path.startswith("/webhooks/")
        text = request.path + unquote(request.META.get("QUERY_STRING", ""))
        if "\x00" in text and not is_kept_as_it_is:
            return _refusal(request)
        return self.get_response(request)


class RefuseBodiesOfUnknownLength:
    """Answers 411 to a program that sends a body in chunks: REST framework would take it for none at all."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        is_chunked = "Transfer-Encoding" in request.headers and not request.headers.get("Content-Length")
        if is_chunked and request.path.startswith("/api/"):
            return problem(411, "The length of the body is not told. Send it whole, with the header Content-Length.")
        return self.get_response(request)


class RateLimitHeaders:
    """Tells a program with a key how often it may ask, and how often still: draft-ietf-httpapi-ratelimit-headers."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if quota := getattr(request, "quota", None):
            response["RateLimit-Policy"] = f'"per-minute";q={quota.limit};w={rates.WINDOW_SECONDS}'
            response["RateLimit"] = f'"per-minute";r={quota.remaining};t={quota.seconds}'
        return response


class ViewerZone:
    """Shows times in the zone of the viewer's browser, which static/js/zone.js tells in a cookie."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        name = request.COOKIES.get("zone", "")
        with timezone.override(name if name in _known_zones() else settings.TIME_ZONE_DISPLAY):
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


def _refusal(request: HttpRequest) -> HttpResponse:
    detail = "The address holds a NUL character. Leave it out."
    if not request.path.startswith("/api/"):
        return HttpResponseBadRequest(detail, content_type="text/plain")
    found = [
        FieldError(name, value, "It holds a NUL character. Leave it out.")
        for name, values in request.GET.lists()
        for value in values
        if "\x00" in name + value
    ]
    return problem(400, detail, found[:MOST_ERRORS])
