"""What TeleCMI (CHUB) sends of a call, in its current and India dialects, by POST as JSON or form and by GET.

Fields and words are those of the samples on doc.telecmi.com/chub/docs (incoming-*, outgoing-*, live-*) and
doc.telecmi.com/chub-india/docs; what the pages leave open is as in the bodies received live among the wire files.
"""

import json

from webhooks.simulator.call import Call, Expected, Kind, Notice, Person, Transport, expect, milliseconds

SHARES = {
    Kind.IN_ANSWERED: 38,
    Kind.IN_MISSED: 14,
    Kind.IN_VOICEMAIL: 8,
    Kind.OUT_ANSWERED: 22,
    Kind.OUT_CUSTOMER_MISSED: 9,
    Kind.OUT_CUSTOMER_BUSY: 4,
    Kind.OUT_AGENT_MISSED: 5,
}
DIALECTS = {"current": 7, "india": 1, "form": 1, "get": 1}
"""The last two are the current one by other ways; India sends JSON only."""
TRANSPORTS = {"form": Transport.FORM, "get": Transport.QUERY}
RESEND_MINUTES = ()
SAMPLE_APP_ID = "2222223"


def tell(call: Call) -> tuple[list[Notice], Expected]:
    """Return what is sent of ``call``, and what should come of it. TeleCMI tells no money."""
    notices = _inbound(call) if call.kind.startswith("in") else _outbound(call)
    return notices, expect(call, cost=None)


def odd(call: Call) -> Notice:
    """Return a notification that cannot be understood: a new word, a wrong unit, or the pages' JavaScript literal."""
    uuid = call.uuid()
    notice = _event(call, "queued", 0, uuid, _caller(call, uuid))
    notice.is_odd = True
    shape = call.number % 3
    if shape == 1:
        notice.fields |= {"status": "waiting", "time": int(call.starts_at.timestamp())}
    elif shape == 2:
        notice.raw = f"{{ type: 'event', status: 'waiting', cmiuuid: '{uuid}' }}".encode()
    return notice


def _inbound(call: Call) -> list[Notice]:
    """The caller's leg has no letter, and the conversation's id; each agent who is rung has a leg b."""
    conversation = call.uuid()
    caller = _caller(call, conversation)
    is_answered = call.kind == Kind.IN_ANSWERED
    answer = call.pickup_seconds
    notices = [_event(call, "waiting", 0, conversation, caller), _event(call, "answered", 1, conversation, caller)]
    for agent in call.agents:
        uuid = call.uuid()
        leg = {"team": f"Sales_{_app_id(call)}", "user": _user(call, agent), "direction": "outbound"}
        leg |= {"from": _number(call, call.customer), "time": milliseconds(call.at(answer))}
        if call.dialect != "india":
            leg["leg"] = "b"
        started, answer = answer, answer + call.ring_seconds
        notices.append(_event(call, "started", started, conversation, leg | {"cmiuuid": uuid}))
        if is_answered and agent == call.agent:
            end = answer + call.talk_seconds
            notices.append(_event(call, "answered", answer, conversation, leg | {"cmiuuid": uuid}))
            notices.append(_event(call, "hangup", end, conversation, leg | {"cmiuuid": uuid}))
            # Observed live: the one report of an answered call carries the id and the start of the agent's leg.
            fields = {
                "cmiuuid": conversation if call.dialect == "india" else uuid,
                "user": _user(call, agent),
                "to": int(agent.phone),
                "time": milliseconds(call.at(started)),
                "answeredsec": call.talk_seconds,
            }
            fields |= _recording(call, answer) | {"hangup_reason": call.chance.choice(["recv_bye", "sent_bye"])}
            notices.append(_caller_report(call, end, conversation, "answered", fields))
        else:
            end = answer
            notices.append(_event(call, "hangup", end, conversation, leg | {"cmiuuid": uuid}))
            if call.dialect != "india":
                notices.append(_agent_missed(call, agent, uuid, started, end))
    if not is_answered:
        fields = {"cmiuuid": conversation, "time": milliseconds(call.starts_at), "waitedsec": end}
        fields["hangup_reason"] = "recv_bye"
        if call.kind == Kind.IN_VOICEMAIL:
            name = f"{milliseconds(call.at(end))}{call.number:06d}_{_app_id(call)}.mp3"
            fields |= {"voicemail": "true" if call.dialect == "india" else True, "voicename": name}
            end += call.talk_seconds
        else:
            fields["voicemail"] = "false" if call.dialect == "india" else False
        notices.append(_caller_report(call, end, conversation, "missed", fields))
    notices.append(_event(call, "hangup", end, conversation, caller))
    return notices


