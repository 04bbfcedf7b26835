"""Errors as RFC 9457 ``application/problem+json``: what was wrong, where, and what to send instead."""

from http import HTTPStatus
from typing import Any, NamedTuple

from django.http import Http404, HttpRequest, HttpResponsePermanentRedirect
from django.http.response import HttpResponseBase
from django.urls import resolve
from rest_framework.exceptions import APIException, NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView, exception_handler

MEDIA_TYPE = "application/problem+json"
_SHOWN_CHARACTERS = 200


class FieldError(NamedTuple):
    """One thing wrong with a request: the parameter, its value, and what is allowed."""

    field: str
    value: str
    message: str


class BadRequest(APIException):
    """A request that is wrong in one or more named parameters."""

    status_code = HTTPStatus.BAD_REQUEST

    def __init__(self, *errors: FieldError) -> None:
        super().__init__(" ".join(f"{error.field}: {error.message}" for error in errors))
        self.errors = errors


def problem_response(error: Exception, context: dict[str, Any]) -> Response | None:
    """Return the problem that tells of ``error``, or ``None`` for a bug, which Django then reports as one."""
    if isinstance(error, Http404):
        error = NotFound("There is nothing at this address.")
    response = exception_handler(error, context)
    if response is None:
        return None
    response.data = {
        "type": "about:blank",
        "title": HTTPStatus(response.status_code).phrase,
        "status": response.status_code,
        "detail": str(error.detail),
    }
    if isinstance(error, BadRequest):
        response.data["errors"] = [
            {"field": shown(item.field), "value": shown(item.value), "message": item.message} for item in error.errors
        ]
    response.content_type = MEDIA_TYPE
    return response


def shown(text: str) -> str:
    """Return ``text`` short enough to be sent back."""
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


class UnknownPath(APIView):
    """Answers every address below the API's that is none of its own; one that lacks its last slash is redirected."""

    authentication_classes = ()
    permission_classes = ()
    schema = None

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method in ("GET", "HEAD") and not request.path.endswith("/"):
            meant = resolve(f"{request.path_info}/").func
            if meant.cls is not UnknownPath:
                return HttpResponsePermanentRedirect(request.get_full_path(force_append_slash=True))
        return super().dispatch(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise NotFound(f"There is nothing at {shown(request.path)}. The addresses are listed at /api/v1/schema/.")
