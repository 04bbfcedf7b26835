"""Examples for the OpenAPI schema: what a body looks like, made from its schema where none was written."""

import re
from typing import Any

_ID = "01997d5e-8a4c-7c3a-9d0a-3f2b1c4d5e6f"
_OF_FORMAT = {
    "uuid": _ID,
    "date-time": "2021-09-22T13:48:30Z",
    "date": "2021-09-22",
    "uri": "https://calls.example.com/",
    "email": "asha@example.com",
    "decimal": "0.450000",
}
# What a text is, by the name of its field.
_OF_NAME: dict[str, str] = {
    "account": "delhi-support",
    "agent": "202",
    "answer_rate": "0.7500",
    "body": '{"uuid": "c62abd10-1ba8-11ec-9d3c-17d4b1a1d5a0"}',
    "assigned_to": "asha",
    "company": "Acme",
    "content_type": "application/json",
    "cost_unit": "INR",
    "customer_number": "+919000000001",
    "description": "Feeds the customer database",
    "did": "+918000000000",
    "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "external_id": "c62abd10-1ba8-11ec-9d3c-17d4b1a1d5a0",
    "extension": "202",
    "from_number": "+919000000001",
    "group": "delhi-support",
    "label": "The conversations",
    "message": "The balance is below 100 INR.",
    "method": "POST",
    "name": "Delhi support",
    "note": "Pays by card.",
    "number": "+919000000001",
    "numbers": "+919000000001",
    "phone": "+919000000009",
    "phone_region": "IN",
    "provider": "piopiy",
    "provider_status": "answered",
    "reason": "The charge of a call.",
    "rule": "Low balance",
    "slug": "delhi-support",
    "subject": "",
    "tag": "refund",
    "tags": "refund",
    "text": "Asked for a refund of order 17.",
    "time_zone": "Asia/Kolkata",
    "to_number": "+918000000000",
    "unit": "INR",
}


def example_of(schema: dict[str, Any], components: dict[str, Any], name: str = "") -> Any:
    """Return a value that fits ``schema``, with all that may be left out; ``name`` is of the field it is for."""
    if "$ref" in schema:
        return example_of(components[schema["$ref"].rpartition("/")[2]], components, name)
    for word in ("example", "const", "default"):
        if word in schema:
            return schema[word]
    if "enum" in schema:
        return schema["enum"][0]
    for word in ("oneOf", "anyOf", "allOf"):
        if word in schema:
            return example_of(schema[word][0], components, name)
    kinds = schema.get("type", "object")
    kind = kinds if isinstance(kinds, str) else kinds[0]
    if kind == "object":
        properties = schema.get("properties", {})
        return {inner: example_of(part, components, inner) for inner, part in properties.items()}
    if kind == "array":
        return [example_of(schema.get("items", {}), components, name)]
    if kind == "string":
        texts = (_OF_FORMAT.get(schema.get("format", "")), _OF_NAME.get(name), "", "0")
        return next(text for text in texts if text is not None and re.search(schema.get("pattern", ""), text))
    if kind == "boolean":
        return False
    if kind == "null":
        return None
    return schema.get("minimum", 1)
