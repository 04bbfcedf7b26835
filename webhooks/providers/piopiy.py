"""PIOPIY: CDRs and live events of developer PIOPIY, in its current, older and India dialects.

Source: doc.telecmi.com/piopiy/docs (webhooks-overview, inbound-webhooks-*, outbound-webhooks-*, live-*) and
doc.telecmi.com/piopiy-india/docs. Where a page's table and its sample disagree, the sample is followed, because live
bodies agree with the samples.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

from calls.choices import STREAM_KINDS, Direction, Disposition, EventKind, Flag, Label
from calls.records import AccountFacts, Alias, LegCdr, LiveEvent, Record
from webhooks.errors import BadField, UnknownWord, UnrecognizedPayload, WrongAccount
from webhooks.reader import Reader

SHAPE_FIELDS = ("type", "direction", "leg", "status")
"""Their words tell what kind of payload it is."""
CDR_WORDS = {"answered": Disposition.ANSWERED, "missed": Disposition.MISSED}

# The bare words are those of the older and India dialects. Leg b's form of “answered” is called out_bridged, which the
# overview's list leaves out (live-out-answered, leg b). Stream words come in capitals too (live-stream-disconnected).
EVENT_WORDS = {
    "started": EventKind.STARTED,
    "out_started": EventKind.STARTED,
    "ringing": EventKind.RINGING,
    "answered": EventKind.ANSWERED,
    "in_answered": EventKind.ANSWERED,
    "out_answered": EventKind.ANSWERED,
    "out_bridged": EventKind.BRIDGED,
    "hangup": EventKind.HANGUP,
    "in_hangup": EventKind.HANGUP,
    "out_hangup": EventKind.HANGUP,
    "stream_connected": EventKind.STREAM_CONNECTED,
    "stream_disconnected": EventKind.STREAM_DISCONNECTED,
    "stream_error": EventKind.STREAM_ERROR,
}
DIRECTION_WORDS = {"inbound": Direction.INBOUND, "outbound": Direction.OUTBOUND}
LABEL_WORDS = {"a": Label.A, "b": Label.B, "": Label.A}

Value = TypeVar("Value")

_ANSWERS = {EventKind.ANSWERED, EventKind.BRIDGED}
# The current dialect has no ``type``: these fields stand in final reports only.
_ONLY_IN_CDRS = ("duration", "start_time", "end_time", "call_rate", "balance")


def parse(payload: Mapping[str, object], *, received_at: datetime, account: AccountFacts) -> list[Record]:
    """Return the record of one notification; ``[]`` for a request of call control, which asks and tells nothing.

    Raises ``DeliveryError`` for anything that is neither.
    """
    reader = Reader(payload, received_at=received_at)
    word = reader.word("status")
    if not word:
        if reader.has("cmiuuid", "cmuuid") and reader.has("from", "action", "dtmf"):
            return []  # an answer_url or input request; one sample spells the key cmuuid
        raise UnrecognizedPayload("expected a CDR or live event with a status and a cmiuuid")
    app_id = reader.text("appid", "app_id")
    if account.app_id and app_id and app_id != account.app_id:
        raise WrongAccount(f"this account's app id is {account.app_id}", field="appid", value=app_id)
    if not reader.has("cmiuuid", "conversation_uuid"):
        raise UnrecognizedPayload("expected a cmiuuid or a conversation_uuid")
    kind = reader.word("type")
    if kind == "cdr" or (kind != "event" and (word == "missed" or reader.has(*_ONLY_IN_CDRS))):
        return [_cdr(reader, word)]
    return [_event(reader, word, received_at)]


def _cdr(reader: Reader, word: str) -> LegCdr:
    """Read a final report. ``time`` is milliseconds, the other times are seconds; ``duration`` is the talk time.

    The table calls duration “total”; the sample's arithmetic says answer to end (inbound-webhooks-answered).
    """
    disposition = _word(CDR_WORDS, word, "status")
    statement = _statement(reader)
    started_at = reader.epoch_seconds("start_time") or statement["started_at"]
    ended_at = reader.epoch_seconds("end_time")
    answered_at = reader.epoch_seconds("answer_time")
    talk_seconds = reader.seconds("duration")
    flags: list[str] = []
    if disposition == Disposition.MISSED:
        answered_at, talk_seconds = None, 0  # a missed call's answer_time was pasted from another call's sample
    if started_at and ended_at and ended_at < started_at:
        flags.append(Flag.END_BEFORE_START)
    elif answered_at and not (started_at or answered_at) <= answered_at <= (ended_at or answered_at):
        flags.append(Flag.ANSWER_OUTSIDE_CALL)
        answered_at = None
    return LegCdr(
        **(statement | {"started_at": started_at}),
        disposition=disposition,
        answered_at=answered_at,
        ended_at=ended_at,
        talk_seconds=talk_seconds,
        duration_seconds=_between(started_at, ended_at),
        ring_seconds=_between(started_at, answered_at),
        cost=reader.money("call_rate"),
        balance_after=reader.money("balance"),
        flags=tuple(flags),
        extra_params=_extra(reader),
    )


def _event(reader: Reader, word: str, received_at: datetime) -> LiveEvent:
    """Read a live event. ``time`` is the leg's start on every event of the leg, so it dates the start alone."""
    kind = _word(EVENT_WORDS, word, "status")
    statement = _statement(reader)
    details: dict[str, object] = {}
    if kind in STREAM_KINDS:
        # It names its leg and no more: no conversation, no “to”, and a “from” that is not the customer's on leg b.
        details = {"ws_status": reader.mapping("ws_status")} if reader.has("ws_status") else {}
        leg_alias = Alias("uuid", str(statement["leg_id"]))
        kept = {name: statement[name] for name in ("leg_id", "label", "started_at")}
        statement = kept | {"aliases": (leg_alias,)}
    started_at = statement["started_at"]
    return LiveEvent(
        **statement,
        kind=kind,
        provider_status=reader.text("status"),
        occurred_at=started_at if kind == EventKind.STARTED and started_at else received_at,
        is_answer=kind in _ANSWERS,
        details=details,
        extra_params=_extra(reader),
    )


