"""The columns of each table that can be exported.

Links to recordings are not among them: they are played through the project only.
"""

from collections import defaultdict
from typing import Any

import msgspec

from calls.choices import AlertKind
from calls.exports.columns import Column, column, first_of, moment
from calls.models import AuditEntry, ContactNumber, Conversation, MissedCaller
from calls.templatetags.words import GAPS


def tags_of(calls: list[Any]) -> dict[Any, list[str]]:
    """Return the names of the tags of each call that has some, by the calls' ids."""
    found: dict[Any, list[str]] = defaultdict(list)
    through = Conversation.tags.through.objects.filter(conversation__in=calls)
    for call, name in through.order_by("tag__name").values_list("conversation_id", "tag__name"):
        found[call].append(name)
    return found


ACCOUNT = Column("account", "Account", ("account__name", "account__slug"), first_of)
AGENT = Column("agent", "Agent", ("agent__name", "agent__external_id"), first_of, is_private=True)  # may be a number


def numbers_of(contacts: list[Any]) -> dict[Any, list[str]]:
    """Return the numbers of each contact that has some, by the contacts' ids."""
    found: dict[Any, list[str]] = defaultdict(list)
    for contact, number in ContactNumber.objects.filter(contact__in=contacts).values_list("contact_id", "number"):
        found[contact].append(number)
    return found


CONVERSATIONS = [
    moment("started_at", "Started"),
    column("direction", "Direction"),
    column("state", "State"),
    column("disposition", "Disposition"),
    column("customer_number", "Customer", is_private=True),
    column("did", "DID"),
    AGENT,
    ACCOUNT,
    moment("answered_at", "Answered"),
    moment("ended_at", "Ended"),
    column("ring_seconds", "Ring seconds"),
    column("talk_seconds", "Talk seconds"),
    column("duration_seconds", "Duration seconds"),
    column("cost", "Cost"),
    column("cost_unit", "Unit"),
    column("reason", "Reason"),
    column("hangup_cause", "Hang-up cause"),
    column("has_recording", "Recording", "recording", value=bool),
    column("has_voicemail", "Voicemail"),
    Column("tags", "Tags", look_up=tags_of),
    column("external_id", "Provider’s id", is_private=True),
    column("id", "Id", value=str),
]

READINGS = [
    moment("booked_at", "Booked"),
    moment("occurred_at", "Call ended"),
    ACCOUNT,
    column("charge", "Charge"),
    column("balance", "Balance"),
    column("gap", "Gap"),
    column("unit", "Unit", "account__unit"),
    column("gap_kind", "Reason", value=GAPS.get),
    moment("gap_since", "Gap since"),
    column("customer_number", "Customer", "conversation__customer_number", is_private=True),
    column("conversation", "Call’s id", "conversation_id", value=str),
]

ALERTS = [
    moment("opened_at", "Opened"),
    moment("cleared_at", "Cleared"),
    moment("acknowledged_at", "Acknowledged"),
    column("kind", "Kind", value=lambda kind: AlertKind(kind).label),
    column("message", "Message", is_private=True),
    column("value", "Value"),
    ACCOUNT,
    column("rule", "Rule", "rule__name"),
    column("assigned_to", "Assigned to", "assigned_to__username"),
    column("acknowledged_by", "Acknowledged by", "acknowledged_by__username"),
]

AGENTS = [
    column("name", "Name"),
    column("external_id", "Provider’s id", is_private=True),
    column("extension", "Extension"),
    column("phone", "Phone", is_private=True),
    ACCOUNT,
]

MISSED_CALLERS = [
    moment("due_at", "Promised by"),
    column("customer_number", "Caller", is_private=True),
    column("did", "DID"),
    ACCOUNT,
    column("misses", "Missed calls"),
    moment("first_missed_at", "First missed"),
    moment("last_missed_at", "Last missed"),
    column("attempts", "Tries"),
    moment("first_attempt_at", "First try"),
    moment("reached_at", "Reached"),
    moment("closed_at", "Closed"),
    column("closing", "How it ended", value=lambda word: MissedCaller.Closing(word).label if word else ""),
    column("assigned_to", "Whose", "assigned_to__username"),
    moment("snoozed_until", "Put off until"),
]

CONTACTS = [
    column("name", "Name"),
    column("company", "Company"),
    Column("numbers", "Numbers", look_up=numbers_of, is_private=True),
    column("note", "Note", is_private=True),
    moment("created_at", "Added"),
]

AUDIT = [
    moment("at", "When"),
    column("user", "Who", "user__username"),
    column("api_key", "API key", "api_key__name"),
    column("action", "Did", value=lambda word: AuditEntry.Action(word).label),
    column("target", "What", "target_name"),
    column("target_type", "Table"),
    column("target_id", "Id"),
    column("details", "Details", value=lambda value: msgspec.json.encode(value).decode(), is_private=True),
    column("address", "Address"),
]
