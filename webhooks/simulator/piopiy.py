"""Calls as PIOPIY tells them.

Fields and words follow doc.telecmi.com/piopiy/docs (webhooks-overview, inbound-webhooks-*, outbound-webhooks-*,
live-*) in the current and the older revision, and doc.telecmi.com/piopiy-india/docs.
"""

import json
from datetime import datetime, timedelta
from decimal import Decimal
from math import ceil
from typing import NamedTuple

from webhooks.simulator.scenario import Call, Charge, Expected, Payload

KINDS = {
    "inbound answered": 30,
    "inbound missed": 18,
    "inbound stream": 8,
    "outbound answered": 22,
    "outbound customer missed": 10,
    "outbound agent missed": 6,
    "outbound one leg": 6,
}
DIALECTS = {"current": 70, "older": 15, "india": 15}
RESENT_MINUTES = (5, 15, 30)
"""webhooks-overview: every CDR is sent again 5 minutes after the first time, then after 10 and 15 more."""
RATES = {"a": Decimal("0.45"), "b": Decimal("0.5")}
"""Charge for each minute begun, in the account's currency."""


class _Leg(NamedTuple):
    letter: str
    uuid: str
    direction: str
    from_number: str
    to_number: str
    start: datetime
    answer: datetime | None
    end: datetime

    @property
    def talk(self) -> int:
        return int((self.end - self.answer).total_seconds()) if self.answer else 0

    @property
    def charge(self) -> Decimal:
        return RATES[self.letter] * ceil(self.talk / 60)


def act(call: Call) -> Expected:
    """Make up the notifications of ``call`` and return what they amount to."""
    dialect = call.rng.choices(list(DIALECTS), list(DIALECTS.values()))[0]
    return _inbound(call, dialect) if call.kind.startswith("inbound") else _outbound(call, dialect)


def _inbound(call: Call, dialect: str) -> Expected:
    customer, did = call.office.customer(call.rng), call.rng.choice(call.office.dids)
    a_uuid, start = call.uuid(), call.whole_start
    # The page inbound-webhooks-answered in its older revision has a conversation id of its own; the others leg a's.
    teller = _Teller(call, dialect, conversation=a_uuid, cdr_conversation=call.uuid() if dialect == "older" else a_uuid)
    if call.kind == "inbound missed":
        end = start + timedelta(seconds=call.ring_out())
        legs = [_Leg("a", a_uuid, "inbound", customer, did, start, None, end)]
        if call.rng.random() < 0.7:  # with the id of leg a, as on the page inbound-webhooks-missed
            legs.append(_Leg("b", a_uuid, "outbound", customer, did, start, None, end))
        for leg in legs:
            teller.cdr(leg)
        return teller.expect("inbound", "missed", customer, 0, legs)
    answer = start + timedelta(seconds=call.ring())
    end = answer + timedelta(seconds=call.talk())
    a = _Leg("a", a_uuid, "inbound", customer, did, start, answer, end)
    b = _Leg("b", call.uuid(), "outbound", customer, did, start, answer, end)
    teller.event(a, "answered", answer)
    if call.kind == "inbound stream":
        teller.stream(b, answer)
    teller.event(a, "hangup", end)
    teller.cdr(a)
    teller.cdr(b)
    return teller.expect("inbound", "answered", customer, b.talk, [a, b])


def _outbound(call: Call, dialect: str) -> Expected:
    customer, did = call.office.customer(call.rng), call.rng.choice(call.office.dids)
    agent = call.rng.choice(call.office.agents)
    is_one_leg = call.kind == "outbound one leg"
    a_uuid, start, request_id = call.uuid(), call.whole_start, call.token()
    conversation = a_uuid if dialect == "india" else request_id
    teller = _Teller(call, dialect, conversation=conversation, cdr_conversation=conversation, request_id=request_id)
    a = _Leg("a", a_uuid, "outbound", did, customer if is_one_leg else agent.number, start, None, start)
    teller.event(a, "started", start)
    if dialect == "india":
        teller.event(a, "ringing", start)
    if call.kind == "outbound agent missed":
        a = a._replace(end=start + timedelta(seconds=call.ring_out()))
        teller.event(a, "hangup", a.end)
        teller.cdr(a)
        return teller.expect("outbound", "missed", None, 0, [a])
    answer = start + timedelta(seconds=call.ring())
    teller.event(a, "answered", answer)
    if is_one_leg:
        a = a._replace(answer=answer, end=answer + timedelta(seconds=call.talk()))
        teller.event(a, "hangup", a.end)
        teller.cdr(a)
        return teller.expect("outbound", "answered", customer, a.talk, [a])
    b = _Leg("b", call.uuid(), "outbound", did, customer, answer, None, answer)
    teller.event(b, "started", b.start)
    if call.kind == "outbound answered":
        b_answer = b.start + timedelta(seconds=call.ring())
        b = b._replace(answer=b_answer, end=b_answer + timedelta(seconds=call.talk()))
        teller.event(b, "answered", b_answer)
    else:
        b = b._replace(end=b.start + timedelta(seconds=call.ring_out()))
    a = a._replace(answer=answer, end=b.end)
    for leg in (b, a):
        teller.event(leg, "hangup", leg.end)
        teller.cdr(leg)
    return teller.expect("outbound", "answered" if b.answer else "missed", customer, b.talk, [a, b])


