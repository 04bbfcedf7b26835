"""Calls as TeleCMI (CHUB) tells them.

Fields and words follow doc.telecmi.com/chub/docs and doc.telecmi.com/chub-india/docs (incoming-*, outgoing-*, live-*).
Where bodies received live differ from the pages, they are followed: see tests/deliveries/telecmi, the files *_live.
"""

import json
from datetime import datetime, timedelta

from webhooks.simulator.scenario import Agent, Call, Expected, Payload

KINDS = {
    "inbound answered": 34,
    "inbound missed": 14,
    "inbound voicemail": 8,
    "outbound answered": 24,
    "outbound customer missed": 10,
    "outbound customer busy": 4,
    "outbound agent missed": 6,
}
DIALECTS = {("current", "json"): 50, ("current", "get"): 20, ("current", "form"): 12, ("india", "json"): 18}
"""Dialect and how it is sent, which is chosen for each webhook in the portal."""


def act(call: Call) -> Expected:
    """Make up the notifications of ``call`` and return what they amount to."""
    dialect, transport = call.rng.choices(list(DIALECTS), list(DIALECTS.values()))[0]
    teller = _Teller(call, dialect, transport)
    if call.kind.startswith("inbound"):
        return _inbound(call, teller)
    return _outbound_india(call, teller) if dialect == "india" else _outbound(call, teller)


def _inbound(call: Call, teller: "_Teller") -> Expected:
    customer, did = call.office.customer(call.rng), call.rng.choice(call.office.dids)
    conversation, is_answered = call.uuid(), call.kind == "inbound answered"
    rung = call.rng.sample(call.office.agents, call.rng.choice([1, 1, 1, 2, 3]))
    call.call_id = conversation
    caller = teller.caller(conversation, customer, did)
    teller.event(caller, "waiting", call.start)
    at = call.start + timedelta(seconds=call.seconds(4))
    for agent in rung[:-1] if is_answered else rung:  # the others do not pick up
        leg = teller.agent_leg(conversation, call.uuid(), customer, agent, at)
        teller.event(leg, "started", at)
        at += timedelta(seconds=call.seconds(15))
        teller.event(leg, "hangup", at)
        teller.user_missed(leg, agent, did, at)
    if is_answered:
        return _inbound_answered(call, teller, caller, rung[-1], at)
    if call.kind == "inbound voicemail":
        at += timedelta(seconds=call.seconds(20))
    teller.event(caller, "hangup", at)
    cdr = teller.inbound_cdr(conversation, conversation, customer, did, call.start) | {
        "status": "missed",
        "waitedsec": round((at - call.start).total_seconds()),
        "voicemail": call.kind == "inbound voicemail",
        "hangup_reason": "recv_bye",
    }
    if call.kind == "inbound voicemail":
        cdr["voicename"] = teller.file_name(at)
    teller.cdr(cdr, at)
    return Expected("inbound", "missed", f"+{customer}", 0, None)


def _inbound_answered(call: Call, teller: "_Teller", caller: Payload, agent: Agent, start: datetime) -> Expected:
    customer, did = str(caller["from"]), str(caller["to"])
    answer = start + timedelta(seconds=call.ring())
    talk = call.talk()
    end = answer + timedelta(seconds=talk)
    leg = teller.agent_leg(call.call_id, call.uuid(), customer, agent, start)
    teller.event(leg, "started", start)
    teller.event(leg, "answered", answer)
    teller.event(caller, "answered", answer)
    teller.event(leg, "hangup", end)
    teller.event(caller, "hangup", end)
    # Observed live: the report may carry the agent's leg, and always its start.
    own_id = call.call_id if teller.is_india else call.rng.choice([call.call_id, str(leg["cmiuuid"])])
    cdr = teller.inbound_cdr(call.call_id, own_id, customer, did, start) | {
        "status": "answered",
        "user": teller.user(agent),
        "to": teller.number(agent.number),
        "answeredsec": talk,
        "hangup_reason": call.rng.choice(["recv_bye", "sent_bye"]),
        "record": "true" if teller.is_india else True,
        "filename": teller.file_name(answer),
    }
    teller.cdr(cdr, end)
    return Expected("inbound", "answered", f"+{customer}", talk, None)


