"""How the OpenAPI schema is made.

``completed`` adds to the finished document what all operations have in common: errors with headers and examples, the
headers of requests and answers, links from lists to rows, and an example wherever none was written.
"""

from collections.abc import Iterator
from typing import Any

from drf_spectacular.openapi import AutoSchema

from calls.api.examples import example_of
from calls.api.parameters import MOST_VALUES
from calls.api.problems import MEDIA_TYPE, document

Document = dict[str, Any]
METHODS = ("get", "post", "put", "patch", "delete")
CHANGES = frozenset({"put", "patch", "delete"})
"""Methods that change what is there already, and must not overwrite what somebody else wrote meanwhile."""

# status: what it means, and the detail and errors of its example
_PROBLEMS: dict[int, tuple[str, str, tuple[tuple[str, str, str], ...]]] = {
    400: (
        "A parameter or a field is unknown or wrong; `errors` names it and says what is allowed.",
        "page_size: Give a whole number from 1 to 500.",
        (("page_size", "1000", "Give a whole number from 1 to 500."),),
    ),
    401: (
        "The key is missing, not known, or no longer active.",
        "This API key is not known. Make one with “manage.py create_api_key NAME”.",
        (),
    ),
    403: ("The key lacks the scope that is needed.", "This key lacks the scope “manage”.", ()),
    404: ("There is no such row, or the key may not see it.", "There is nothing at this address.", ()),
    405: ("This address knows no such method; `Allow` names those it knows.", "Method “POST” not allowed.", ()),
    406: (
        "It cannot be had in any of the media types that `Accept` names.",
        "Could not satisfy the request Accept header.",
        (("Accept", "text/html", "It can be had as application/json."),),
    ),
    409: (
        "It cannot be done as things are, or the request with this `Idempotency-Key` is still at work.",
        "The request with this Idempotency-Key is still at work. Send it again in a moment.",
        (),
    ),
    412: (
        "It has changed since it was read: `If-Match` names another version. Read it again first.",
        "If-Match: It has changed since. Read it again, and send the ETag that it has then.",
        (
            (
                "If-Match",
                '"6b1f3a0e5d2c4b18"',
                "It has changed since. Read it again, and send the ETag that it has then.",
            ),
        ),
    ),
    411: (
        "The length of the body is not told.",
        "The length of the body is not told. Send it whole, with the header Content-Length.",
        (),
    ),
    413: ("The body is too large.", "The body is larger than 1048576 bytes. Send less at a time.", ()),
    415: (
        "The body is of another type than JSON.",
        "Unsupported media type “text/plain” in request.",
        (("Content-Type", "text/plain", "Send application/json."),),
    ),
    422: (
        "This `Idempotency-Key` was sent with another request before.",
        "Idempotency-Key: It was sent with another request before. Make a new one for each request.",
        (
            (
                "Idempotency-Key",
                "refund-17",
                "It was sent with another request before. Make a new one for each request.",
            ),
        ),
    ),
    428: (
        "`If-Match` is missing: without it, what somebody else wrote meanwhile would be lost.",
        "If-Match: It is missing. Send the ETag that came with what you read.",
        (("If-Match", "", "It is missing. Send the ETag that came with what you read."),),
    ),
    429: (
        "Too many requests in a minute; `Retry-After` says in how many seconds to go on.",
        "At most 600 requests with this key are answered in a minute.",
        (),
    ),
    500: (
        "A fault of the server; the log has more under the number in `detail`.",
        "This is a fault of the server. Tell whoever runs it the number of the incident: 3f9c2ab1d0e4.",
        (),
    ),
    503: ("The database does not answer in time.", "The database does not answer in time. Try again later.", ()),
}
_TEXT = {"type": "string"}
_SCHEMAS: dict[str, Document] = {
    "Problem": {
        "type": "object",
        "description": "An error, as RFC 9457 has it.",
        "properties": {
            "type": _TEXT,
            "title": {**_TEXT, "description": "What the status means."},
            "status": {"type": "integer"},
            "detail": {**_TEXT, "description": "What is wrong."},
            "errors": {"type": "array", "items": {"$ref": "#/components/schemas/ProblemError"}},
        },
        "required": ["type", "title", "status", "detail"],
    },
    "ProblemError": {
        "type": "object",
        "description": "One thing wrong with a request.",
        "properties": {
            "field": {**_TEXT, "description": "The parameter, header or field; `filters.account[0]` within a body."},
            "value": {**_TEXT, "description": "What was sent, cut to 200 characters."},
            "message": {**_TEXT, "description": "What is wrong, and what is allowed."},
        },
        "required": ["field", "value", "message"],
    },
}
_HEADERS: dict[str, Document] = {
    "RateLimit": {"description": "What is left of the limit and in how many seconds there is more: `r`, `t`."},
    "RateLimit-Policy": {"description": "The limit: `q` requests in `w` seconds."},
    "Retry-After": {"description": "In how many seconds to send it again.", "schema": {"type": "integer"}},
    "WWW-Authenticate": {"description": "The scheme to use: Bearer.", "required": True},
    "Allow": {"description": "The methods that this address knows.", "required": True},
    "ETag": {"description": "The version of this answer, for If-None-Match and If-Match."},
    "Idempotent-Replayed": {"description": "`true`: this is the answer that the same request had the first time."},
}
_HEADERS_OF = {401: ("WWW-Authenticate",), 405: ("Allow",), 429: ("Retry-After",), 503: ("Retry-After",)}
_EVERY_ANSWER = ("RateLimit", "RateLimit-Policy")
_REQUEST_HEADERS: dict[str, Document] = {
    "IfNoneMatch": {
        "name": "If-None-Match",
        "description": "The ETag of what you have: 304 without a body tells that it is still the same.",
        "schema": _TEXT,
    },
    "IfMatch": {
        "name": "If-Match",
        "description": "The ETag of what you read: it is written only if nobody has changed it since.",
        "required": True,
        "schema": _TEXT,
    },
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "description": "Up to 255 characters that you make anew for each request: sent again with the same, it is done "
        "once, and answered alike for 24 hours.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]*[!-~][ -~]*$"},
    },
}
_IDEMPOTENCY_KEY = {"$ref": "#/components/parameters/IdempotencyKey"}