def _outbound(call: Call) -> list[Notice]:
    """Leg a is the agent and rung first. India reports the whole call in one CDR, and we know of no leg b there."""
    a_uuid, b_uuid = call.uuid(), call.uuid()
    request_id = call.token() if call.is_click_to_call else ""
    call_ids = {"a": call.uuid(), "b": call.uuid()}
    common: dict[str, object] = {"user": _user(call, call.agent), "direction": "outbound"}
    if call.is_click_to_call:
        if call.dialect == "india":
            common["click_to_call"] = "true"
        else:
            extra = {"ticket": 4000 + call.number}
            # Echoed as an object or as its text: both are sent.
            common |= {"request_id": request_id, "extra_params": json.dumps(extra) if call.number % 2 else extra}

    def leg(letter: str) -> dict[str, object]:
        # Observed live: leg a's events name the agent's own number as to, and the customer as callerid.
        to, shown = (call.agent.phone, f"+{call.customer}") if letter == "a" else (call.customer, call.did)
        fields = common | {"leg": letter, "cmiuuid": a_uuid if letter == "a" else b_uuid, "to": to, "callerid": shown}
        if call.dialect == "india":
            return fields | {"to": int(call.customer), "callerid": f"0{call.did.removeprefix('91')}"}
        return fields | {"call_id": call_ids[letter]}

    def event(letter: str, word: str, start: int, seconds: int) -> Notice:
        fields = leg(letter) | {"time": milliseconds(call.at(start))}
        return _event(call, word, seconds, a_uuid, fields)

    def report(letter: str, start: int, answer: int | None, end: int, reason: str) -> Notice:
        fields = common | {"to": int(call.customer), "cmiuuid": a_uuid if letter == "a" else b_uuid}
        fields |= {"time": milliseconds(call.at(start)), "status": "missed" if answer is None else "answered"}
        if answer is not None:
            fields["answeredsec"] = end - answer
            if letter == "b" or call.dialect == "india":
                fields |= _recording(call, answer)
        if call.dialect != "india":
            # Observed live: a leg's report has not its events' call_id; without click-to-call it joins the two reports.
            fields |= {"leg": letter, "call_id": f"cdr-{call_ids['a']}", "virtual_number": int(call.did)}
            fields |= {"hangup_reason": reason, "custom": "false"}
        return _report(call, end, fields)

    answer = call.pickup_seconds
    notices = [event("a", "started", 0, 0)]
    if call.kind == Kind.OUT_AGENT_MISSED:
        notices.append(event("a", "hangup", 0, answer))
        return [*notices, report("a", 0, None, answer, "recv_cancel")]
    notices.append(event("a", "answered", 0, answer))
    bridge: int | None = answer + call.ring_seconds
    end = answer + call.ring_seconds
    reason = "sent_reject" if call.kind == Kind.OUT_CUSTOMER_BUSY else "recv_cancel"
    if call.kind == Kind.OUT_ANSWERED:
        end, reason = end + call.talk_seconds, "sent_bye"
    else:
        bridge = None
    notices.append(event("a", "hangup", 0, end))
    if call.dialect == "india":
        return [*notices, report("a", 0, bridge, end, reason)]
    notices.append(event("b", "started", answer, answer))
    if bridge is not None:
        notices.append(event("b", "answered", answer, bridge))
    notices.append(event("b", "hangup", answer, end))
    return [*notices, report("b", answer, bridge, end, reason), report("a", 0, answer, end, "recv_bye")]


def _caller(call: Call, conversation: str) -> dict[str, object]:
    """Return what the events of the caller's leg say."""
    return {
        "direction": "inbound",
        "cmiuuid": conversation,
        "from": _number(call, call.customer),
        "to": _number(call, call.did),
        "time": milliseconds(call.starts_at),
    }


def _event(call: Call, word: str, seconds: int, conversation: str, leg: dict[str, object]) -> Notice:
    fields = leg | {"type": "event", "app_id": int(_app_id(call)), "conversation_uuid": conversation, "status": word}
    if call.dialect != "india":
        fields["custom"] = "none"
    return Notice(call.at(seconds), fields, TRANSPORTS.get(call.dialect, Transport.JSON))


def _caller_report(call: Call, seconds: int, conversation: str, word: str, fields: dict[str, object]) -> Notice:
    """Return the one CDR of an incoming call."""
    fields |= {"direction": "inbound", "status": word, "from": int(call.customer), "team": f"Sales_{_app_id(call)}"}
    if call.dialect == "india":
        del fields["hangup_reason"]
    else:
        fields |= {"virtual_number": int(call.did), "conversation_uuid": conversation, "ivr_name": "salesivr"}
        fields["custom"] = json.dumps({"crm": "true"})
    return _report(call, seconds, fields)


def _agent_missed(call: Call, agent: Person, uuid: str, started: int, end: int) -> Notice:
    """Return the CDR of an agent who was rung and did not pick up; it names no conversation."""
    fields = {"direction": "inbound", "leg": "b", "cmiuuid": uuid, "status": "missed", "user": _user(call, agent)}
    fields |= {"to": int(agent.phone), "from": int(call.customer), "time": milliseconds(call.at(started))}
    fields |= {"team": f"Sales_{_app_id(call)}", "hangup_reason": "recv_cancel"}
    return _report(call, end, fields)


def _report(call: Call, seconds: int, fields: dict[str, object]) -> Notice:
    fields = fields | {"type": "cdr", "appid": int(_app_id(call))}
    return Notice(call.at(seconds), fields, TRANSPORTS.get(call.dialect, Transport.JSON), is_report=True)


def _recording(call: Call, answer: int) -> dict[str, object]:
    """Return the fields of a recording; its name begins with the time of the answer."""
    name = f"{milliseconds(call.at(answer))}{call.number:06d}_{_app_id(call)}.mp3"
    return {"record": "true" if call.dialect == "india" else True, "filename": name}


def _number(call: Call, digits: str) -> object:
    """Events carry numbers as text, in India as numbers."""
    return int(digits) if call.dialect == "india" else digits


def _user(call: Call, agent: Person) -> str:
    return f"{agent.extension}_{_app_id(call)}"


def _app_id(call: Call) -> str:
    return call.account.app_id or SAMPLE_APP_ID