class _Teller:
    """Tells of one call's legs in the words of one dialect."""

    def __init__(
        self, call: Call, dialect: str, *, conversation: str, cdr_conversation: str, request_id: str = ""
    ) -> None:
        self.call = call
        self.dialect = dialect
        self.conversation = conversation
        self.cdr_conversation = cdr_conversation
        self.request_id = request_id
        self.app_id = int(call.account.app_id or 2222222)
        ticket = call.rng.randrange(10**6)
        self.extra_params = call.rng.choice(
            [json.dumps({"ticket": ticket}), f"{{ 'Name': 'Akil', 'ID':{ticket} }}", "{key: value}"]
        )
        call.call_id = conversation

    def event(self, leg: _Leg, word: str, at: datetime) -> None:
        payload = self._common(leg, is_event=True) | {"status": self._status(leg, word)}
        if self.dialect != "current":
            payload["type"] = "event"
        if leg.direction == "outbound":
            payload |= {"callerid": self._shown(leg), "vn": self._number(leg.from_number, is_event=True)}
            if self.dialect != "india":
                payload["request_id"] = self.request_id
        self.call.tell(at, payload, "json", is_live=True)

    def stream(self, leg: _Leg, at: datetime) -> None:
        """Tell of a media stream, which names its leg and no conversation (live-stream-connected, -disconnected)."""
        payload: Payload = {
            "appid": self.app_id, "direction": "inbound", "from": int(leg.from_number), "leg": leg.letter,
            "time": _ms(leg.start), "cmiuuid": leg.uuid,
        }  # fmt: skip
        gone = {"status": "disconnected", "message": {"code": 1006, "reason": "Abnormal closure"}}
        connected = {"status": "stream_connected", "ws_status": json.dumps({"status": "connected"})}
        self.call.tell(at, payload | connected, "json", is_live=True)
        disconnected = {"status": "STREAM_DISCONNECTED", "ws_status": json.dumps(gone)}
        self.call.tell(leg.end, payload | disconnected, "json", is_live=True)

    def cdr(self, leg: _Leg) -> None:
        payload = self._common(leg, is_event=False)
        payload |= {
            "status": "answered" if leg.answer else "missed",
            "duration": leg.talk,
            "conversation_uuid": self.cdr_conversation,
        }
        if self.dialect != "current":
            payload["type"] = "cdr"
        if self.request_id:
            payload |= {"request_id": self.request_id, "callerid": self._shown(leg)}
            payload |= {"older": {"out": True, "api_init": True}, "india": {"out": True}}.get(self.dialect, {})
        if self.dialect != "india":
            payload |= {"start_time": int(leg.start.timestamp()), "end_time": int(leg.end.timestamp())}
            if leg.answer:
                payload["answer_time"] = int(leg.answer.timestamp())
            elif self.dialect == "current":  # inbound-webhooks-missed: a missed call has one too, 24 minutes off
                payload["answer_time"] = int(leg.end.timestamp()) + 1442
            payload |= {"call_rate": f"{leg.charge:.6f}" if leg.charge else 0, "balance": ""}
            self.call.charges.append(Charge(leg.end, leg.charge, payload, self.call.office.purse))
        # Nobody watches a pause: a run that is twice as fast waits a quarter as long for what is sent again.
        resent = tuple(timedelta(minutes=minutes) / self.call.speed**2 for minutes in RESENT_MINUTES)
        self.call.tell(leg.end, payload, "json", is_live=False, resent=resent)

    def expect(self, direction: str, disposition: str, customer: str | None, talk: int, legs: list[_Leg]) -> Expected:
        cost = None if self.dialect == "india" else sum((leg.charge for leg in legs), Decimal(0))
        return Expected(direction, disposition, f"+{customer}" if customer else None, talk, cost)

    def _common(self, leg: _Leg, *, is_event: bool) -> Payload:
        return {
            "appid": self.app_id,
            "conversation_uuid": self.conversation,
            "cmiuuid": leg.uuid,
            "direction": leg.direction,
            "leg": leg.letter,
            "from": self._number(leg.from_number, is_event=is_event),
            "to": self._number(leg.to_number, is_event=is_event),
            "time": _ms(leg.start),
            "extra_params": self.extra_params,
        }

    def _status(self, leg: _Leg, word: str) -> str:
        if self.dialect != "current":
            return word
        if word == "answered" and leg.letter == "b":
            return "out_bridged"  # live-out-answered, leg b
        return f"{'in' if leg.direction == 'inbound' else 'out'}_{word}"

    def _number(self, digits: str, *, is_event: bool) -> int | str:
        if self.dialect == "india":
            return int(digits[2:])
        return digits if self.dialect == "older" and is_event else int(digits)

    def _shown(self, leg: _Leg) -> int | str:
        return "0" + leg.from_number[2:] if self.dialect == "india" else int(leg.from_number)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
