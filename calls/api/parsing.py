"""JSON bodies, read strictly: what is ambiguous or cannot be stored is refused, by name, before any view sees it."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from itertools import accumulate
from typing import IO, Any, NoReturn

from django.conf import settings
from rest_framework.exceptions import APIException
from rest_framework.parsers import BaseParser

from calls.api.problems import MOST_ERRORS, BadRequest, FieldError

DEEPEST = 32
"""How many objects and lists may stand inside each other."""
LARGEST_INTEGER = 2**63 - 1
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_STEPS = {"{": 1, "[": 1, "}": -1, "]": -1}
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class TooLarge(APIException):
    """A body that is longer than any that is asked for."""

    status_code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    default_detail = f"The body is larger than {settings.DATA_UPLOAD_MAX_MEMORY_SIZE} bytes. Send less at a time."


class StrictJsonParser(BaseParser):
    """One JSON object in UTF-8.

    Refused are: more than one value for a key, NaN and Infinity, whole numbers beyond 64 bits, NUL and halves of
    surrogate pairs in text, and nesting deeper than ``DEEPEST``.
    """

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        raw = stream.read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
        if len(raw) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            raise TooLarge
        return read_object(raw)


def read_object(raw: bytes) -> dict[str, Any]:
    """Return the object that ``raw`` is the JSON of. Raises ``BadRequest`` that names what is wrong in it."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        _refuse("body", raw[error.start : error.start + 10].hex(), "These bytes are no UTF-8. Send JSON in UTF-8.")
    steps = (_STEPS[char] for char in _STRINGS.sub("", text) if char in _STEPS)
    if max(accumulate(steps), default=0) > DEEPEST:
        _refuse("body", text, f"It is nested too deep. At most {DEEPEST} levels are read.")
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_no_number, parse_int=_integer, parse_float=_float
        )
    except json.JSONDecodeError as error:
        message = f"This is no JSON: {error.msg} (line {error.lineno}, column {error.colno})."
        _refuse("body", text[max(0, error.pos - 10) : error.pos + 30], message)
    if not isinstance(value, dict):
        _refuse("body", text, "Send a JSON object: names and values in braces.")
    errors = [
        FieldError(path, part, "It holds a NUL or half of a surrogate pair, which cannot be stored. Leave it out.")
        for path, part in _texts(value, "")
        if _UNSTORABLE.search(part)
    ]
    if errors:
        raise BadRequest(*errors[:MOST_ERRORS])
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            _refuse(name, _shown(value), "This name is there twice. Give it once.")
        found[name] = value
    return found


def _no_number(text: str) -> NoReturn:
    _refuse("body", text, "JSON has no such number. Give a finite one, or null.")


def _integer(text: str) -> int:
    if len(text) > len(str(-LARGEST_INTEGER)) or abs(int(text)) > LARGEST_INTEGER:
        _refuse("body", text, f"This number is too large. Give at most {LARGEST_INTEGER}.")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield every text in ``value``, names included, with where it is."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for name, part in value.items():
            inner = f"{path}.{name}" if path else name
            yield inner, name
            yield from _texts(part, inner)
    elif isinstance(value, list):
        for i, part in enumerate(value):
            yield from _texts(part, f"{path}[{i}]")


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _refuse(field: str, value: str, message: str) -> NoReturn:
    raise BadRequest(FieldError(field, value, message))
