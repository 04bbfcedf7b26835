"""Deliveries put into the inbox as the receiver does, and wire files as deliveries."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

from calls.models import Account
from webhooks.models import Delivery

WIRE_FILES = Path(__file__).parent.parent / "deliveries"
NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


def deliver(
    account: Account, payload: object, *, received_at: datetime = NOON, content_type: str = "application/json"
) -> Delivery:
    """Store a POST of ``payload``: an object as JSON, bytes as they are."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return _store(account, "POST", content_type, b"", body, received_at)


def deliver_file(account: Account, provider: str, name: str, *, received_at: datetime | None = None) -> Delivery:
    """Store the wire file ``tests/deliveries/<provider>/<name>.json`` as its method and content type say."""
    wire = json.loads((WIRE_FILES / provider / f"{name}.json").read_text())
    method, content_type = wire["method"], wire["content_type"]
    if "raw" in wire:
        content = wire["raw"].encode()
    elif "json" in content_type:
        content = json.dumps(wire["payload"]).encode()
    else:
        content = urlencode(wire["payload"]).encode()
    query, body = (content, b"") if method == "GET" else (wire.get("query", "").encode(), content)
    arrived = received_at or datetime.fromisoformat(wire["received_at"])
    return _store(account, method, content_type, query, body, arrived)


def _store(
    account: Account, method: str, content_type: str, query: bytes, body: bytes, received_at: datetime
) -> Delivery:
    return Delivery.objects.create(
        account=account,
        method=method,
        content_type=content_type,
        query=query,
        body=body,
        size=len(body),
        digest=hashlib.sha256(body or query).hexdigest(),
        received_at=received_at,
    )
