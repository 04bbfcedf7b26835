"""The plain way in: a Django view, for WSGI servers and the development server. The rules are those of ``inbox``."""

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from webhooks import inbox

PIECE = 64 * 1024


@csrf_exempt
def receive(request: HttpRequest) -> HttpResponse:
    """Answer one request under /webhooks/."""
    if _hides_its_body(request):
        return HttpResponse(status=411)
    body = inbox.Body()
    if not _read(request, body):
        return HttpResponse(status=400)
    answer = inbox.accept(
        inbox.Request(
            method=request.method or "",
            path=request.path,
            query=request.META.get("QUERY_STRING", "").encode("latin-1"),
            content_type=request.META.get("CONTENT_TYPE", ""),
            peer=request.META.get("REMOTE_ADDR", ""),
            forwarded_for=request.META.get("HTTP_X_FORWARDED_FOR", ""),
            body=body,
        )
    )
    return HttpResponse(answer.payload, status=answer.status, headers=dict(answer.headers))


def _hides_its_body(request: HttpRequest) -> bool:
    """Whether the body is chunked and the server does not decode that: it would look empty, and be lost."""
    return "HTTP_TRANSFER_ENCODING" in request.META and not request.META.get("wsgi.input_terminated")


def _read(request: HttpRequest, body: inbox.Body) -> bool:
    """Read the body; return whether it came to its end (or to the limit of what is read).

    Without a Content-Length, Django takes a chunked body for an empty one; the server's own stream has it.
    """
    is_chunked = "HTTP_TRANSFER_ENCODING" in request.META
    stream = request.META["wsgi.input"] if is_chunked else request
    while piece := stream.read(PIECE):
        if not body.feed(piece):
            return True
    length = request.META.get("CONTENT_LENGTH") or ""
    return is_chunked or not length.isdigit() or body.size == int(length)
