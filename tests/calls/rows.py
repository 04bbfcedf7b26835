"""Rows that tests store by themselves, where it does not matter how they came about."""

from datetime import UTC, datetime

from calls.choices import Direction, Disposition, Reason, State
from calls.models import Account, Conversation

START = datetime(2026, 11, 2, 6, 30, tzinfo=UTC)


def a_call(account: Account, **columns: object) -> Conversation:
    """Return a conversation with the columns given, not stored; what is not given is an answered call."""
    defaults = {
        "direction": Direction.INBOUND,
        "state": State.ENDED,
        "disposition": Disposition.ANSWERED,
        "reason": Reason.CUSTOMER_CDR,
        "customer_number": "+919000000001",
        "did": "+918000000000",
        "started_at": START,
        "last_heard_at": START,
    }
    return Conversation(account=account, **(defaults | columns))


def make_call(account: Account, **columns: object) -> Conversation:
    """Store such a conversation."""
    call = a_call(account, **columns)
    call.save(force_insert=True)
    return call
