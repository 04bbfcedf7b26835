"""All the conversations that filters leave, as one file for programs: sent as it is made, or part by part."""

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from tempfile import TemporaryFile
from typing import Any, BinaryIO
from uuid import UUID

import msgspec
from django import forms
from django.db.models import QuerySet
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.utils.urls import replace_query_param

from calls import audit
from calls.api import filters
from calls.api.bulk import each
from calls.api.parameters import MomentField, one_of, whole_number
from calls.api.problems import BadRequest, FieldError
from calls.api.serializers import PARTS, ConversationSerializer
from calls.api.views import BY_START, ReadViewSet
from calls.choices import ExportFormat, Scope
from calls.counting import CAP, count_up_to_cap
from calls.exports.cells import csv_lines, defuse
from calls.exports.columns import CHUNK
from calls.exports.snapshot import PIECE, directory, read_along, snapshot
from calls.exports.streaming import download
from calls.exports.writers import CONTENT_TYPES
from calls.keyset import after
from calls.masking import masked
from calls.models import AuditEntry, Conversation

FORMATS = (ExportFormat.NDJSON.value, ExportFormat.CSV.value)
ORDER = BY_START["started_at"]
LARGEST_PART = 100_000
"""Rows."""
AT_A_TIME = 10 * CHUNK
"""Rows that one statement asks for: few of all, so that it begins with them, not with putting all in order."""

_EXAMPLES = (
    ("Lines", "application/x-ndjson", '{"id":"01997d5e-8a4c-7c3a-9d0a-3f2b1c4d5e6f","account":"delhi-support", …}\n'),
    ("Columns", "text/csv", "id,account,…\r\n01997d5e-8a4c-7c3a-9d0a-3f2b1c4d5e6f,delhi-support,…\r\n"),
)
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?", re.ASCII)
_ENCODER = msgspec.json.Encoder(enc_hook=str)
_MEMBERS = {
    name: list(getattr(member, "fields", ()))
    for name, member in ConversationSerializer._declared_fields.items()
    if name not in PARTS
}
"""The members of a conversation, and what those have in them that are objects: each of that has a column."""
_HEADER = [f"{name}_{inner}" if inner else name for name, inners in _MEMBERS.items() for inner in inners or [""]]


Position = tuple[str, str]
"""``started_at`` and ``id`` of the row after which a file goes on, in ``ORDER``."""


@dataclass
class Written:
    """What is in a file so far."""

    last: Position | None
    """Its last row, or the one it goes on after."""
    rows: int = 0
    digest: Any = None
    """What the bytes are digested with, if anything."""