def _statement(reader: Reader) -> dict[str, Any]:
    """Read what CDRs and live events have in common."""
    conversation_id = reader.text("conversation_uuid")
    leg_id = reader.text("cmiuuid") or conversation_id
    if not leg_id:
        raise BadField("expected the id of the leg", field="cmiuuid", value="")
    request_id = reader.text("request_id")
    label = _word(LABEL_WORDS, reader.word("leg"), "leg")
    direction = _word(DIRECTION_WORDS, reader.word("direction"), "direction")
    is_outbound = direction == Direction.OUTBOUND
    from_number, to_number = reader.phone("from"), reader.phone("to")
    shown_number = reader.phone("callerid", "vn")
    # Leg b of an inbound call says outbound as well (inbound-webhooks-missed, leg b). Every outbound sample carries
    # the number shown to the customer, and those of the current dialect a request_id.
    call_direction = direction
    if label == Label.B and is_outbound and not request_id:
        call_direction = Direction.UNKNOWN if shown_number else Direction.INBOUND
    uuids = sorted({leg_id, conversation_id} - {""})
    aliases = [Alias("uuid", uuid) for uuid in uuids]
    if request_id:
        aliases.append(Alias("request", request_id))
    customer = did = ""
    if call_direction == Direction.INBOUND:
        customer, did = from_number, to_number
    elif call_direction == Direction.OUTBOUND:
        customer, did = (to_number if label == Label.B else ""), shown_number or from_number
    return {
        "aliases": tuple(aliases),
        "leg_id": leg_id,
        "label": label,
        "conversation_id": conversation_id,
        "request_id": request_id,
        "call_direction": call_direction,
        "direction": direction,
        "from_number": from_number,
        "to_number": to_number,
        "customer_number": customer,
        "did": did,
        "started_at": reader.epoch_ms("time"),
    }


def _extra(reader: Reader) -> dict[str, object]:
    reader.skip("type", "appid", "app_id", "callerid", "vn")
    return reader.mapping("extra_params") | reader.rest()


def _word(table: Mapping[str, Value], word: str, field: str) -> Value:
    if word not in table:
        raise UnknownWord(f"none of the words that we know: {', '.join(sorted(table))}", field=field, value=word)
    return table[word]


def _between(start: datetime | None, end: datetime | None) -> int | None:
    return int((end - start).total_seconds()) if start and end and start <= end else None