def _outbound(call: Call, teller: "_Teller") -> Expected:
    customer, did = call.office.customer(call.rng), call.rng.choice(call.office.dids)
    agent, a_uuid, b_uuid = call.rng.choice(call.office.agents), call.uuid(), call.uuid()
    call.call_id = a_uuid
    common: Payload = {"user": teller.user(agent), "direction": "outbound", "custom": "none"}
    if call.rng.random() < 0.7:  # click-to-call; only then is there a request_id
        common |= {"request_id": call.token(), "extra_params": json.dumps({"click2call": "true"})}
    else:
        common["extra_params"] = {"{}": None}  # observed live on calls from the softphone
    event = common | {"type": "event", "app_id": teller.app_id, "conversation_uuid": a_uuid, "call_id": call.uuid()}
    report = common | {"type": "cdr", "appid": teller.app_id, "virtual_number": did, "call_id": call.uuid()}
    report |= {"to": int(customer), "custom": "false"}
    a, b = {"leg": "a", "cmiuuid": a_uuid, "time": _ms(call.start)}, {"leg": "b", "cmiuuid": b_uuid}
    # Observed live: on the agent's leg these two are the other way round than documented.
    a_event = event | a | {"to": agent.number, "callerid": f"+{customer}"}
    teller.event(a_event, "started", call.start)
    if call.kind == "outbound agent missed":
        end = call.start + timedelta(seconds=call.ring_out())
        teller.event(a_event, "hangup", end)
        teller.cdr(report | a | {"status": "missed", "hangup_reason": "recv_cancel"}, end)
        return Expected("outbound", "missed", f"+{customer}", 0, None)
    a_answer = call.start + timedelta(seconds=call.ring())
    teller.event(a_event, "answered", a_answer)
    b |= {"time": _ms(a_answer)}
    b_event = event | b | {"to": customer, "callerid": did}
    teller.event(b_event, "started", a_answer)
    talk, disposition = 0, "missed"
    if call.kind == "outbound answered":
        disposition = "answered"
        b_answer = a_answer + timedelta(seconds=call.ring())
        talk = call.talk()
        end = b_answer + timedelta(seconds=talk)
        teller.event(b_event, "answered", b_answer)
        outcome: Payload = {"status": "answered", "answeredsec": talk, "hangup_reason": "sent_bye", "record": True}
        outcome["filename"] = teller.file_name(b_answer)
    elif call.kind == "outbound customer busy":
        disposition = "busy"
        end = a_answer + timedelta(seconds=call.ring())
        outcome = {"status": "missed", "hangup_reason": "sent_reject"}
    else:
        end = a_answer + timedelta(seconds=call.ring_out())
        outcome = {"status": "missed", "hangup_reason": "recv_cancel"}
    a_talk = round((end - a_answer).total_seconds())
    teller.event(b_event, "hangup", end)
    teller.event(a_event, "hangup", end)
    # Leg a says answered even when the customer never was (observed live).
    teller.cdr(report | a | {"status": "answered", "answeredsec": a_talk, "hangup_reason": "recv_bye"}, end)
    teller.cdr(report | b | outcome, end)
    return Expected("outbound", disposition, f"+{customer}", talk, None)


