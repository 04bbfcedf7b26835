"""CallerDesk and its white labels (Digidonar, CCS Express IVR): call reports and live calls.

Pages: docs.callerdesk.io/sample-payload, /incoming-call-reports-status, /outgoing-call-reports-status, and the payload
samples of api.callerdesk.io. Every value comes as text. What the pages leave open was taken from a white label's live
report; see tests/deliveries/callerdesk.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import TypedDict

from calls.choices import Direction, Disposition, EventKind, Flag, Label, Role
from calls.records import AccountFacts, AgentRef, Alias, LegCdr, LiveEvent, Record
from webhooks.errors import BadField, UnknownWord, UnrecognizedPayload
from webhooks.reader import Reader

SHAPE_FIELDS = ("type", "Direction", "Status", "callstatus")
"""Their words tell what kind of payload it is."""
TYPE_WORDS = {"call_report": True, "live_call": False}
"""Whether it is a final report; often not said."""
DIRECTION_WORDS = {"ivr": Direction.INBOUND, "webobd": Direction.OUTBOUND}
ROLES = {
    Direction.INBOUND: (Role.CUSTOMER, Role.AGENT),
    Direction.OUTBOUND: (Role.AGENT, Role.CUSTOMER),
    Direction.UNKNOWN: (Role.UNKNOWN, Role.UNKNOWN),
}
"""Whose leg a and leg b are."""
STATUS_WORDS = {
    "answer": Disposition.ANSWERED,
    "answered": Disposition.ANSWERED,
    "legaanswer": Disposition.ANSWERED,
    "legbanswer": Disposition.ANSWERED,
    "noanswer": Disposition.MISSED,
    "cancel": Disposition.MISSED,
    "cancelagent": Disposition.MISSED,
    "cancelcustomer": Disposition.MISSED,
    "abandonedcall": Disposition.MISSED,
    "abandonment": Disposition.MISSED,
    "notconnected": Disposition.MISSED,
    "missed": Disposition.MISSED,
    "voicemail": Disposition.MISSED,
    "busy": Disposition.BUSY,
    "agentengaged": Disposition.BUSY,
    "agentonring": Disposition.BUSY,
    "congestion": Disposition.FAILED,
    "chanunavail": Disposition.FAILED,
    "unavailable": Disposition.FAILED,
    "unavail": Disposition.FAILED,
    "invalidargs": Disposition.FAILED,
    "agentunregistered": Disposition.FAILED,
}
"""How a call ended, by the status in lower-case letters and no more: spelling and spacing vary between the pages."""
PROGRESS_WORDS = {
    "ringing": EventKind.RINGING,
    "transfertoagent": EventKind.RINGING,
    "picked": EventKind.ANSWERED,
}
"""Only live calls have these."""
VOICEMAIL = "voicemail"
"""Nobody took the call; what talk time it states is the message's."""
B_CANCELLED = "cancelcustomer"
"""The customer was rung and did not pick up, so the agent had."""
A_ANSWERED = "legaanswer"
"""Leg a picked up: the agent of an outgoing call, which has reached no customer yet, or the IVR of an incoming one."""
REPORT_FIELDS = (
    "EndTime",
    "CallDuration",
    "TalkDuration",
    "coins",
    "LegA_Picked_time",
    "LegB_Start_time",
    "LegB_Picked_time",
)
"""Only reports have them."""

_NOT_LETTERS = re.compile(r"[^a-z]")


class _Leg(TypedDict):
    """What reports and live calls say of a leg in the same fields."""

    aliases: tuple[Alias, ...]
    leg_id: str
    label: Label
    conversation_id: str
    role: Role
    call_direction: Direction
    direction: Direction
    from_number: str
    to_number: str
    customer_number: str
    did: str
    agent: AgentRef | None


class _Outcome(TypedDict, total=False):
    """What a report says of the call as a whole; it goes on one leg only, so that nothing is counted twice."""

    disposition: Disposition
    talk_seconds: int | None
    hangup_cause: str
    cost: Decimal | None
    recording: str
    voicemail: bool
    flags: tuple[str, ...]


