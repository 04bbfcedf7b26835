"""The way in: webhook URLs, the inbox of deliveries, and what was derived from it again."""

from webhooks.models.delivery import Delivery
from webhooks.models.endpoint import Endpoint, digest_of
from webhooks.models.payload_field import PayloadField
from webhooks.models.rebuild import Rebuild, RebuildAhead, RebuildChange, RebuildSource

__all__ = [
    "Delivery",
    "Endpoint",
    "PayloadField",
    "Rebuild",
    "RebuildAhead",
    "RebuildChange",
    "RebuildSource",
    "digest_of",
]