class AnyAccepted(BaseContentNegotiation):
    """``?format=`` says what is sent, whatever ``Accept`` says."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> tuple[Any, str]:
        return renderers[0], renderers[0].media_type


_RESPONSE_HEADERS = {
    "Row-Count": (OpenApiTypes.INT, "With `part_size`: how many conversations the part holds."),
    "Content-Digest": (OpenApiTypes.STR, "With `part_size`: SHA-256 of the part's bytes, as RFC 9530 has it."),
    "Link": (OpenApiTypes.STR, 'With `part_size`: address of the part that follows, with `rel="next"`, if any does.'),
}
_PARAMETERS = [
    OpenApiParameter("format", OpenApiTypes.STR, enum=FORMATS, default=FORMATS[0], description="The kind of file."),
    OpenApiParameter(
        "after",
        {"type": "string", "maxLength": 80},
        description="Go on after this row: `started_at` and `id` of the last row you have in full, with a comma "
        "between them. What follows is the rest of the file, without the header of CSV.",
    ),
    OpenApiParameter(
        "part_size",
        {"type": "integer", "minimum": 1, "maximum": LARGEST_PART},
        description="Send so many rows at most, with their number and digest in the answer's headers, and the address "
        "of the part that follows. All parts, one after the other, are the whole file.",
    ),
    OpenApiParameter(
        "trailer",
        OpenApiTypes.BOOL,
        default=False,
        description="Of NDJSON without `part_size`: add a last line that tells the number of rows before it, the "
        "SHA-256 of their bytes, and `after` for what may follow.",
    ),
    *(
        OpenApiParameter(name, kind, OpenApiParameter.HEADER, description=description, response=[200])
        for name, (kind, description) in _RESPONSE_HEADERS.items()
    ),
]


class ConversationExport(ReadViewSet):
    """All the conversations that the filters leave, the oldest first, in a file that is sent while it is made.

    A line of NDJSON is a conversation as the list has it. CSV has a column for each of its members, `agent_id` and the
    like for what is in an object; several words have commas between them, nothing is an empty cell, and a text that a
    spreadsheet would take for a formula has an apostrophe before it. Phone numbers stay as they are.

    What is sent is what there is at one moment: calls that change later are in the change feed. A file that breaks off
    is gone on with by `after`; one without the end of its chunks, which any client reports as an error, has broken off.
    """

    required_scope = Scope.EXPORT
    queryset = Conversation.objects.all()
    serializer_class = ConversationSerializer
    filterset_class = filters.ConversationFilters
    pagination_class = None
    content_negotiation_class = AnyAccepted
    extra_parameters = ("format", "after", "part_size", "trailer")

    @extend_schema(
        operation_id="conversations_export",
        filters=True,
        parameters=_PARAMETERS,
        responses={
            (200, "application/x-ndjson"): OpenApiResponse(OpenApiTypes.STR, "The file, or the part."),
            (200, "text/csv"): OpenApiTypes.STR,
        },
        examples=[
            OpenApiExample(name, text, media_type=kind, response_only=True, status_codes=["200"])
            for name, kind, text in _EXAMPLES
        ],
    )
    def retrieve(self, request: Request) -> HttpResponseBase:
        form = one_of(request, "format", FORMATS, FORMATS[0])
        text = request.query_params.get("after")
        begin = position_of(text) if text else None
        part_size = whole_number(request, "part_size", LARGEST_PART, 0)
        has_trailer = one_of(request, "trailer", ("true", "false"), "false") == "true"
        if has_trailer and (part_size or form == ExportFormat.CSV):
            message = "Only NDJSON without “part_size” has a last line for it. With “part_size” the headers tell it."
            raise BadRequest(FieldError("trailer", "true", message))
        rows = self.filter_queryset(self.get_queryset())
        if part_size:
            return self._part(rows, form, begin, part_size)
        if request.method == "HEAD":
            return HttpResponse(content_type=CONTENT_TYPES[form])
        found = count_up_to_cap(rows.filter(after(ORDER, begin)) if begin else rows)
        self._record(form, found if found <= CAP else f"more than {CAP}")
        return self._download(read_along(lambda file: _whole(file, rows, form, begin, has_trailer)), form)

    def _part(
        self, rows: QuerySet[Conversation], form: str, begin: Position | None, part_size: int
    ) -> HttpResponseBase:
        written = Written(begin, digest=hashlib.sha256())
        file = TemporaryFile(dir=directory())  # noqa: SIM115 - closed when it is sent
        with snapshot():
            for _ in write(file, rows, form, written, part_size):
                pass
            is_more = written.rows == part_size and rows.filter(after(ORDER, written.last)).exists()
        if self.request.method != "HEAD":
            self._record(form, written.rows)
        response = self._download(_pieces(file), form)
        response["Content-Length"] = str(file.tell())
        response["Row-Count"] = str(written.rows)
        response["Content-Digest"] = f"sha-256=:{base64.b64encode(written.digest.digest()).decode()}:"
        if is_more:
            address = replace_query_param(self.request.build_absolute_uri(), "after", ",".join(written.last))
            response["Link"] = f'<{address}>; rel="next"'
        return response

    def _record(self, form: str, rows: int | str) -> None:
        named = "; ".join(f"{name}: {value}" for name, value in self.request.query_params.items())
        name = f"conversations as {ExportFormat(form).label}"
        audit.record(self.request, AuditEntry.Action.EXPORT, None, name, filters=masked(named), rows=rows)

    def _download(self, pieces: Iterator[bytes], form: str) -> HttpResponseBase:
        return download(self.request._request, pieces, CONTENT_TYPES[form], f"conversations.{form}")


def position_of(text: str) -> Position:
    """Return where a file goes on that ``after`` says. Raises ``BadRequest``."""
    moment, _, pk = text.partition(",")
    try:
        return MomentField().clean(moment).isoformat(), str(UUID(pk))
    except (forms.ValidationError, ValueError) as error:
        message = (
            "Give “started_at” and “id” of the last row you have, with a comma between them, such as "
            "2021-09-22T13:48:30Z,01997d5e-8a4c-7c3a-9d0a-3f2b1c4d5e6f."
        )
        raise BadRequest(FieldError("after", text, message)) from error


def write(
    file: BinaryIO, rows: QuerySet[Conversation], form: str, written: Written, most: int | None = None
) -> Iterator[None]:
    """Write those of ``rows`` that come after ``written.last`` to ``file``, ``most`` of them if that is given.

    It yields whenever more of them are written, and keeps ``written`` up to date. It is to be read in one snapshot.
    """
    rows = rows.order_by(*ORDER)
    if form == ExportFormat.CSV and written.last is None:
        _put(file, written, csv_lines([_HEADER]))
    yield
    while most is None or written.rows < most:
        size = AT_A_TIME if most is None else min(AT_A_TIME, most - written.rows)
        end = written.rows + size
        found = _noted(each((rows.filter(after(ORDER, written.last)) if written.last else rows)[:size]), written)
        while lines := (_csv_lines if form == ExportFormat.CSV else _json_lines)(islice(found, CHUNK)):
            _put(file, written, lines)
            yield
        if written.rows < end:
            return


def _noted(rows: Iterator[dict[str, Any]], written: Written) -> Iterator[dict[str, Any]]:
    """Yield the rows, and keep their number and the place of the last one."""
    for row in rows:
        written.rows += 1
        written.last = (row["started_at"], row["id"])
        yield row


def _whole(
    file: BinaryIO, rows: QuerySet[Conversation], form: str, begin: Position | None, has_trailer: bool
) -> Iterator[None]:
    written = Written(begin, digest=hashlib.sha256() if has_trailer else None)
    with snapshot():
        yield from write(file, rows, form, written)
    if has_trailer:
        end = {
            "rows": written.rows,
            "sha256": written.digest.hexdigest(),
            "after": ",".join(written.last) if written.last else None,
        }
        file.write(_json_lines([{"_end": end}]))
        yield


def _csv_lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return csv_lines(map(_cells, rows))


def _json_lines(rows: Iterable[dict[str, Any]]) -> bytes:
    """Return a line of JSON for each row, with nothing in it that any program takes for the end of a line."""
    lines = _ENCODER.encode_lines(rows)
    for char in () if lines.isascii() else ("\x85", "\u2028", "\u2029"):  # what JSON leaves as it is
        lines = lines.replace(char.encode(), f"\\u{ord(char):04x}".encode())
    return lines


def _put(file: BinaryIO, written: Written, lines: bytes) -> None:
    file.write(lines)
    if written.digest:
        written.digest.update(lines)


def _cells(row: dict[str, Any]) -> Iterator[str]:
    """Yield the cells of a conversation."""
    for name, inners in _MEMBERS.items():
        if inners:
            member = row[name] or {}
            yield from (_cell(member.get(inner)) for inner in inners)
        else:
            yield _cell(row[name])


def _cell(value: Any) -> str:
    if isinstance(value, msgspec.Raw):
        value = msgspec.json.decode(value)
    if value is None:
        return ""
    if isinstance(value, str):
        return value if _NUMBER.fullmatch(value) else defuse(value)
    if isinstance(value, list):
        return defuse(", ".join(value))
    return str(value) if type(value) is int else _ENCODER.encode(value).decode()


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        file.seek(0)
        while piece := file.read(PIECE):
            yield piece