def parse(payload: Mapping[str, object], *, received_at: datetime, account: AccountFacts) -> list[Record]:
    """Return one record for each leg that a call report knows of, or the one event of a live call.

    Incoming (``IVR``): leg a is the caller, picked up by the IVR, and carries the outcome; leg b is the agent. Outgoing
    (``WEBOBD``): leg a is the agent, who is rung first; leg b is the customer and carries the outcome if he was rung.
    Times are local to the account's zone: the page's sample has the matching epoch in its CallSid. Changes of members
    and call groups, which may come to the same URL, give ``[]``.
    Raises ``UnrecognizedPayload`` for anything else, ``UnknownWord`` and ``BadField``.
    """
    reader = Reader(payload, received_at=received_at)
    kind = reader.word("type")
    if not reader.has("CallSid", "Uniqueid", "SourceNumber"):
        if "member" in kind or "group" in kind:
            return []
        raise UnrecognizedPayload("neither a call report nor a live call of CallerDesk", field="type", value=kind)
    is_report = TYPE_WORDS[kind] if kind in TYPE_WORDS else reader.has(*REPORT_FIELDS)
    return _report(reader, account.time_zone) if is_report else [_live_call(reader, account.time_zone, received_at)]


def _report(reader: Reader, zone: str) -> list[Record]:
    a, b = _legs(reader)
    is_outbound = a["call_direction"] == Direction.OUTBOUND
    word = _status_word(reader)
    if word and word not in STATUS_WORDS:
        raise _unknown_status(reader)
    started, ended, a_picked, b_started, b_picked = (
        reader.local_time(name, zone=zone)
        for name in ("StartTime", "EndTime", "LegA_Picked_time", "LegB_Start_time", "LegB_Picked_time")
    )
    duration, talk = reader.seconds("CallDuration"), reader.seconds("TalkDuration")
    was_taken = b_picked is not None or bool(talk and word != VOICEMAIL)
    disposition = Disposition.ANSWERED if was_taken else _disposition(word, talk, is_outbound=is_outbound)
    flags = []
    if talk is not None and duration is not None and talk > duration:
        flags.append(str(Flag.TALK_EXCEEDS_DURATION))
    if started and ended and ended < started:
        flags.append(str(Flag.END_BEFORE_START))
    outcome = _Outcome(
        disposition=disposition,
        talk_seconds=talk,
        hangup_cause=reader.text("hangup_cause"),
        cost=reader.money("coins"),
        recording=_recording(reader),
        voicemail=word == VOICEMAIL,
        flags=tuple(flags),
    )
    b_was_rung = b_started is not None or was_taken
    if is_outbound:
        b_was_rung |= bool(a_picked) or disposition == Disposition.ANSWERED or word == B_CANCELLED
        a_outcome = _Outcome(disposition=Disposition.ANSWERED) if b_was_rung else outcome
        b_outcome = outcome
    else:
        b_was_rung |= bool(b["to_number"])
        a_outcome = outcome
        b_outcome = _Outcome(disposition=disposition, talk_seconds=talk if was_taken else 0)
    leg_a = LegCdr(
        **a,
        **a_outcome,
        started_at=started or a_picked,
        answered_at=a_picked,
        ended_at=ended,
        duration_seconds=duration,
        extra_params=_extra_params(reader),
    )
    if not b_was_rung:
        return [leg_a]
    ring = round((b_picked - b_started).total_seconds()) if b_picked and b_started else None
    leg_b = LegCdr(
        **b,
        **b_outcome,
        started_at=b_started,
        call_started_by=started,
        answered_at=b_picked,
        ended_at=ended,
        ring_seconds=ring if ring is None or ring >= 0 else None,
    )
    return [leg_a, leg_b]


def _disposition(word: str, talk: int | None, *, is_outbound: bool) -> Disposition:
    """Return how a call ended of which neither a time nor talk shows that customer and agent spoke.

    An outgoing call may say ANSWER when only the agent picked up; it then states no talk.
    """
    if not word:
        return Disposition.UNKNOWN if talk is None else Disposition.MISSED
    if STATUS_WORDS[word] == Disposition.ANSWERED and (talk == 0 or (is_outbound and word == A_ANSWERED)):
        return Disposition.MISSED
    return STATUS_WORDS[word]


