"""The words that calls are described with: one vocabulary for every provider.

Imports no model and no settings, so that the pure core may use it.
"""

from enum import StrEnum

from django.db.models import TextChoices


class Direction(TextChoices):
    """Who called whom, seen from the account: a customer called us, or we called a customer."""

    INBOUND = "inbound", "Inbound"
    OUTBOUND = "outbound", "Outbound"
    UNKNOWN = "unknown", "Unknown"


class State(TextChoices):
    """Whether the conversation is still going on, as far as we have heard."""

    LIVE = "live", "Live"
    ENDED = "ended", "Ended"


class Disposition(TextChoices):
    """How a leg or a conversation ended. A live one has none (null)."""

    ANSWERED = "answered", "Answered"
    MISSED = "missed", "Missed"
    BUSY = "busy", "Busy"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"
    VOICEMAIL = "voicemail", "Voicemail"
    UNKNOWN = "unknown", "Unknown"


class Label(TextChoices):
    """The provider's own letter for a leg."""

    A = "a", "A"
    B = "b", "B"


class Role(TextChoices):
    """Whose connection a leg is."""

    CUSTOMER = "customer", "Customer"
    AGENT = "agent", "Agent"
    UNKNOWN = "unknown", "Unknown"


class EventKind(TextChoices):
    """What happened on a leg while it was up."""

    STARTED = "started", "Started"
    RINGING = "ringing", "Ringing"
    WAITING = "waiting", "Waiting"
    ANSWERED = "answered", "Answered"
    BRIDGED = "bridged", "Bridged"
    HANGUP = "hangup", "Hung up"
    STREAM_CONNECTED = "stream_connected", "Stream connected"
    STREAM_DISCONNECTED = "stream_disconnected", "Stream disconnected"
    STREAM_ERROR = "stream_error", "Stream error"


STREAM_KINDS = frozenset({EventKind.STREAM_CONNECTED, EventKind.STREAM_DISCONNECTED, EventKind.STREAM_ERROR})


class Reason(TextChoices):
    """Why a conversation has the state and disposition it has; the label is the sentence that staff read."""

    LIVE = "live", "The call is going on: neither a final report nor a hang-up that ends it has arrived."
    CUSTOMER_CDR = "customer_cdr", "The provider's final report on the customer's leg says so."
    AGENT_ANSWERED_CDR = "agent_answered_cdr", "The provider's final report on an agent's leg says it was answered."
    AGENT_MISSED_CDR = "agent_missed_cdr", "The agent, who is rung first, did not pick up; the customer was never rung."
    CUSTOMER_UNREPORTED = (
        "customer_unreported",
        "The agent's leg has ended and was answered, but nothing was ever reported about the customer's leg.",
    )
    ZERO_TALK = "zero_talk", "The only leg was reported as answered with zero seconds of talk: nobody was reached."
    BILLING_ONLY = "billing_only", "Only a billing row is known, and it does not say how the call ended."
    EVENTS_ANSWERED = (
        "events_answered",
        "Live events show an answer and then a hang-up; the provider's final report has not arrived.",
    )
    EVENTS_UNANSWERED = (
        "events_unanswered",
        "Live events show a hang-up and no answer; the provider's final report has not arrived.",
    )
    SILENCE = (
        "silence",
        "Inferred: nothing was heard of this call for longer than the account's time limit, so it was closed. "
        "A later report will correct it.",
    )


class Flag(TextChoices):
    """An oddity in what the provider sent; the values are kept as sent and the call is marked."""

    TALK_EXCEEDS_DURATION = "talk_exceeds_duration", "Talk time is longer than the whole call"
    ANSWER_OUTSIDE_CALL = "answer_outside_call", "The answer time lies outside the call and was left out"
    END_BEFORE_START = "end_before_start", "The end lies before the start"
    CLOCK_SKEW = "clock_skew", "The provider's clock and our time of arrival are far apart"


class GapKind(TextChoices):
    """Why a balance differs from what the balance before it and the charge would leave."""

    OPENING = "opening", "The account's first reading."
    NONE = "none", "The charge explains the balance."
    TOP_UP = "top_up", "The balance rose: money was added."
    MISSING = (
        "missing",
        "The balance fell by more than the charge: a charge without a call, or a CDR that never came.",
    )
    ROUNDING = "rounding", "The difference is smaller than the provider's own rounding."


class AlertKind(TextChoices):
    """What an alert is about."""

    LOW_BALANCE = "low_balance", "Low balance"
    RUNWAY = "runway", "Balance runs out soon"
    BALANCE_GAP = "balance_gap", "Unexplained charge"
    SPEND_SPIKE = "spend_spike", "Unusual spend"
    NEW_DESTINATION = "new_destination", "First paid call to a destination"
    AFTER_HOURS = "after_hours", "Spend outside business hours"
    MISSED_CALLS = "missed_calls", "Many missed calls"
    SILENCE = "silence", "No deliveries"
    MISSING_CDRS = "missing_cdrs", "Calls without a final report"
    STREAM_ERRORS = "stream_errors", "Stream errors"
    STUCK_CALLS = "stuck_calls", "Calls that do not end"
    QUARANTINE = "quarantine", "Quarantine grows"
    INBOX_LAG = "inbox_lag", "Inbox lags"
    PAYLOAD_DRIFT = "payload_drift", "Payloads change"


class EventType(TextChoices):
    """What a subscription can be told of."""

    CONVERSATION_STARTED = "conversation.started", "Call started"
    CONVERSATION_ANSWERED = "conversation.answered", "Call answered"
    CONVERSATION_ENDED = "conversation.ended", "Call ended"
    CONVERSATION_UPDATED = "conversation.updated", "Call changed"
    CONVERSATION_CORRECTED = "conversation.corrected", "Ended call corrected"
    CONVERSATION_MERGED = "conversation.merged", "Call merged into another"
    CONVERSATION_ERASED = "conversation.erased", "Call withdrawn"
    ALERT_OPENED = "alert.opened", "Alert opened"
    ALERT_CLEARED = "alert.cleared", "Alert cleared"
    BALANCE_LOW = "balance.low", "Balance low"
    DELIVERY_QUARANTINED = "delivery.quarantined", "Delivery quarantined"
    TEST = "test", "Test"  # cannot be subscribed to: it is asked for


class ExportFormat(TextChoices):
    """The kinds of file that rows are exported as; the value is the ending of its name."""

    CSV = "csv", "CSV"
    XLSX = "xlsx", "XLSX"
    NDJSON = "ndjson", "NDJSON"


class Scope(StrEnum):
    """What an API key may do."""

    READ = "read"
    STREAM = "stream"
    EXPORT = "export"
    MANAGE = "manage"
