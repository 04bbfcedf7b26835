"""What PIOPIY sends of a call, in its current, older and India dialects.

Fields and words are those of the samples on doc.telecmi.com/piopiy/docs (webhooks-overview, inbound-webhooks-*,
outbound-webhooks-*, live-*) and doc.telecmi.com/piopiy-india/docs.
"""

import json
from decimal import Decimal

from webhooks.simulator.call import Call, Expected, Kind, Notice, expect, milliseconds

SHARES = {
    Kind.IN_ANSWERED: 36,
    Kind.IN_MISSED: 18,
    Kind.IN_STREAM: 6,
    Kind.OUT_ANSWERED: 22,
    Kind.OUT_CUSTOMER_MISSED: 12,
    Kind.OUT_AGENT_MISSED: 6,
}
DIALECTS = {"current": 7, "older": 2, "india": 1}
RESEND_MINUTES = (5, 15, 30)
"""A CDR is sent again so long after the first time, whatever was answered (webhooks-overview)."""
CHARGE = Decimal("0.450000")
"""For each started minute of an answered leg."""
SAMPLE_APP_ID = "2222222"


def tell(call: Call) -> tuple[list[Notice], Expected]:
    """Return what is sent of ``call``, and what should come of it."""
    notices = _inbound(call) if call.kind.startswith("in") else _outbound(call)
    charges = [notice.charge for notice in notices if notice.charge is not None]
    # Of an outgoing call whose agent does not pick up, PIOPIY names the agent's number and no other.
    is_customer_told = call.kind != Kind.OUT_AGENT_MISSED
    return notices, expect(call, cost=sum(charges, Decimal(0)) if charges else None, is_customer_told=is_customer_told)


def odd(call: Call) -> Notice:
    """Return a notification that cannot be understood: a new word, a wrong unit, or the pages' JavaScript literal."""
    leg = _Leg(call, "a", call.uuid(), "inbound", to=call.did, start=0)
    fields = leg.fields(call.uuid()) | {"status": "in_parked"}
    notice = Notice(call.at(call.pickup_seconds), fields, is_odd=True)
    shape = call.number % 3
    if shape == 1:
        notice.fields |= {"status": "in_answered", "time": int(call.starts_at.timestamp())}
    elif shape == 2:
        notice.raw = f"{{ appid: {_app_id(call)}, status: 'in_answered', cmiuuid: '{leg.uuid}' }}".encode()
    return notice


class _Leg:
    """One leg: its ids, its numbers, and its times in seconds after the call's start."""

    def __init__(
        self, call: Call, letter: str, uuid: str, direction: str, *, to: str, start: int, request_id: str = ""
    ) -> None:
        self.call, self.letter, self.uuid, self.direction = call, letter, uuid, direction
        self.caller = call.did if request_id else call.customer
        self.to, self.start, self.request_id = to, start, request_id

    def fields(self, conversation: str) -> dict[str, object]:
        """Return what all notifications of the leg have in common."""
        fields: dict[str, object] = {
            "appid": int(_app_id(self.call)),
            "conversation_uuid": conversation,
            "direction": self.direction,
            "from": int(self.caller),
            "to": int(self.to),
            "leg": self.letter,
            "time": milliseconds(self.call.at(self.start)),
            "cmiuuid": self.uuid,
        }
        if self.request_id:
            national = self.caller.removeprefix("91")
            fields["callerid"] = f"0{national}" if self.call.dialect == "india" else int(self.caller)
        if extra := _extra_params(self.call):
            fields["extra_params"] = extra
        return fields

    def event(self, conversation: str, word: str, seconds: float) -> Notice:
        """Return the live event ``word``. The older and the India dialect use bare words and a type."""
        dialect = self.call.dialect
        fields = self.fields(conversation)
        if dialect != "current":
            bare = {"bridged": "answered"}.get(word, word)
            fields |= {"type": "event", "status": bare}
            if dialect == "older":
                fields |= {"from": self.caller, "to": self.to}
        else:
            prefix = "out" if self.request_id else "in"
            fields["status"] = f"{prefix}_{word}"
        if self.request_id:
            fields["vn"] = int(self.caller)
            if dialect != "india":
                fields["request_id"] = self.request_id
        return Notice(self.call.at(seconds), fields)

    def report(self, conversation: str, *, answer: int | None, end: int) -> Notice:
        """Return the CDR: ``answer`` and ``end`` are seconds after the call's start, ``answer`` None when missed."""
        call = self.call
        fields = self.fields(conversation)
        talk = 0 if answer is None else end - answer
        fields |= {"status": "missed" if answer is None else "answered", "duration": talk}
        if self.request_id:
            fields["request_id"] = self.request_id
        if call.dialect != "current":
            fields["type"] = "cdr"
            if self.request_id:
                fields |= {"out": True} if call.dialect == "india" else {"out": True, "api_init": True}
        charge = None
        if call.dialect != "india":
            charge = call.minutes(talk) * CHARGE
            start = int(call.at(self.start).timestamp())
            fields |= {"start_time": start, "end_time": start + end - self.start}
            fields["call_rate"] = 0 if answer is None else str(charge)
            if answer is not None:
                fields["answer_time"] = start + answer - self.start
            elif call.dialect == "current":
                # The sample of a missed call has an answer_time too, long after its end.
                fields["answer_time"] = start + end - self.start + 1442
        return Notice(call.at(end), fields, is_report=True, charge=charge)


