"""What CallerDesk and its white labels send of a call: live calls and one report, as JSON, form or query.

Fields and words are those of docs.callerdesk.io/sample-payload, /incoming-call-reports-status and
/outgoing-call-reports-status, the two samples of api.callerdesk.io, and a white label's report received live. Every
value is text; times are local to the account's zone.
"""

from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

from webhooks.simulator.call import Call, Expected, Kind, Notice, Transport, expect

SHARES = {
    Kind.IN_ANSWERED: 38,
    Kind.IN_MISSED: 18,
    Kind.IN_BUSY: 6,
    Kind.OUT_ANSWERED: 22,
    Kind.OUT_CUSTOMER_MISSED: 8,
    Kind.OUT_CUSTOMER_BUSY: 3,
    Kind.OUT_AGENT_MISSED: 5,
}
DIALECTS = {"json": 6, "white label": 2, "form": 1, "get": 1}
TRANSPORTS = {"form": Transport.FORM, "get": Transport.QUERY}
RESEND_MINUTES = ()


class _Word(NamedTuple):
    status: str
    hangup_cause: str


WORDS = {
    Kind.IN_ANSWERED: _Word("ANSWER", "ANSWER(16-customer)"),
    Kind.IN_MISSED: _Word("NO ANSWER", "NOANSWER(0-agent)"),
    Kind.IN_BUSY: _Word("AgentEngaged", "BUSY(17-agent)"),
    Kind.OUT_ANSWERED: _Word("ANSWER", "ANSWER(16-customer)"),
    Kind.OUT_AGENT_MISSED: _Word("CANCEL", "NOANSWER(0-agent)"),
    Kind.OUT_CUSTOMER_MISSED: _Word("Cancel-Customer", "NOANSWER (0-customer)"),
    Kind.OUT_CUSTOMER_BUSY: _Word("BUSY", "BUSY(17-customer)"),
}


def tell(call: Call) -> tuple[list[Notice], Expected]:
    """Return what is sent of ``call``, and what should come of it. Cost is in coins."""
    is_outbound = call.kind.startswith("out")
    is_answered = call.kind in {Kind.IN_ANSWERED, Kind.OUT_ANSWERED}
    common = _common(call, is_outbound=is_outbound)
    # Leg a of an incoming call is the caller, whom the IVR picks up at once.
    a_picked = call.pickup_seconds if is_outbound else 1
    was_b_rung = call.kind not in {Kind.OUT_AGENT_MISSED, Kind.IN_BUSY}
    b_started = a_picked + 1
    b_ended = b_started + call.ring_seconds if was_b_rung else a_picked
    end = b_ended + (call.talk_seconds if is_answered else 0)
    talk = call.talk_seconds if is_answered else 0
    coins = call.minutes(talk)
    if is_outbound and was_b_rung:
        coins += call.minutes(end - a_picked)
    word = WORDS[call.kind]
    live = []
    if was_b_rung:
        live.append(_live(call, common, "Transfer to agent" if not is_outbound else "Ringing", b_started))
    if is_answered:
        live.append(_live(call, common, "Picked", b_ended))
    fields = common | {
        "CallDuration": str(end),
        "TalkDuration": str(talk),
        "coins": str(coins),
        "Status": word.status,
        "EndTime": _local(call, end),
        "CallRecordingUrl": _recording(call, end) if is_answered else "",
    }
    if call.dialect == "get":
        # The sample of a GET has neither the type nor the legs, and the letter n between date and time.
        for name in ("StartTime", "EndTime"):
            fields[name] = str(fields[name]).replace(" ", "n")
    else:
        fields |= {
            "type": "call_report",
            "call_group": "" if is_outbound else "All Agent",
            "receiver_name": call.agent.name if is_outbound or is_answered else "0",
            "error_code": "0",
            "LegA_Picked_time": _local(call, a_picked) if call.kind != Kind.OUT_AGENT_MISSED else "",
            "LegB_Start_time": _local(call, b_started) if was_b_rung else "",
            "LegB_Picked_time": _local(call, b_ended) if is_answered else _no_time(call),
            "key_press": "" if is_outbound else str(1 + call.number % 3),
            "hangup_cause": word.hangup_cause,
            "Uniqueid": common["CallSid"],
        }
    if call.dialect == "white label":
        fields |= _white_label_extras(call)
        if call.kind == Kind.IN_MISSED:
            # Received live: the status is empty, and the word stands in callstatus behind a blank.
            fields |= {"Status": "", "callstatus": " No Answer", "hangup_cause": "(0)"}
    report = Notice(call.at(end), fields, _transport(call), is_report=True)
    return [*live, report], expect(call, cost=Decimal(coins))


