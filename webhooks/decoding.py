"""One delivery's bytes to the payloads in them. Pure. The content type is a hint at most: senders get it wrong."""

import codecs
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from urllib.parse import parse_qsl

from webhooks.errors import DeliveryError, UndecodableBody, UnrecognizedPayload, shorten

Payload = Mapping[str, object]

DEEPEST = 20
"""Brackets within brackets; real payloads have three."""
MOST_FIELDS = 2000
MOST_PAYLOADS = 1000
"""Elements of a JSON list of payloads; no provider is known to send more than one payload at a time."""
LONGEST_INTEGER = 30
"""Digits of a JSON integer that is taken as a number; a longer one is kept as text."""

# The four-byte marks come first: the mark of UTF-32-LE begins with that of UTF-16-LE.
_BOMS = {
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
    codecs.BOM_UTF8: "utf-8",
    b"": "utf-8",
}
# All but the brackets. A text that never ends reaches to the end of the body: looked for again from each of its quotes,
# it would take time that grows with the square of its length. Nothing behind it is ever read as JSON.
_NO_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[^]["{}]++', re.DOTALL)
_BARE_KEY = re.compile(r"[{,]\s*[A-Za-z_][A-Za-z0-9_]*\s*:")
_FORM = re.compile(r"[^=&\s]{1,100}=")
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_PART_HEAD = re.compile(rb"\r?\n\r?\n")
_DISPOSITION = re.compile(rb"^content-disposition:[^\r\n]*", re.IGNORECASE | re.MULTILINE)
_FIELD_NAME = re.compile(rb';[ \t]*name=(?:"([^"]*)"|([^;"\s]+))', re.IGNORECASE)
_FILE_NAME = re.compile(rb";[ \t]*filename\*?=", re.IGNORECASE)
_EXPONENT = re.compile(r"[eE][+-]?0*([0-9]+)")


def decode(*, body: bytes, query: bytes, content_type: str) -> list[Payload | DeliveryError]:
    """Return the payloads of a delivery: one, or as many as a JSON list holds.

    The body counts where there is one, else the query. In a list, what is no object is returned as the error that it
    is, so that its neighbours can be read. Raises ``UndecodableBody`` when the whole makes no sense.
    """
    if not body.strip():
        if not query:
            raise UndecodableBody("the request has neither a body nor a query")
        # CallerDesk puts its own “?” behind a URL that has a query already.
        return [_form(query.replace(b"?", b"&").decode("utf-8", "replace"))]
    if content_type.lower().startswith("multipart/form-data") and body.lstrip().startswith(b"--"):
        return [_multipart(body, content_type)]
    if body.startswith(b"\x1f\x8b"):
        raise UndecodableBody("the body is compressed with gzip; it has to be sent plain")
    text = _text(body)
    if text.lstrip().startswith(("{", "[")):
        return _json(text)
    if _FORM.match(text.lstrip()) and "<" not in text[:1]:
        return [_form(text.strip())]
    return _json(text)


def _text(body: bytes) -> str:
    bom, encoding = next((bom, encoding) for bom, encoding in _BOMS.items() if body.startswith(bom))
    try:
        return body[len(bom) :].decode(encoding)
    except UnicodeDecodeError as error:
        odd = body[len(bom) + error.start :][:8]
        raise UndecodableBody(f"the body is no {encoding} text from byte {error.start} on", value=odd) from None


def _json(text: str) -> list[Payload | DeliveryError]:
    _check_depth(text)
    try:
        value = _decoder.decode(text)
    except (ValueError, RecursionError) as error:
        if _BARE_KEY.search(text[:2000]) and text.lstrip().startswith("{"):
            message = "this is a JavaScript literal, not JSON: the keys have no quotes"
        else:
            message = f"the body is no JSON: {error}"
        raise UndecodableBody(shorten(message), value=text[:80]) from None
    if isinstance(value, list):
        if not value:
            raise UndecodableBody("the body is an empty list", value=text[:80])
        if len(value) > MOST_PAYLOADS:
            raise UndecodableBody(f"more than {MOST_PAYLOADS} payloads in one list", value=len(value))
        return [item if isinstance(item, dict) else _no_object(item) for item in value]
    if not isinstance(value, dict):
        raise UndecodableBody("expected a JSON object", value=text[:80])
    return [value]


def _no_object(item: object) -> DeliveryError:
    return UnrecognizedPayload("expected each element of the list to be an object", value=item)


def _check_depth(text: str) -> None:
    """Refuse deep nesting before the parser meets it: brackets inside strings do not count."""
    if text.count("{") + text.count("[") <= DEEPEST:
        return
    depth = 0
    for char in _NO_BRACKETS.sub("", text):
        if char in "{[":
            depth += 1
            if depth > DEEPEST:
                raise UndecodableBody(f"more than {DEEPEST} brackets within brackets", value=text[:80])
        else:
            depth -= 1


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(pairs) > MOST_FIELDS:
        raise UndecodableBody(f"more than {MOST_FIELDS} fields in one object", value=len(pairs))
    result: dict[str, object] = {}
    for key, value in pairs:
        if key in result and result[key] != value:
            raise UndecodableBody("the field stands twice with different values", field=key, value=value)
        result[key] = value
    return result


def _decimal(text: str) -> Decimal:
    exponent = _EXPONENT.search(text)
    if exponent and len(exponent[1]) > 2:
        raise UndecodableBody("a number with an exponent beyond 99", value=text)
    return Decimal(text)


def _refuse_constant(word: str) -> object:
    raise UndecodableBody("the body is no JSON: there is no such number", value=word)


_decoder = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_float=_decimal,
    parse_int=lambda digits: int(digits) if len(digits) <= LONGEST_INTEGER else digits,
    parse_constant=_refuse_constant,
)


def _form(text: str) -> dict[str, object]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="replace")
    except ValueError:
        raise UndecodableBody(f"more than {MOST_FIELDS} fields", value=text[:80]) from None
    if not pairs or all(not value for _, value in pairs):
        raise UndecodableBody("neither JSON nor a form with values", value=text[:80])
    return _object(list(pairs))


def _multipart(body: bytes, content_type: str) -> dict[str, object]:
    """Return the fields (RFC 7578); files are left out.

    The standard library's parser is made for mail: it follows parts within parts until the stack is full, and takes
    seconds for heads of some kilobytes.
    """
    boundary = _BOUNDARY.search(content_type)
    if not boundary:
        raise UndecodableBody("a multipart body whose content type names no boundary", value=content_type)
    line = b"--" + re.escape((boundary[1] or boundary[2]).encode())
    parts = re.split(rb"(?:\A|\n)" + line + rb"(?:--)?[ \t]*+(?=\r?\n|\Z)", body.strip(), maxsplit=MOST_FIELDS + 2)
    if len(parts) > MOST_FIELDS + 2:
        raise UndecodableBody(f"more than {MOST_FIELDS} fields", value=body[:80])
    pairs: list[tuple[str, object]] = []
    for part in parts:
        head, *content = _PART_HEAD.split(part, maxsplit=1)
        disposition = _DISPOSITION.search(head)
        name = disposition and _FIELD_NAME.search(disposition[0])
        if disposition and name and content and not _FILE_NAME.search(disposition[0]):
            text = content[0].removesuffix(b"\r").decode("utf-8", "replace")
            pairs.append(((name[1] or name[2] or b"").decode("utf-8", "replace"), text))
    if not pairs:
        raise UndecodableBody("a multipart body without a field", value=body[:80])
    return _object(pairs)