def _inbound(call: Call) -> list[Notice]:
    """The first thing heard of an incoming call is its answer, or its CDR when it is missed."""
    conversation = call.uuid()
    a = _Leg(call, "a", conversation, "inbound", to=call.did, start=0)
    has_b = call.kind == Kind.IN_STREAM or call.chance.random() < 0.7
    if call.kind == Kind.IN_MISSED:
        # The sample's legs of a missed call have one cmiuuid, and leg b says outbound.
        b = _Leg(call, "b", conversation, "outbound", to=call.did, start=0)
        end = call.pickup_seconds + call.ring_seconds
        return [leg.report(conversation, answer=None, end=end) for leg in ((a, b) if has_b else (a,))]
    answer = call.pickup_seconds
    bridge = answer + call.ring_seconds if has_b else answer
    end = bridge + call.talk_seconds
    notices = [a.event(conversation, "answered", answer), a.event(conversation, "hangup", end)]
    notices.append(a.report(conversation, answer=answer, end=end))
    if has_b:
        b = _Leg(call, "b", call.uuid(), "outbound", to=call.did, start=answer)
        notices.append(b.report(conversation, answer=bridge, end=end))
        if call.kind == Kind.IN_STREAM:
            notices += _stream(b, bridge, end)
    return notices


def _outbound(call: Call) -> list[Notice]:
    """The agent is rung first, on leg a; once he has picked up, the customer is, on leg b."""
    request_id = call.token()
    a_uuid, b_uuid = call.uuid(), call.uuid()
    conversation = a_uuid if call.dialect == "india" else request_id
    answer = call.pickup_seconds
    a = _Leg(call, "a", a_uuid, "outbound", to=call.agent.phone, start=0, request_id=request_id)
    b = _Leg(call, "b", b_uuid, "outbound", to=call.customer, start=answer, request_id=request_id)
    # The older dialect knows no word for the start.
    starts = call.dialect != "older"
    notices = [a.event(conversation, "started", 0)] if starts else []
    if call.dialect == "india":
        notices.append(a.event(conversation, "ringing", 1))
    if call.kind == Kind.OUT_AGENT_MISSED:
        notices.append(a.event(conversation, "hangup", answer))
        return [*notices, a.report(conversation, answer=None, end=answer)]
    notices.append(a.event(conversation, "answered", answer))
    if starts:
        notices.append(b.event(conversation, "started", answer))
    bridge: int | None = answer + call.ring_seconds
    end = answer + call.ring_seconds
    if call.kind == Kind.OUT_ANSWERED:
        notices.append(b.event(conversation, "bridged", end))
        end += call.talk_seconds
    else:
        bridge = None
    for leg, picked in ((b, bridge), (a, answer)):
        notices.append(leg.event(conversation, "hangup", end))
        notices.append(leg.report(conversation, answer=picked, end=end))
    return notices


def _stream(leg: _Leg, answer: int, end: int) -> list[Notice]:
    """Return the events of a media stream: they name the leg and no conversation, and one shouts."""
    call = leg.call
    common: dict[str, object] = {
        "appid": int(_app_id(call)),
        "direction": "inbound",
        "from": int(call.customer),
        "leg": leg.letter,
        "time": milliseconds(call.at(leg.start)),
        "cmiuuid": leg.uuid,
    }
    over = {"status": "disconnected", "message": {"code": 1006, "reason": "Abnormal closure"}}
    opened = {"status": "stream_connected", "ws_status": json.dumps({"status": "connected"})}
    closed = {"status": "STREAM_DISCONNECTED", "ws_status": json.dumps(over)}
    return [Notice(call.at(answer), common | opened), Notice(call.at(end), common | closed)]


def _extra_params(call: Call) -> str:
    """Return our parameters as they are echoed: JSON, or the samples' Python and JavaScript literals."""
    if call.is_click_to_call:
        return json.dumps({"ticket": 4000 + call.number})
    return ("", f"{{ 'Name': 'Akil', 'ID':{8915000 + call.number} }}", "{key: value}")[call.number % 3]


def _app_id(call: Call) -> str:
    return call.account.app_id or SAMPLE_APP_ID