def odd(call: Call) -> Notice:
    """Return a report that cannot be understood: a new word, a senseless field, or a JavaScript literal."""
    fields = _common(call, is_outbound=False)
    fields |= {"CallSid": f"odd-{fields['CallSid']}", "type": "call_report", "Status": "PARKED"}
    notice = Notice(call.at(call.pickup_seconds), fields, is_odd=True)
    shape = call.number % 3
    if shape == 1:
        fields |= {"Status": "ANSWER", "CallDuration": "00:01:26"}
    elif shape == 2:
        notice.raw = f"{{ type: 'call_report', Status: 'ANSWER', CallSid: '{fields['CallSid']}' }}".encode()
    return notice


def _common(call: Call, *, is_outbound: bool) -> dict[str, object]:
    """Return what live calls and reports have in common. SourceNumber is whoever is leg a."""
    agent, customer = _national(call.agent.phone), _national(call.customer)
    is_nobody = call.kind in {Kind.IN_MISSED, Kind.IN_BUSY}
    number = call.ids.randrange(10**6)
    return {
        "SourceNumber": agent if is_outbound else customer,
        # Our number comes without its leading 0 now and then.
        "DestinationNumber": _national(call.did).removeprefix("0") if call.number % 2 else _national(call.did),
        "DialWhomNumber": customer if is_outbound else ("0" if is_nobody else agent),
        "StartTime": _local(call, 0),
        "CallSid": f"{int(call.starts_at.timestamp())}{number:06d}"
        if is_outbound
        else f"{int(call.starts_at.timestamp())}.{number}",
        "Direction": "WEBOBD" if is_outbound else "IVR",
        "campid": str(9_000_000_000 + number + int(call.starts_at.timestamp())) if is_outbound else "0",
    }


def _live(call: Call, common: dict[str, object], word: str, seconds: int) -> Notice:
    fields = common | {"type": "live_call", "Status": word, "call_group": ""}
    del fields["campid"]
    return Notice(call.at(seconds), fields, _transport(call))


def _white_label_extras(call: Call) -> dict[str, object]:
    return {
        "callstatus": WORDS[call.kind].status,
        "agent_email": f"{call.agent.name.lower()}@example.com",
        "account_id": "4711",
        "group_id": "12",
        "cparty_number": _national(call.customer),
        "cparty_recording": "",
    }


def _recording(call: Call, end: int) -> str:
    way = "outgoing" if call.kind == Kind.OUT_ANSWERED else "incoming"
    return f"https://newcallrecords.callerdesk.io/{way}/{call.at(end):%m_%Y}/{call.uuid()}.wav"


def _no_time(call: Call) -> str:
    """Return one of the ways in which CallerDesk says that something never happened."""
    return ("", "0000-00-00 00:00:00")[call.number % 2]


def _local(call: Call, seconds: int) -> str:
    return f"{call.at(seconds).astimezone(ZoneInfo(call.account.time_zone)):%Y-%m-%d %H:%M:%S}"


def _national(number: str) -> str:
    """Return digits with an Indian country code as CallerDesk writes them: with a leading 0 instead."""
    return f"0{number.removeprefix('91')}"


def _transport(call: Call) -> Transport:
    return TRANSPORTS.get(call.dialect, Transport.JSON)
