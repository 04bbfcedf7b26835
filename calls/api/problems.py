"""Errors as RFC 9457 ``application/problem+json``: what was wrong, where, and what to send instead."""

import json
import logging
import math
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any, NamedTuple

from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpResponse, JsonResponse
from rest_framework.exceptions import (
    APIException,
    NotAcceptable,
    NotAuthenticated,
    NotFound,
    UnsupportedMediaType,
    ValidationError,
)
from rest_framework.request import Request
from rest_framework.settings import api_settings

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
MOST_ERRORS = 20
_SHOWN_CHARACTERS = 200
_DETAIL_CHARACTERS = 1000


class FieldError(NamedTuple):
    """One thing wrong with a request: the parameter, its value, and what is allowed."""

    field: str
    value: str
    message: str


class BadRequest(APIException):
    """A request that is wrong in one or more named parameters."""

    status_code = HTTPStatus.BAD_REQUEST

    def __init__(self, *errors: FieldError) -> None:
        super().__init__(_in_words(errors))
        self.errors = errors


class Unavailable(APIException):
    """The database does not answer; ``wait`` is when to try again, in seconds."""

    status_code = HTTPStatus.SERVICE_UNAVAILABLE
    default_detail = "The database does not answer in time. Try again later."
    wait = 5


def problem_response(error: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """Return the problem that tells of ``error``, or ``None`` for a bug, which Django then reports as one."""
    if isinstance(error, OperationalError | InterfaceError):
        logger.warning("the database does not answer", exc_info=error)
        error = Unavailable()
    if isinstance(error, Http404):
        error = NotFound("There is nothing at this address.")
    if not isinstance(error, APIException):
        return None
    errors = _errors_of(error, context)
    if isinstance(error, ValidationError):
        detail = _in_words(errors)
    elif isinstance(error, NotAuthenticated):
        detail = "There is no API key. Send one in the header “Authorization: Bearer <key>”."
    else:
        detail = str(error.detail)
    response = problem(error.status_code, detail, errors)
    if getattr(error, "auth_header", None):
        response["WWW-Authenticate"] = error.auth_header
    if getattr(error, "wait", None):
        response["Retry-After"] = str(math.ceil(error.wait))
    return response


def problem(status: int, detail: str, errors: Iterable[FieldError] = ()) -> HttpResponse:
    """Return the answer that tells of a problem: JSON whatever the view's own renderer is."""
    return JsonResponse(document(status, detail, errors), status=status, content_type=MEDIA_TYPE)


def document(status: int, detail: str, errors: Iterable[FieldError] = ()) -> dict[str, Any]:
    """Return the document that tells of a problem."""
    found: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": shown(detail, _DETAIL_CHARACTERS),
    }
    if pieces := [
        {"field": shown(field), "value": shown(value), "message": message} for field, value, message in errors
    ]:
        found["errors"] = pieces
    return found


def shown(text: str, characters: int = _SHOWN_CHARACTERS) -> str:
    """Return ``text`` short enough to be sent back."""
    return text if len(text) <= characters else text[: characters - 1] + "…"


def _errors_of(error: Exception, context: dict[str, Any]) -> list[FieldError]:
    """Return what is wrong, piece by piece, as far as ``error`` tells."""
    if isinstance(error, BadRequest):
        return list(error.errors)
    request: Request = context["request"]
    if isinstance(error, ValidationError):
        return list(_pieces(error.detail, request.data, ""))[:MOST_ERRORS]
    if isinstance(error, NotAcceptable):
        offered = ", ".join(renderer.media_type for renderer in context["view"].renderer_classes)
        return [FieldError("Accept", request.META.get("HTTP_ACCEPT", ""), f"It can be had as {offered}.")]
    if isinstance(error, UnsupportedMediaType):
        wanted = ", ".join(parser.media_type for parser in context["view"].parser_classes)
        return [FieldError("Content-Type", request.content_type, f"Send {wanted}.")]
    return []


def _pieces(detail: Any, value: Any, path: str) -> Iterator[FieldError]:
    """Yield what a serializer says, with the path and the value that was sent: ``filters.account[0]``."""
    if isinstance(detail, list) and all(isinstance(item, str) for item in detail):
        text = value if isinstance(value, str) else "" if value is None else json.dumps(value)
        yield FieldError(path or "body", text, " ".join(detail))
        return
    for name, inner in detail.items() if isinstance(detail, dict) else enumerate(detail):
        if name == api_settings.NON_FIELD_ERRORS_KEY:
            yield from _pieces(inner, value, path)
            continue
        try:
            part = value[name]
        except (LookupError, TypeError):  # it is missing, or there is something else in its place
            part = None
        yield from _pieces(inner, part, f"{path}[{name}]" if isinstance(name, int) else f"{path}.{name}".lstrip("."))


def _in_words(errors: Iterable[FieldError]) -> str:
    return " ".join(f"{shown(error.field)}: {error.message}" for error in errors)
