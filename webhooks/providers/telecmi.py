"""TeleCMI (CHUB): call reports and live events of the current, the India and the 2019 dialect.

Pages: doc.telecmi.com/chub/docs/ (incoming-*, outgoing-*, live-*), doc.telecmi.com/chub-india/docs/, and for 2019
github.com/murugancmi/telecmi-webhooks. What they leave open was taken from bodies received live; each such body is a
wire file of tests/deliveries/telecmi.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple, TypedDict
from urllib.parse import urlencode

from calls.choices import Direction, Disposition, EventKind, Label, Role
from calls.records import AccountFacts, AgentRef, Alias, LegCdr, LiveEvent, Record
from webhooks.errors import BadField, DeliveryError, Refused, UnknownWord, UnrecognizedPayload, WrongAccount
from webhooks.reader import Reader

SHAPE_FIELDS = ("type", "direction", "leg", "status")
"""Their words tell what kind of payload it is."""
TYPE_WORDS = {"cdr": True, "event": False}
"""Whether it is a final report; the 2019 dialect does not say."""
DIRECTION_WORDS = {"inbound": Direction.INBOUND, "outbound": Direction.OUTBOUND}
LEG_WORDS = {"a": Label.A, "b": Label.B}
CDR_WORDS = {"answered": Disposition.ANSWERED, "missed": Disposition.MISSED}
EVENT_WORDS = {
    "waiting": EventKind.WAITING,
    "started": EventKind.STARTED,
    "ringing": EventKind.RINGING,
    "answered": EventKind.ANSWERED,
    "hangup": EventKind.HANGUP,
}
REJECTED = "sent_reject"
"""The ``hangup_reason`` of a rung party who rejected the call; every other one of a missed leg is no answer."""
CDR_FIELDS = ("waitedsec", "answeredsec", "billedsec", "voicemail")
"""Only reports have them; they tell a report of 2019, which has no ``type``."""


class _Leg(TypedDict):
    """What reports and events say of their leg in the same fields."""

    aliases: tuple[Alias, ...]
    leg_id: str
    label: Label
    conversation_id: str
    request_id: str
    role: Role
    call_direction: Direction
    direction: Direction
    from_number: str
    agent: AgentRef | None


def parse(payload: Mapping[str, object], *, received_at: datetime, account: AccountFacts) -> list[Record]:
    """Return the one record of a report or live event, or one for each row of a batch in the pull API's envelope.

    A request of the inbound HTTP flow, which asks where to route a call, is understood and gives ``[]``.
    ``time`` is the leg's start in UTC milliseconds on every notification of the leg, whatever the pages' tables say
    (all samples of the live-outgoing-out-* pages carry the same one).
    Raises ``UnrecognizedPayload``, ``WrongAccount``, ``UnknownWord`` and ``BadField``; for a batch the error of the
    first row that fails, with the records of the good rows.
    """
    reader = Reader(payload, received_at=received_at)
    if reader.has("cdr"):
        return _rows(payload["cdr"], received_at, Direction.UNKNOWN)
    _check_account(reader, account)
    if not reader.word("status") and not reader.word("type"):
        if reader.text("cmiuuid") and reader.phone("from") and reader.phone("to"):
            return []
        raise UnrecognizedPayload("neither a report nor a live event of TeleCMI: it has no status and no type")
    return [_cdr(reader) if _is_cdr(reader) else _event(reader, received_at)]


def _check_account(reader: Reader, account: AccountFacts) -> None:
    for name in ("appid", "app_id"):
        app_id = reader.text(name)
        if app_id and account.app_id and app_id != account.app_id:
            raise WrongAccount(f"expected {account.app_id}, this account's app id", field=name, value=app_id)


def _is_cdr(reader: Reader) -> bool:
    kind = reader.word("type")
    if not kind:
        return reader.has(*CDR_FIELDS) or reader.word("status") == "missed"
    if kind not in TYPE_WORDS:
        raise UnrecognizedPayload("expected cdr or event", field="type", value=kind)
    return TYPE_WORDS[kind]


def _cdr(reader: Reader) -> LegCdr:
    status = reader.word("status")
    if status not in CDR_WORDS:
        raise UnknownWord("expected answered or missed", field="status", value=reader.text("status"))
    leg = _leg(reader, is_cdr=True)
    is_inbound = leg["call_direction"] == Direction.INBOUND
    is_caller = leg["role"] == Role.CUSTOMER and is_inbound
    disposition = CDR_WORDS[status]
    is_answered = disposition == Disposition.ANSWERED
    hangup_cause = reader.text("hangup_reason")
    if not is_answered and not is_caller and reader.word("leg") != "a" and hangup_cause.lower() == REJECTED:
        disposition = Disposition.BUSY
    virtual_number = reader.phone("virtual_number")
    # On the caller's leg "to" is the phone of the agent who answered (page incoming-answered), not the number dialled.
    dialled = reader.phone("to")
    to_number = virtual_number if is_caller else dialled
    agent_number = {"agent_number": dialled} if is_caller and dialled else {}
    customer_number = leg["from_number"]
    if not is_inbound:
        # An agent's leg tells the customer's number only when no customer's leg will (observed live).
        customer_number = to_number if leg["role"] == Role.CUSTOMER or not is_answered else ""
    time = reader.epoch_ms("time")
    # The one report of an answered inbound call carries the start of the agent's leg, later than the caller's.
    is_agents_time = is_caller and is_answered
    waited = reader.seconds("waitedsec")
    talk = reader.seconds("answeredsec")
    filename, voicename = reader.text("filename", limit=2000), reader.text("voicename", limit=2000)
    recording = filename if reader.flag("record") else ""
    voicemail = reader.flag("voicemail") is True
    return LegCdr(
        **leg,
        disposition=disposition,
        to_number=to_number,
        customer_number=customer_number,
        did=virtual_number,
        started_at=None if is_agents_time else time,
        call_started_by=time if is_agents_time else None,
        ring_seconds=waited,
        talk_seconds=talk if is_answered else 0,
        duration_seconds=None if is_answered else waited,
        hangup_cause=hangup_cause,
        recording=voicename if voicemail else recording,
        voicemail=voicemail,
        extra_params=agent_number | _extra_params(reader),
    )


def _event(reader: Reader, received_at: datetime) -> LiveEvent:
    kind = EVENT_WORDS.get(reader.word("status"))
    if kind is None:
        raise UnknownWord(f"expected one of {', '.join(EVENT_WORDS)}", field="status", value=reader.text("status"))
    leg = _leg(reader, is_cdr=False)
    is_inbound = leg["call_direction"] == Direction.INBOUND
    is_customer = leg["role"] == Role.CUSTOMER
    to_number = reader.phone("to")
    # callerid and to of an outbound call's a-leg are the two parties either way round: documented and observed differ.
    customer_number = leg["from_number"] if is_inbound else to_number if is_customer else ""
    did = (to_number if is_inbound else reader.phone("callerid")) if is_customer else ""
    time = reader.epoch_ms("time")
    return LiveEvent(
        **leg,
        kind=kind,
        provider_status=reader.text("status"),
        occurred_at=time if time and kind in {EventKind.STARTED, EventKind.WAITING} else received_at,
        is_answer=kind == EventKind.ANSWERED and not (is_inbound and is_customer),
        to_number=to_number,
        customer_number=customer_number,
        did=did,
        started_at=time,
        extra_params=_extra_params(reader),
    )


def _leg(reader: Reader, *, is_cdr: bool) -> _Leg:
    uuid = reader.text("cmiuuid", "cmiuid")
    conversation = reader.text("conversation_uuid", "parent_uid")
    if not uuid and not conversation:
        raise BadField("the call's id is missing", field="cmiuuid")
    request_id = reader.text("request_id")
    call_id = reader.text("call_id")
    aliases = [Alias("uuid", value) for value in (conversation, uuid) if value]
    if request_id:
        aliases.append(Alias("request", request_id))
    elif call_id and is_cdr:
        # Observed live: a leg's events and its report carry different call_ids, so it joins reports only.
        aliases.append(Alias("call", call_id))
    call_direction, role = _party(reader, is_cdr=is_cdr, has_own_id=uuid != conversation)
    is_inbound = call_direction == Direction.INBOUND
    # Observed live: the one report of an inbound call carries the id of the agent's leg beside the conversation's.
    leg_id = conversation or uuid if is_inbound and role == Role.CUSTOMER else uuid or conversation
    letter = Label.B if is_inbound and role == Role.AGENT else LEG_WORDS.get(reader.word("leg"), Label.A)
    user = _without_app_id(reader.text("user"))
    return _Leg(
        aliases=tuple(dict.fromkeys(aliases)),
        leg_id=leg_id,
        label=letter,
        conversation_id=conversation,
        request_id=request_id,
        role=role,
        call_direction=call_direction,
        direction=DIRECTION_WORDS[reader.word("direction")],
        from_number=reader.phone("from", "callerid"),
        agent=AgentRef(external_id=user) if user else None,
    )


def _party(reader: Reader, *, is_cdr: bool, has_own_id: bool) -> tuple[Direction, Role]:
    """Return the direction of the whole call and whose leg this is.

    ``direction`` is the leg's: on the agent's leg of an inbound call it is outbound (pages live-outgoing-started,
    -answered, -hangup). What sets that leg apart is that it names no dialled number and has an id of its own; in India
    it has no letter either.
    """
    direction, letter = reader.word("direction"), reader.word("leg")
    if direction not in DIRECTION_WORDS:
        raise UnknownWord("expected inbound or outbound", field="direction", value=reader.text("direction"))
    if letter and letter not in LEG_WORDS:
        raise UnknownWord("expected a or b", field="leg", value=reader.text("leg"))
    if direction == "inbound":
        return Direction.INBOUND, Role.AGENT if letter == "b" else Role.CUSTOMER
    names_dialled = any(reader.text(name) for name in ("call_id", "callerid", "to"))
    if not is_cdr and letter != "a" and has_own_id and not names_dialled:
        return Direction.INBOUND, Role.AGENT
    if letter:
        return Direction.OUTBOUND, Role.AGENT if letter == "a" else Role.CUSTOMER
    # A report without a letter, as in India, accounts for the whole call.
    return Direction.OUTBOUND, Role.CUSTOMER if is_cdr else Role.UNKNOWN


def _extra_params(reader: Reader) -> dict[str, object]:
    """Return what click-to-call and the webhook's settings echo, and the fields we do not model. Call it last."""
    extra = reader.mapping("extra_params")
    if custom := reader.mapping("custom"):
        extra["custom"] = custom
    if team := _without_app_id(reader.text("team")):
        extra["team"] = team
    return extra | reader.rest()


