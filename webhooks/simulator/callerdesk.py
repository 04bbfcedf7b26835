"""Calls as CallerDesk and its white labels tell them: everything as text, times in the account's zone, no retries.

Fields and words follow docs.callerdesk.io (sample-payload, incoming-call-reports-status, outgoing-call-reports-status);
the white label's follow its live report, tests/deliveries/callerdesk/call_report_incoming_missed_live.json.
"""

from datetime import datetime, timedelta
from decimal import Decimal
from math import ceil
from typing import NamedTuple
from zoneinfo import ZoneInfo

from webhooks.simulator.scenario import Agent, Call, Expected, Payload

KINDS = {
    "inbound answered": 36,
    "inbound missed": 18,
    "inbound busy": 6,
    "outbound answered": 22,
    "outbound customer missed": 9,
    "outbound customer busy": 3,
    "outbound agent missed": 6,
}
DIALECTS = {("plain", "json"): 55, ("plain", "form"): 15, ("plain", "get"): 15, ("white label", "json"): 15}
ONLY_POSTED = ("type", "error_code", "LegA_Picked_time", "LegB_Start_time", "LegB_Picked_time", "key_press",
               "hangup_cause", "Uniqueid", "call_group", "receiver_name")  # fmt: skip
"""What the page's GET sample of a report lacks."""


class _Times(NamedTuple):
    """When what happened; ``None``: never."""

    start: datetime
    a_picked: datetime | None
    b_started: datetime | None
    b_picked: datetime | None
    end: datetime


def act(call: Call) -> Expected:
    """Make up the notifications of ``call`` and return what they amount to."""
    dialect, transport = call.rng.choices(list(DIALECTS), list(DIALECTS.values()))[0]
    teller = _Teller(call, transport, is_white_label=dialect == "white label")
    return _inbound(call, teller) if call.kind.startswith("inbound") else _outbound(call, teller)


def _inbound(call: Call, teller: "_Teller") -> Expected:
    customer, agent = call.office.customer(call.rng), call.rng.choice(call.office.agents)
    start = call.whole_start
    call.call_id = f"{int(start.timestamp())}.{call.office.next_number()}"
    parties = teller.parties("IVR", source=customer, dialled=agent.number)
    rings = start + timedelta(seconds=call.seconds(4))
    teller.live(parties, call.rng.choice(["Ringing", "Transfer to agent"]), start, rings)
    if call.kind == "inbound answered":
        picked = rings + timedelta(seconds=call.ring())
        end = picked + timedelta(seconds=call.talk())
        teller.live(parties, "ANSWER", start, picked)
        words, disposition = ("ANSWER", "ANSWER(16)"), "answered"
        times = _Times(start, start, rings, picked, end)
    else:
        times = _Times(start, start, rings, None, rings + timedelta(seconds=call.ring_out()))
        if call.kind == "inbound busy":
            words, disposition = (call.rng.choice(["BUSY", "AgentEngaged"]), "BUSY(17)"), "busy"
        else:
            words, disposition = (call.rng.choice(["NO ANSWER", "AbandonedCall"]), "(0)"), "missed"
        teller.live(parties, words[0], start, times.end)
        if call.kind == "inbound missed" and call.rng.random() < 0.5:
            parties, agent = parties | {"DialWhomNumber": "0"}, None
    coins = _minutes(start, times.end) if times.b_picked else 0
    cost = teller.report(parties, words, times, coins, agent)
    return Expected("inbound", disposition, f"+{customer}", _talk(times), cost)


def _outbound(call: Call, teller: "_Teller") -> Expected:
    customer, agent = call.office.customer(call.rng), call.rng.choice(call.office.agents)
    start = call.whole_start
    campaign = call.office.next_number()
    call.call_id = str(call.office.next_number())
    parties = teller.parties("WEBOBD", source=agent.number, dialled=customer) | {"campid": str(campaign)}
    if call.kind == "outbound agent missed":
        times = _Times(start, None, None, None, start + timedelta(seconds=call.ring_out()))
        cost = teller.report(parties, ("CANCEL", "NOANSWER(0-agent)"), times, 0, agent)
        return Expected("outbound", "missed", f"+{customer}", 0, cost)
    a_picked = start + timedelta(seconds=call.ring())
    teller.live(parties, "Leg A Answer", start, a_picked)
    if call.kind == "outbound answered":
        b_picked = a_picked + timedelta(seconds=call.ring())
        times = _Times(start, a_picked, a_picked, b_picked, b_picked + timedelta(seconds=call.talk()))
        teller.live(parties, "ANSWER", start, b_picked)
        words, disposition = ("ANSWER", "ANSWER(16-customer)"), "answered"
    else:
        times = _Times(start, a_picked, a_picked, None, a_picked + timedelta(seconds=call.ring_out()))
        words, disposition = ("Cancel-Customer", "NOANSWER (0-customer)"), "missed"
        if call.kind == "outbound customer busy":
            words, disposition = ("BUSY", "BUSY(17-customer)"), "busy"
    # Each leg costs a coin for each minute begun, the customer's only once it is picked up.
    coins = _minutes(a_picked, times.end) + (_minutes(times.b_picked, times.end) if times.b_picked else 0)
    cost = teller.report(parties, words, times, coins, agent)
    return Expected("outbound", disposition, f"+{customer}", _talk(times), cost)


