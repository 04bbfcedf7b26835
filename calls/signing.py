"""Signatures of what we send, by the Standard Webhooks scheme (standardwebhooks.com)."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from standardwebhooks.webhooks import Webhook


def headers(message_id: UUID, at: datetime, content: bytes, secrets: Iterable[str]) -> dict[str, str]:
    """Return the headers that sign ``content``, sent at ``at`` (UTC), with each of ``secrets`` (``whsec_…``)."""
    text = content.decode()
    return {
        "webhook-id": str(message_id),
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(str(message_id), at, text) for secret in secrets),
    }