def _without_app_id(text: str) -> str:
    """Return ``204`` for ``204_2222223``: users and teams carry the app id behind their own name."""
    name, _, app_id = text.rpartition("_")
    return name if name and app_id.isdecimal() else text


def _rows(rows: object, received_at: datetime, direction: Direction) -> list[Record]:
    """Return the records of the rows ``{"count" or "total": …, "cdr": [row, …]}``, as answered-call and the like give.

    One that fails does not keep the others back.
    """
    if not isinstance(rows, list):
        raise BadField("expected a list of rows", field="cdr", value=rows)
    records: list[Record] = []
    failures: list[DeliveryError] = []
    for row in rows:
        try:
            records.append(_row(row, received_at, direction))
        except DeliveryError as failure:
            failures.append(failure)
    if failures:
        failures[0].records = tuple(records)
        raise failures[0]
    return records


def _row(row: object, received_at: datetime, direction: Direction) -> LegCdr:
    """Return what one row adds to a call. It says neither direction nor outcome: those are of the question asked.

    It names no leg either (``cmiuid`` may be that of any), so it joins whichever leg is known.
    A missed call has length and price too (page missed-call: 4 seconds billed), so they prove no answer.
    """
    if not isinstance(row, Mapping):
        raise BadField("expected a row of named fields", field="cdr", value=row)
    reader = Reader(row, received_at=received_at)
    uuid = reader.text("cmiuid", "_id")
    if not uuid:
        raise BadField("the call's id is missing", field="cmiuid")
    from_number = reader.phone("from")
    agent = _without_app_id(reader.text("agent"))
    if "_" in from_number:  # chub-india, page out-missed: the agent, who has no phone number here
        agent, from_number = agent or _without_app_id(from_number), ""
    name = reader.text("name")
    recording = reader.text("filename", limit=2000)
    to_number = reader.phone("to")
    customer_numbers = {Direction.INBOUND: from_number, Direction.OUTBOUND: to_number}
    return LegCdr(
        aliases=(Alias("uuid", uuid),),
        leg_id=uuid,
        label=Label.A,
        call_direction=direction,
        from_number=from_number,
        to_number=to_number,
        customer_number=customer_numbers.get(direction, ""),
        agent=AgentRef(external_id=agent) if agent else None,
        call_started_by=reader.epoch_ms("time"),
        duration_seconds=reader.seconds("duration"),
        cost=reader.money("rate"),
        recording=recording if reader.flag("record") else "",
        extra_params=({} if name in {"", "unknown"} else {"name": name}) | reader.rest(),
    )


