"""Short ways to say what a provider reported, for tests that start behind the adapters."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

from django.db import transaction

from calls.choices import Direction, Disposition, Label
from calls.intake import Arrival, lock_account, take_in
from calls.models import Account
from calls.records import Alias, LegCdr, Record

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def take(account: Account, *records: Record, received_at: datetime = NOON, source: UUID | None = None) -> None:
    """Take in the records as one delivery."""
    with transaction.atomic():
        take_in(lock_account(account.pk), [Arrival(source or uuid4(), received_at, list(records))])


def paid_call(number: int, *, balance: str, cost: str = "0.45", at: datetime | None = None) -> LegCdr:
    """Return the report on an answered one-leg call that ended ``number`` minutes after noon."""
    end = at or NOON + timedelta(minutes=number)
    return LegCdr(
        aliases=(Alias("uuid", f"call-{number}"),),
        leg_id=f"leg-{number}",
        label=Label.A,
        call_direction=Direction.INBOUND,
        disposition=Disposition.ANSWERED,
        started_at=end - timedelta(seconds=30),
        ended_at=end,
        talk_seconds=20,
        cost=Decimal(cost),
        balance_after=Decimal(balance),
    )
