"""Stored deliveries as NDJSON, in the shape in which the API gives a delivery and ``import_deliveries`` reads it."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from django.db.models import QuerySet

from webhooks.api import DeliverySerializer, conversations_of
from webhooks.inbox import MOST_BYTES
from webhooks.models import Delivery

BATCH = 500
BATCH_BYTES = MOST_BYTES
"""The deliveries of a batch are read in parts of about this many bytes of bodies, so that memory stays flat."""


def export(deliveries: QuerySet[Delivery], after: tuple[datetime, UUID] | None = None) -> Iterator[list[bytes]]:
    """Yield the deliveries in parts of some lines, oldest first, each line with its line feed.

    ``after`` is the time of arrival and the id of the delivery to go on behind. Every batch is a query of its own that
    begins where the last one ended, so that no transaction stays open, however slowly the lines are taken.
    """
    chosen = deliveries.order_by("received_at", "id").values_list("received_at", "id", "size")
    while True:
        rest = chosen
        if after:
            moment, pk = after
            rest = chosen.filter(received_at__gte=moment).exclude(received_at=moment, pk__lte=pk)
        batch = list(rest[:BATCH])
        if not batch:
            return
        for ids in _parts(batch):
            part = list(Delivery.objects.filter(pk__in=ids).select_related("account").order_by("received_at", "id"))
            context = {"conversations": conversations_of(part)}
            yield [_line(delivery, context) for delivery in part]
        after = batch[-1][:2]


def _parts(batch: Sequence[tuple[datetime, UUID, int]]) -> Iterator[list[UUID]]:
    ids: list[UUID] = []
    filled = 0
    for _, pk, size in batch:
        ids.append(pk)
        filled += size
        if filled >= BATCH_BYTES:
            yield ids
            ids, filled = [], 0
    if ids:
        yield ids


def _line(delivery: Delivery, context: dict[str, Any]) -> bytes:
    return msgspec.json.encode(dict(DeliverySerializer(delivery, context=context).data)) + b"\n"