# --- The pull API: pages answered-call, missed-call, out-answered, out-missed, and those of chub-india ---------------


class Edition(NamedTuple):
    """One of the two APIs: where it is, its lists of calls, and the name under which it wants the secret."""

    address: str
    lists: tuple[str, ...]
    secret_field: str


EDITIONS = {
    "global": Edition("https://rest.telecmi.com/v2", ("answered", "missed", "out_answered", "out_missed"), "secret"),
    # chub-india documents no list of answered outgoing calls.
    "india": Edition("https://piopiy.telecmi.com/v1", ("answered", "missed", "outmissed"), "token"),
}
LISTS = {
    "answered": Direction.INBOUND,
    "missed": Direction.INBOUND,
    "out_answered": Direction.OUTBOUND,
    "out_missed": Direction.OUTBOUND,
    "outmissed": Direction.OUTBOUND,
}
PAGE_ROWS = 20
"""The most that it gives at a time."""


def question(
    edition: Edition, *, app_id: str, secret: str, begin: datetime, end: datetime, page: int
) -> dict[str, object]:
    """Return the JSON object that asks for one page of a list; ``app_id`` has to be a number.

    The times are UTC milliseconds. Whether the end counts is not documented: here it is the last one before ``end``.
    """
    return {
        "appid": int(app_id),  # a string is refused
        edition.secret_field: secret,
        "start_date": round(begin.timestamp() * 1000),
        "end_date": round(end.timestamp() * 1000) - 1,
        "page": page,
        "limit": PAGE_ROWS,
    }