def _live_call(reader: Reader, zone: str, received_at: datetime) -> LiveEvent:
    """Return the event: an answer or a ring on leg b where its number is known, the end of the call on leg a."""
    a, b = _legs(reader)
    word = _status_word(reader)
    if word in STATUS_WORDS:
        kind = EventKind.ANSWERED if STATUS_WORDS[word] == Disposition.ANSWERED else EventKind.HANGUP
    elif word in PROGRESS_WORDS:
        kind = PROGRESS_WORDS[word]
    else:
        raise _unknown_status(reader)
    is_on_b = bool(b["to_number"]) and kind != EventKind.HANGUP and word != A_ANSWERED
    is_ivr = word == A_ANSWERED and a["role"] != Role.AGENT
    started = reader.local_time("StartTime", zone=zone)
    return LiveEvent(
        **(b if is_on_b else a),
        kind=kind,
        provider_status=reader.text("Status", "callstatus"),
        occurred_at=received_at,
        is_answer=kind == EventKind.ANSWERED and not is_ivr,
        started_at=None if is_on_b else started,
        call_started_by=started if is_on_b else None,
        extra_params=_extra_params(reader),
    )


def _legs(reader: Reader) -> tuple[_Leg, _Leg]:
    """Return what the payload says of leg a and of leg b, whether or not there was a leg b."""
    word = reader.word("Direction")
    if word and word not in DIRECTION_WORDS:
        raise UnknownWord("expected IVR or WEBOBD", field="Direction", value=reader.text("Direction"))
    direction = DIRECTION_WORDS.get(word, Direction.UNKNOWN)
    is_outbound = direction == Direction.OUTBOUND
    call_ids = [call_id for call_id in (_nonzero(reader, "CallSid"), _nonzero(reader, "Uniqueid")) if call_id]
    if not call_ids:
        raise BadField("the call's id is missing", field="CallSid")
    aliases = [Alias("call", call_id) for call_id in call_ids]
    # Incoming calls have a campid of 0, or one that is not the call's (docs.callerdesk.io/sample-payload).
    if is_outbound and (campaign := _nonzero(reader, "campid")):
        aliases.append(Alias("campaign", campaign))
    source, did, dialled = (reader.phone(name) for name in ("SourceNumber", "DestinationNumber", "DialWhomNumber"))
    phone, name = source if is_outbound else dialled, _nonzero(reader, "receiver_name")
    agent = AgentRef(phone=phone, name=name) if phone or name else None
    a_role, b_role = ROLES[direction]
    a = _Leg(
        aliases=tuple(dict.fromkeys(aliases)),
        leg_id=call_ids[0],
        label=Label.A,
        conversation_id=call_ids[0],
        role=a_role,
        call_direction=direction,
        direction=direction,
        from_number=did if is_outbound else source,
        to_number=source if is_outbound else did,
        customer_number={a_role: source, b_role: dialled}.get(Role.CUSTOMER, ""),
        did=did,
        agent=agent if a_role == Role.AGENT else None,
    )
    b: _Leg = {
        **a,
        "label": Label.B,
        "role": b_role,
        "to_number": dialled,
        "agent": agent if b_role == Role.AGENT else None,
    }
    return a, b


def _status_word(reader: Reader) -> str:
    """Return the status in lower-case letters and no more, a trailing ``(16-customer)`` and the like cut off.

    Observed live: Status is empty and callstatus holds `` No Answer``.
    """
    return _NOT_LETTERS.sub("", reader.word("Status", "callstatus").partition("(")[0])


def _unknown_status(reader: Reader) -> UnknownWord:
    name = "Status" if reader.text("Status") or not reader.text("callstatus") else "callstatus"
    return UnknownWord(
        "a status that no table lists for this kind of notification", field=name, value=reader.text(name)
    )


def _recording(reader: Reader) -> str:
    url = reader.text("CallRecordingUrl", limit=2000)
    if url and not url.lower().startswith(("http://", "https://")):
        raise BadField("expected an http or https address", field="CallRecordingUrl", value=url)
    return url


def _extra_params(reader: Reader) -> dict[str, object]:
    """Return the fields that we do not model. Call it last."""
    reader.skip("token", "key")  # a secret in the URL's own query, which stands before CallerDesk's fields on a GET
    named = {name: _nonzero(reader, name) for name in ("campid", "error_code")}
    return {name: text for name, text in named.items() if text} | reader.rest()


def _nonzero(reader: Reader, name: str) -> str:
    """Return the text of a field in which ``0`` stands for nothing, as in receiver_name, campid and error_code."""
    text = reader.text(name)
    return "" if text == "0" else text