def _outbound_india(call: Call, teller: "_Teller") -> Expected:
    """One report without a letter accounts for the whole call (chub-india, outgoing-answered, outgoing-missed)."""
    customer, did = call.office.customer(call.rng), call.rng.choice(call.office.dids)
    agent, uuid, is_answered = call.rng.choice(call.office.agents), call.uuid(), call.kind == "outbound answered"
    call.call_id = uuid
    common: Payload = {
        "user": teller.user(agent), "cmiuuid": uuid, "direction": "outbound", "time": _ms(call.start),
        "to": teller.number(customer), "click_to_call": "true",
    }  # fmt: skip
    event = common | {"leg": "a", "type": "event", "app_id": teller.app_id, "conversation_uuid": uuid}
    event["callerid"] = "0" + did[2:]
    teller.event(event, "started", call.start)
    talk = 0
    at = call.start + timedelta(seconds=call.ring() if is_answered else call.ring_out())
    cdr = common | {"type": "cdr", "appid": teller.app_id, "status": "answered" if is_answered else "missed"}
    if is_answered:
        talk = call.talk()
        cdr |= {"answeredsec": talk, "record": "true", "filename": teller.file_name(at)}
        teller.event(event, "answered", at)
        at += timedelta(seconds=talk)
    teller.event(event, "hangup", at)
    teller.cdr(cdr, at)
    return Expected("outbound", "answered" if is_answered else "missed", f"+{customer}", talk, None)


class _Teller:
    """Tells of one call in one dialect."""

    def __init__(self, call: Call, dialect: str, transport: str) -> None:
        self.call = call
        self.is_india = dialect == "india"
        self.transport = transport
        self.app_id = int(call.account.app_id or 2222223)
        self.custom = {} if self.is_india else {"custom": json.dumps({"crm": "true"})}

    def event(self, payload: Payload, status: str, at: datetime) -> None:
        self.call.tell(at, payload | {"status": status}, self.transport, is_live=True)

    def cdr(self, payload: Payload, at: datetime) -> None:
        self.call.tell(at, payload, self.transport, is_live=False)

    def caller(self, conversation: str, customer: str, did: str) -> Payload:
        """Return what the events of the caller's leg have in common (live-incoming-*): no letter."""
        return {
            "type": "event", "direction": "inbound", "conversation_uuid": conversation, "cmiuuid": conversation,
            "from": customer, "to": did, "app_id": self.app_id, "time": _ms(self.call.start), **self.custom,
        }  # fmt: skip

    def agent_leg(self, conversation: str, uuid: str, customer: str, agent: Agent, start: datetime) -> Payload:
        """Return what the events of an agent's leg of an inbound call have in common (live-outgoing-*)."""
        letter = {} if self.is_india else {"leg": "b"}
        return letter | {
            "type": "event", "team": self._team, "user": self.user(agent), "conversation_uuid": conversation,
            "cmiuuid": uuid, "direction": "outbound", "from": self.number(customer), "app_id": self.app_id,
            "time": _ms(start), **self.custom,
        }  # fmt: skip

    def user_missed(self, leg: Payload, agent: Agent, did: str, at: datetime) -> None:
        """Report an agent who did not pick up (incoming-user-missed, which India does not have)."""
        if self.is_india:
            return
        cdr = {key: leg[key] for key in ("leg", "cmiuuid", "conversation_uuid", "user", "team", "from", "time")}
        cdr |= {"type": "cdr", "appid": self.app_id, "direction": "inbound", "status": "missed"}
        cdr |= {"to": int(agent.number), "virtual_number": int(did), "hangup_reason": "recv_cancel", **self.custom}
        self.cdr(cdr, at)

    def inbound_cdr(self, conversation: str, uuid: str, customer: str, did: str, time: datetime) -> Payload:
        """Return what the reports on the caller have in common (incoming-answered, incoming-missed)."""
        cdr: Payload = {
            "appid": self.app_id, "type": "cdr", "direction": "inbound", "cmiuuid": uuid,
            "from": self.number(customer), "time": _ms(time), "team": self._team,
        }  # fmt: skip
        if not self.is_india:
            cdr |= {"virtual_number": int(did), "conversation_uuid": conversation, "ivr_name": "salesivr"}
        return cdr | self.custom

    def user(self, agent: Agent) -> str:
        return f"{agent.extension}_{self.app_id}"

    def number(self, digits: str) -> int:
        return int(digits[2:] if self.is_india else digits)

    def file_name(self, at: datetime) -> str:
        """Return the name of a recording: milliseconds, a serial number, the app id."""
        return f"{_ms(at)}{self.call.office.next_number() % 10**9:09d}_{self.app_id}.mp3"

    @property
    def _team(self) -> str:
        return f"Sales_{self.app_id}"


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
