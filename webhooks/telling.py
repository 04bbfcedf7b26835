"""Having subscriptions told of deliveries that could not be understood."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from calls.choices import EventType
from calls.models import Account
from calls.subscriptions.occurrences import Occurrence, emit


class Quarantined(NamedTuple):
    """A delivery that has come to quarantine, and why: as the columns of its row have it."""

    pk: UUID
    received_at: datetime
    error_class: str
    error_field: str
    error_value: str
    error_message: str


def tell_of_quarantined(account: Account, deliveries: Iterable[Quarantined]) -> None:
    """Have subscriptions told, in the transaction that marks the deliveries."""
    emit(
        account.pk,
        [
            Occurrence(
                type=EventType.DELIVERY_QUARANTINED,
                about=f"delivery {one.pk.hex}",
                data={
                    "id": one.pk,
                    "account": account.slug,
                    "provider": account.provider,
                    "received_at": one.received_at.astimezone(UTC),
                    "error": {
                        "class": one.error_class,
                        "field": one.error_field,
                        "value": one.error_value,
                        "message": one.error_message,
                    },
                },
            )
            for one in deliveries
        ],
    )