class _Teller:
    """Tells of one call by one transport."""

    def __init__(self, call: Call, transport: str, *, is_white_label: bool) -> None:
        self.call = call
        self.transport = transport
        self.is_white_label = is_white_label
        self.zone = ZoneInfo(call.account.time_zone)

    def parties(self, direction: str, *, source: str, dialled: str) -> Payload:
        # The DID's leading 0 comes and goes.
        did = self.call.rng.choice(["0", ""]) + self.call.rng.choice(self.call.office.dids)[2:]
        return {
            "SourceNumber": "0" + source[2:], "DestinationNumber": did, "DialWhomNumber": "0" + dialled[2:],
            "Direction": direction, "CallSid": self.call.call_id, "campid": "0" if self.is_white_label else "",
        }  # fmt: skip

    def live(self, parties: Payload, status: str, start: datetime, at: datetime) -> None:
        kind = {"type": "live_call"} if self.is_white_label else {}
        payload = kind | parties | {"Status": status, "StartTime": self._time(start), "call_group": "All Agent"}
        self.call.tell(at, payload, self.transport, is_live=True)

    def report(
        self, parties: Payload, words: tuple[str, str], times: _Times, coins: int, agent: Agent | None
    ) -> Decimal:
        """Send the report and return the coins that it states; ``words`` are Status and hangup_cause."""
        cost = Decimal(coins) * (Decimal("1.5") if self.is_white_label else 1)
        status, cause = words
        is_outgoing = parties["Direction"] == "WEBOBD"
        payload: Payload = {
            "type": "call_report", **parties, "Status": status, "hangup_cause": cause, "coins": str(cost),
            "CallDuration": str(int((times.end - times.start).total_seconds())), "TalkDuration": str(_talk(times)),
            "StartTime": self._time(times.start), "EndTime": self._time(times.end),
            "LegA_Picked_time": self._time(times.a_picked), "LegB_Start_time": self._time(times.b_started),
            "LegB_Picked_time": self._time(times.b_picked) or ("0000-00-00 00:00:00" if times.b_started else ""),
            "CallRecordingUrl": self._recording(is_outgoing=is_outgoing) if times.b_picked else "",
            "call_group": "" if is_outgoing else "All Agent", "receiver_name": agent.name if agent else "0",
            "error_code": "0", "key_press": "", "Uniqueid": self.call.call_id,
        }  # fmt: skip
        if self.is_white_label:
            payload |= self._extras(parties)
            if status == "NO ANSWER":
                payload |= {"Status": "", "callstatus": " No Answer"}
        if self.transport == "get":
            payload = {key: value for key, value in payload.items() if key not in ONLY_POSTED}
            payload |= {key: str(payload[key]).replace(" ", "n") for key in ("StartTime", "EndTime")}
        self.call.tell(times.end, payload, self.transport, is_live=False)
        return cost

    def _extras(self, parties: Payload) -> Payload:
        return {
            "agent_email": "agent@example.test", "account_id": "17", "group_id": "3",
            "cparty_number": parties["SourceNumber"], "cparty_recording": "",
        }  # fmt: skip

    def _recording(self, *, is_outgoing: bool) -> str:
        folder = "outgoing" if is_outgoing else "incoming"
        return f"https://callrecords.example.test/{folder}/{self.call.call_id}.wav"

    def _time(self, moment: datetime | None) -> str:
        return moment.astimezone(self.zone).strftime("%Y-%m-%d %H:%M:%S") if moment else ""


def _talk(times: _Times) -> int:
    return int((times.end - times.b_picked).total_seconds()) if times.b_picked else 0


def _minutes(start: datetime, end: datetime) -> int:
    """Return how many minutes were begun."""
    return ceil((end - start).total_seconds() / 60)