def answer(payload: Mapping[str, object], *, received_at: datetime) -> tuple[int, int]:
    """Return how many calls the whole list has, and how many this page of it.

    Raises ``Refused`` when it is no page: ``code`` says so, also within an answer of HTTP 200; ``BadField`` when it
    makes no sense.
    """
    reader = Reader(payload, received_at=received_at)
    code = reader.text("code")
    if code == "404":
        raise Refused("code 404: the provider does not know this app id and secret")
    if code not in {"", "200"}:
        raise Refused(f"code {code}: the provider refuses the request")
    rows = payload.get("cdr")
    if not isinstance(rows, list):
        raise BadField("expected a list of rows", field="cdr", value=rows)
    total = reader.text("count", "total")
    if not total.isdecimal():
        raise BadField("expected the number of calls", field="count", value=total)
    return int(total), len(rows)


def parse_pulled(
    payload: Mapping[str, object], *, asked: Mapping[str, str], received_at: datetime, account: AccountFacts
) -> list[Record]:
    """Return a record for each row of a page; ``asked`` names, as ``list``, the list that it is of.

    Raises as ``parse`` does for a batch.
    """
    name = asked.get("list", "")
    if name not in LISTS:
        raise UnrecognizedPayload(f"expected one of {', '.join(LISTS)}", field="list", value=name)
    return _rows(payload.get("cdr"), received_at, LISTS[name])


# --- Recordings: the file names of reports, and the API that plays them -----------------------------------------------


def recording_address(name: str, *, app_id: str, secret: str, api_base: str) -> str:
    """Return where the file ``name`` is played, for the account whose ``app_id`` and ``secret`` these are."""
    edition = EDITIONS[api_base]
    return f"{edition.address}/play?{urlencode({'appid': app_id, edition.secret_field: secret, 'file': name})}"


def recording_refusal(body: bytes) -> int | None:
    """Return the ``code`` of an answer in JSON: refusals come also within an answer of HTTP 200."""
    try:
        code = json.loads(body).get("code")
    except (ValueError, AttributeError, RecursionError):
        return None
    text = str(code)
    return int(text) if text.isascii() and text.isdecimal() and len(text) == 3 else None