class ApiSchema(AutoSchema):
    """Says which scope an operation needs, and which operations may be repeated safely."""

    def get_operation(self, *arguments: Any) -> Document | None:
        operation = super().get_operation(*arguments)
        if operation and getattr(getattr(self.view, self.view.action, None), "is_write", False):
            operation.setdefault("parameters", []).append(_IDEMPOTENCY_KEY)
        return operation

    def get_description(self) -> str:
        return f"{super().get_description()}\n\nNeeds a key with the scope `{self.view.required_scope}`.".strip()

    def _get_parameters(self) -> list[dict[str, Any]]:
        parameters = super()._get_parameters()
        filters = getattr(getattr(self.view, "filterset_class", None), "base_filters", {})
        for parameter in parameters:
            if parameter["schema"].get("type") == "array":
                parameter["schema"]["minItems"] = 1  # a blank parameter is refused
                if parameter["name"] in filters:
                    parameter["schema"]["maxItems"] = MOST_VALUES
            if parameter["in"] == "path" and "description" not in parameter:
                parameter["description"] = "Which one."
        return parameters


def completed(result: Document, **_: Any) -> Document:
    """Return the document with what all operations have in common. A hook of drf-spectacular."""
    components = result["components"]
    components["schemas"] |= _SCHEMAS
    components["headers"] = {name: {"schema": _TEXT, **header} for name, header in _HEADERS.items()}
    components["parameters"] = {name: {"in": "header", **header} for name, header in _REQUEST_HEADERS.items()}
    components["responses"] = {f"Problem{status}": _problem_response(status) for status in _PROBLEMS}
    for path, method, operation in operations_of(result):
        _complete(path, method, operation, components)
    for path, method, operation in operations_of(result):
        _link(path, method, operation, result["paths"], components)
    return result


