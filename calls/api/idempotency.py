"""Writes of programs: what one does and its answer are one transaction, and a repeat does nothing again."""

import functools
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

import psycopg
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.db import OperationalError, connection, transaction
from django.utils.encoding import force_bytes
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from calls.access import reach_of
from calls.api.parsing import TooLarge
from calls.api.problems import BadRequest, FieldError
from calls.models import IdempotentRequest
from calls.sealing import SealBroken, seal, unseal

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
KEPT = timedelta(hours=24)
LONGEST_KEY = 255
WAIT_SECONDS = 5
"""How long a repeat waits for the first one, which is still going on, before it is told to come again."""
_KEPT_HEADERS = ("ETag", "Location")


class Conflict(APIException):
    """What is asked for does not go with how things stand; the detail says why and what to do."""

    status_code = HTTPStatus.CONFLICT


class StillRunning(Conflict):
    """The first request with this Idempotency-Key has not been answered yet."""

    default_detail = f"The first request with this {HEADER} is still running. Send it again in a moment."
    wait = 1


class AnotherRequest(APIException):
    """The Idempotency-Key has been used for another request."""

    status_code = HTTPStatus.UNPROCESSABLE_ENTITY
    default_detail = (
        f"This {HEADER} came with another request (method, address or body) before. "
        "Use a new one for each new request, and the same only to repeat a request unchanged."
    )


def write(action: Callable[..., Response]) -> Callable[..., Response]:
    """Make ``action`` of a view a write: it needs the scope manage, and all that it does is one transaction.

    A request with an ``Idempotency-Key`` is done once: whoever repeats it within ``KEPT``, at the same time too, gets
    the first one's answer. Only what was done is kept; a request that was refused may be sent again.
    """

    @functools.wraps(action)
    def run(view: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
        with transaction.atomic():
            key = _key(request)
            if key is None:
                return action(view, request, *args, **kwargs)
            kept = _claim(request, key)
            if kept.status:
                return _replay(kept)
            response = action(view, request, *args, **kwargs)
            _keep(kept, request, response)
            return response

    run.is_write = True  # type: ignore[attr-defined]
    return run


def forget(now: datetime) -> int:
    """Delete the answers that have been kept long enough, and return how many those were."""
    return IdempotentRequest.objects.filter(created_at__lt=now - KEPT).delete()[0]


def _key(request: Request) -> str | None:
    text = request.headers.get(HEADER)
    if text is None:
        return None
    if not (text.strip() and len(text) <= LONGEST_KEY and text.isascii() and text.isprintable()):
        message = f"Give 1 to {LONGEST_KEY} printable ASCII characters, such as a UUID that you make for each request."
        raise BadRequest(FieldError(HEADER, text, message))
    return text


def _claim(request: Request, key: str) -> IdempotentRequest:
    """Return the row of the key: a new one, or that of the first request with its answer."""
    digest = _digest(request)
    try:
        with _short_wait():
            kept, _ = IdempotentRequest.objects.get_or_create(
                api_key=request.auth, key=key, defaults={"digest": digest}
            )
    except OperationalError as error:
        if isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
            raise StillRunning from error
        raise
    if kept.digest != digest:
        raise AnotherRequest
    return kept


@contextmanager
def _short_wait() -> Iterator[None]:
    """Have statements wait no longer than ``WAIT_SECONDS`` for a lock, where the database can be told so."""
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{WAIT_SECONDS}s"])
        yield
        cursor.execute("SET LOCAL lock_timeout TO DEFAULT")


def _digest(request: Request) -> str:
    try:
        body = request.body
    except RequestDataTooBig as error:
        raise TooLarge from error
    digest = hashlib.sha256()
    # The accounts too: who may see less than before is not told again what it saw then.
    accounts = sorted(reach_of(request.auth).accounts)
    for part in (request.method, request.get_full_path(), body, str(accounts)):
        part = force_bytes(part)
        digest.update(len(part).to_bytes(8) + part)
    return digest.hexdigest()


def _keep(kept: IdempotentRequest, request: Request, response: Response) -> None:
    if response.status_code >= HTTPStatus.MULTIPLE_CHOICES:
        kept.delete()
        return
    kept.status = response.status_code
    kept.headers = {name: response[name] for name in _KEPT_HEADERS if name in response}
    kept.answer = seal(request.accepted_renderer.render(response.data).decode() or "null", settings.SECRET_KEY)
    kept.save(update_fields=["status", "headers", "answer"])


def _replay(kept: IdempotentRequest) -> Response:
    try:
        data = json.loads(unseal(kept.answer, settings.SECRET_KEY))
    except SealBroken as error:
        raise Conflict(
            "This request was done, but its answer cannot be told again: the server's SECRET_KEY has changed since."
        ) from error
    return Response(data, kept.status, headers={**kept.headers, REPLAYED: "true"})
