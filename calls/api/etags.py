"""Entity tags: whether what a client knows of a row, or of a page of rows, is still so."""

import hashlib
from http import HTTPStatus
from typing import Any

import msgspec
from django.utils.cache import patch_vary_headers
from django.utils.http import parse_etags
from rest_framework.request import Request
from rest_framework.response import Response

from calls.api.problems import BadRequest, FieldError


class PreconditionFailed(BadRequest):
    """The row is no longer as the client knows it."""

    status_code = HTTPStatus.PRECONDITION_FAILED


class PreconditionRequired(BadRequest):
    """The client does not say which state of the row it means to change."""

    status_code = HTTPStatus.PRECONDITION_REQUIRED


def etag_of(shown: Any) -> str:
    """Return the strong entity tag of a representation: of a row's dictionary, or of a whole answer."""
    return f'"{hashlib.blake2b(msgspec.json.encode(shown, enc_hook=str), digest_size=16).hexdigest()}"'


def check_if_match(request: Request, current: str) -> None:
    """Raise unless ``If-Match`` names ``current``, the tag of the row as it is now, or is ``*``.

    Call it under the lock under which the row is then changed. Raises ``PreconditionRequired`` (428) when the header is
    missing, ``PreconditionFailed`` (412) when it names another state.
    """
    text = request.META.get("HTTP_IF_MATCH", "").strip()
    if not text:
        message = "Send the ETag of the row as you read it, so that nobody's change is overwritten unseen."
        raise PreconditionRequired(FieldError("If-Match", "", message))
    if text != "*" and current not in parse_etags(text):
        message = "The row has changed since you read it. Read it again, and send the ETag that comes with it."
        raise PreconditionFailed(FieldError("If-Match", text, message))


def tag(request: Request, response: Response) -> None:
    """Give the answer its tag, and take its body away when the client has that very body (304).

    A program may keep an answer, but asks each time whether it still holds; nobody between keeps one.
    """
    etag = etag_of(response.data)
    response["ETag"] = etag
    response["Cache-Control"] = "private, no-cache"
    patch_vary_headers(response, ["Authorization"])
    known = [one.removeprefix("W/") for one in parse_etags(request.META.get("HTTP_IF_NONE_MATCH", ""))]
    if etag in known or known == ["*"]:
        response.status_code = HTTPStatus.NOT_MODIFIED
        response.data = None