def operations_of(result: Document) -> Iterator[tuple[str, str, Document]]:
    """Yield every operation of an OpenAPI document with its path and method."""
    for path, item in result["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


def _problem_response(status: int) -> Document:
    description, detail, errors = _PROBLEMS[status]
    return {
        "description": description,
        "headers": _headers(*_HEADERS_OF.get(status, ()), *(_EVERY_ANSWER if status < 500 else ())),
        "content": {MEDIA_TYPE: _content(document(status, detail, errors))},
    }


def _content(example: Document) -> Document:
    return {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}


def _headers(*names: str) -> Document:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _complete(path: str, method: str, operation: Document, components: Document) -> None:
    responses = operation["responses"]
    statuses = {400, 401, 403, 405, 406, 429, 500, 503}
    headers = [*_EVERY_ANSWER]
    parameters = []
    if "{" in path:
        statuses.add(404)
    if "requestBody" in operation:
        statuses |= {411, 413, 415}
    if _IDEMPOTENCY_KEY in operation.get("parameters", ()):
        statuses |= {409, 422}
        headers.append("Idempotent-Replayed")
    if method in CHANGES:
        statuses |= {412, 428}
        parameters.append("IfMatch")
    if method == "get" and "application/json" in responses.get("200", {}).get("content", {}):
        headers.append("ETag")
        parameters.append("IfNoneMatch")
        responses["304"] = {"description": "It is still what `If-None-Match` names.", "headers": _headers("ETag")}
    named = {parameter.get("name") for parameter in operation.get("parameters", ())}
    operation.setdefault("parameters", []).extend(
        {"$ref": f"#/components/parameters/{name}"}
        for name in parameters
        if _REQUEST_HEADERS[name]["name"] not in named
    )
    for status in statuses:
        shared = {"$ref": f"#/components/responses/Problem{status}"}
        own = responses.get(str(status))
        if own is None or not own.get("description"):
            responses[str(status)] = shared
        elif not own.get("content"):
            responses[str(status)] = {**components["responses"][f"Problem{status}"], **own}
    for status, response in responses.items():
        if "$ref" in response or status.startswith(("4", "5")):
            continue
        response["description"] = response.get("description") or "As asked for."
        response["headers"] = _headers(*headers) | response.get("headers", {})
        for content in response.get("content", {}).values():
            _exemplify(content, components)
    for content in operation.get("requestBody", {}).get("content", {}).values():
        _exemplify(content, components)
    operation["responses"] = dict(sorted(responses.items()))


def _exemplify(content: Document, components: Document) -> None:
    if "example" not in content and "examples" not in content:
        content["example"] = example_of(content.get("schema", {}), components["schemas"])


def _link(path: str, method: str, operation: Document, paths: Document, components: Document) -> None:
    """Tell where the parameters of an operation on one row are to be had: from the list, or from making the row."""
    response = operation["responses"].get("201" if method == "post" else "200", {})
    row = "$response.body#/" + ("" if method == "post" else "results/0/")
    for content in response.get("content", {}).values():
        properties = _properties(content.get("schema", {}), components)
        if method != "post":
            items = properties.get("results", {}).get("items", {})
            properties = _properties(items.get("anyOf", [items])[0], components)
        for other, item in paths.items():
            rest = other.removeprefix(path)
            if rest == other or not rest.startswith("{"):
                continue
            parameter, _, further = rest[1:].partition("}")
            source = parameter if parameter in properties else "id"
            if source not in properties or "{" in further:
                continue
            for target in METHODS:
                if target in item:
                    parameters = {parameter: row + source}
                    if "{" in path:
                        parameters |= {name: f"$request.path.{name}" for name in _parameters_of(path)}
                    name = item[target]["operationId"]
                    response.setdefault("links", {})[name] = {"operationId": name, "parameters": parameters}


def _parameters_of(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


def _properties(schema: Document, components: Document) -> Document:
    if "$ref" in schema:
        schema = components["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema.get("properties", {})
