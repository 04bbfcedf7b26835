"""Pages by keyset: a page starts after the last row of the one before, so new rows neither repeat nor hide any."""

from collections.abc import Sequence
from typing import Any

from django.core import signing
from django.db.models import Model, QuerySet
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import remove_query_param, replace_query_param

from calls.api.parameters import suggestion
from calls.api.problems import BadRequest, FieldError
from calls.keyset import after, reversed_order, values_of

DEFAULT_SIZE = 100
LARGEST_SIZE = 500


class CursorPages(BasePagination):
    """``{"next", "previous", "results"}``; the order comes from the view's ``orderings``.

    ``orderings`` maps each value of ``?ordering=`` to columns, the last of them unique, none null; the first entry is
    the default. A cursor is signed together with the table and the order it was made for.

    What it promises while others write: a row that is there from the first page to the last, in the same place of the
    order, is on exactly one of them. Rows that come, go or move meanwhile may or may not be met.
    """

    def paginate_queryset(self, queryset: QuerySet[Model], request: Request, view: Any) -> list[Any]:
        """Return the rows of the page: models, or named tuples with at least the columns of the order."""
        self._request = request
        self._fields = chosen_fields(request, view)
        size = _page_size(request)
        order = _chosen_ordering(request, view)
        signer = _signer(queryset.model, order)
        cursor = request.query_params.get("cursor")
        is_backward, values = _read_cursor(signer, cursor) if cursor else (False, None)

        walked = reversed_order(order) if is_backward else order
        rows = queryset.order_by(*walked)
        if values:
            rows = rows.filter(after(walked, values))
        found = list(rows[: size + 1])
        page, is_more = found[:size], len(found) > size
        if is_backward:
            page.reverse()

        self._next = self._previous = None
        if page and (is_more or is_backward):
            self._next = signer.sign_object([False, values_of(page[-1], order)])
        if page and (is_more if is_backward else cursor):
            self._previous = signer.sign_object([True, values_of(page[0], order)])
        return page

    def get_paginated_response(self, data: Any) -> Response:
        if self._fields is not None:
            data = [{name: value for name, value in row.items() if name in self._fields} for row in data]
        return Response({"next": self._link(self._next), "previous": self._link(self._previous), "results": data})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": ["string", "null"], "format": "uri"}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {
                "next": {**link, "description": "Address of the page that follows; null on the last.", "example": None},
                "previous": {**link, "description": "Address of the page before; null on the first.", "example": None},
                "results": schema,
            },
        }

    def parameter_names(self, view: Any) -> list[str]:
        """Return the query parameters that are read here."""
        return ["cursor", "page_size", "fields"] + (["ordering"] if len(view.orderings) > 1 else [])

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        size = {"type": "integer", "minimum": 1, "maximum": LARGEST_SIZE, "default": DEFAULT_SIZE}
        parameters = [
            _parameter("cursor", {"type": "string"}, "Where the page starts; take it from `next` or `previous`."),
            _parameter("page_size", size, "Rows a page."),
            _parameter(
                "fields",
                {"type": "array", "items": {"type": "string", "enum": _field_names(view)}},
                "The only fields to show of each row, with commas; left out: all.",
            )
            | {"explode": False, "style": "form"},
        ]
        if len(view.orderings) > 1:
            names = list(view.orderings)
            parameters.append(
                _parameter("ordering", {"type": "string", "enum": names, "default": names[0]}, "The order of the rows.")
            )
        return parameters

    def _link(self, cursor: str | None) -> str | None:
        if cursor is None:
            return None
        address = remove_query_param(self._request.build_absolute_uri(), "cursor")
        return replace_query_param(address, "cursor", cursor)


def chosen_fields(request: Request, view: Any) -> frozenset[str] | None:
    """Return the fields of a row that ``?fields=`` names; ``None``: all."""
    text = request.query_params.get("fields")
    if text is None:
        return None
    known = _field_names(view)
    chosen = [name.strip() for name in text.split(",")]
    for name in chosen:
        if name not in known:
            message = f"There is no such field. Give one or more of: {', '.join(known)}.{suggestion(name, known)}"
            raise BadRequest(FieldError("fields", name, message))
    return frozenset(chosen)


def partial_rows(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Tell the schema that ``?fields=`` makes rows with only some of their fields (a hook of drf-spectacular).

    A page holds rows as they are defined, or others of the same definition in which nothing is required: so a client
    that does not use the parameter gets rows of which it knows that nothing is missing.
    """
    schemas = result["components"]["schemas"]
    for page in list(schemas.values()):
        results = page.get("properties", {}).get("results", {})
        if "next" in page.get("properties", {}) and "$ref" in results.get("items", {}):
            reference = results["items"]["$ref"]
            whole = schemas[reference.rpartition("/")[2]]
            part = {name: value for name, value in whole.items() if name not in ("required", "example", "examples")}
            part["description"] = "The fields that `fields` names."
            schemas[f"Partial{reference.rpartition('/')[2]}"] = part
            results["items"] = {"anyOf": [results["items"], {"$ref": reference.replace("schemas/", "schemas/Partial")}]}
    return result


def cursor_after(row: Model, order: Sequence[str]) -> str:
    """Return the cursor of the page that comes after ``row`` in ``order``."""
    return _signer(type(row), order).sign_object([False, values_of(row, order)])


def _signer(model: type[Model], order: Sequence[str]) -> signing.Signer:
    return signing.Signer(salt=f"api cursor {model._meta.label} {','.join(order)}")


def _field_names(view: Any) -> list[str]:
    return list(view.get_serializer_class()().fields)


def _page_size(request: Request) -> int:
    text = request.query_params.get("page_size", str(DEFAULT_SIZE))
    if text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= LARGEST_SIZE:
        return int(text)
    raise BadRequest(FieldError("page_size", text, f"Give a whole number from 1 to {LARGEST_SIZE}."))


def _chosen_ordering(request: Request, view: Any) -> tuple[str, ...]:
    name = request.query_params.get("ordering") or next(iter(view.orderings))
    if name not in view.orderings:
        hint = suggestion(name, view.orderings)
        raise BadRequest(FieldError("ordering", name, f"Give one of: {', '.join(view.orderings)}.{hint}"))
    return view.orderings[name]


def _read_cursor(signer: signing.Signer, cursor: str) -> tuple[bool, list[str]]:
    try:
        is_backward, values = signer.unsign_object(cursor)
    except signing.BadSignature as error:
        message = "This is no cursor of this list in this order. Take it from “next” or “previous”, or leave it out."
        raise BadRequest(FieldError("cursor", cursor, message)) from error
    return is_backward, values


def _parameter(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}
