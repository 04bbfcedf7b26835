"""The calls going on now: looked at once in each process for all who watch, and told to each as far as may be seen.

A viewer is told states, never steps: what differs from the version last heard of, or everything where that version is
too old or of another process. So nothing is lost or shown twice, however often a connection breaks.
"""

import json
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db import Error
from django.db.models import F, QuerySet, Window
from django.db.models.functions import RowNumber
from django.utils import timezone

from calls import access, contacts, masking
from calls.choices import STREAM_KINDS, Direction, Disposition, EventKind, Role, State
from calls.models import Agent, Conversation, Event, Leg
from calls.numbers import display, search_digits

MOST_CALLS = 1000
"""Calls on the board, those heard of last; more are not going on but were never reported as ended."""
WHOLE_SECONDS = 5.0
"""How often everything is read again, for what changes without a newer delivery, such as a name."""
ROSTER_SECONDS = 60.0
"""How often it is looked who has been at work."""
AT_WORK = timedelta(hours=12)
"""An agent is shown as free who had a call within this time."""
RECENT_CALLS = 3
"""Earlier calls of the same caller beside a call."""
RECENT_READ = 20
"""Earlier calls that are read, so that somebody who sees but some of them finds ``RECENT_CALLS`` among them."""
MOST_GONE = 5000
"""How many changes a viewer may be behind and still be told only what differs."""

WAITING, RINGING, TALKING, FREE = "waiting", "ringing", "talking", "free"
STREAM_WORDS = {
    EventKind.STREAM_CONNECTED: "connected",
    EventKind.STREAM_DISCONNECTED: "disconnected",
    EventKind.STREAM_ERROR: "error",
}


class Part(NamedTuple):
    """An agent's part in a call: ringing or talking."""

    agent: int
    name: str
    state: str
    since: datetime | None


class RecentCall(NamedTuple):
    """An earlier call of the same caller."""

    pk: UUID
    account: int
    agents: frozenset[int]
    started_at: datetime
    direction: str
    disposition: str
    agent_name: str
    talk_seconds: int | None


@dataclass(frozen=True)
class LiveCall:
    """A call that is going on, as far as we have heard."""

    pk: UUID
    account: int
    account_name: str
    agents: frozenset[int]
    """Everybody who had a part in it, by whom it is seen."""
    direction: str
    number: str
    contact: str
    did: str
    phase: str
    since: datetime
    started_at: datetime
    stream: str
    """State of its audio stream: connected, disconnected or error; empty where it has none."""
    parts: tuple[Part, ...]
    recent: tuple[RecentCall, ...]


@dataclass(frozen=True)
class LiveAgent:
    """An agent who is at work, and what is heard of them."""

    pk: int
    account: int
    account_name: str
    name: str
    state: str
    since: datetime | None
    call: UUID | None


@dataclass(frozen=True)
class Viewer:
    """What somebody may see, and what of it they want to."""

    reach: access.Reach
    sees_numbers: bool
    account: int | None = None
    agent: int | None = None
    did: str = ""
    """Digits of a number of ours, or a part of them."""

    @classmethod
    def of(cls, user: Any, wanted: Mapping[str, str]) -> "Viewer":
        """Return what ``user`` may see of the calls with the ``account``, ``agent`` (ids) and ``did`` wanted."""
        return cls(
            reach=access.reach_of(user),
            sees_numbers=access.may_see_numbers(user),
            account=_id(wanted.get("account", "")),
            agent=_id(wanted.get("agent", "")),
            did=search_digits(wanted.get("did", "")),
        )

    def sees(self, call: LiveCall) -> bool:
        """Whether ``call`` is to be shown."""
        return (
            self.reach.holds(call.account, call.agents)
            and self.account in {None, call.account}
            and (self.agent is None or self.agent in call.agents)
            and self.did in call.did
        )

    def sees_agent(self, agent: LiveAgent) -> bool:
        """Whether ``agent`` is to be shown."""
        return (
            self.reach.holds(agent.account, {agent.pk})
            and self.account in {None, agent.account}
            and self.agent in {None, agent.pk}
        )

    def number(self, number: str) -> str:
        """Return a customer's number as it may be shown; empty when it is withheld."""
        return display(number) if self.sees_numbers else masking.masked_number(number)

    def text(self, text: str) -> str:
        """Return a name, which may be a number, as it may be shown."""
        return text if self.sees_numbers else masking.masked(text)


class News(NamedTuple):
    """What a viewer is to be told: a JSON object, and the id from which to ask for the next."""

    id: str
    data: str

    @property
    def text(self) -> bytes:
        """As a server-sent event."""
        return f"id: {self.id}\ndata: {self.data}\n\n".encode()


@dataclass(frozen=True)
class _Shown:
    """What the board showed at one time; never changed, so that any thread may read it."""

    version: int = 0
    calls: Mapping[UUID, LiveCall] = field(default_factory=dict)
    call_versions: Mapping[UUID, int] = field(default_factory=dict)
    agents: Mapping[int, LiveAgent] = field(default_factory=dict)
    agent_versions: Mapping[int, int] = field(default_factory=dict)
    gone: tuple[tuple[int, LiveCall | LiveAgent], ...] = ()
    """What is no longer as it was, with the version in which it changed, oldest first."""
    forgotten: int = 0
    """The newest version of which ``gone`` does not tell any more."""
    is_away: bool = False
    is_cut: bool = False
    told: dict[tuple[Viewer, int | None], str] = field(default_factory=dict)
    """What viewers were told of this version: most of them are to be told the same."""


class Board:
    """What goes on, as this process knows it. ``look`` from one thread or many; everything else from anywhere."""

    def __init__(self) -> None:
        self._name = secrets.token_urlsafe(6)
        self._lock = threading.Lock()
        self._shown = _Shown()
        self._looked_at = self._read_at = self._roster_at = -float("inf")
        self._heard: dict[UUID, tuple] = {}
        self._roster: dict[int, Agent] = {}

    def look(self, max_age: float = 0.0) -> bool:
        """Look what goes on, unless that was done within ``max_age`` seconds; return whether anything has changed.

        One query when nothing is new. A database that is away is not an error: viewers are told of it.
        """
        with self._lock:
            began = time.monotonic()
            if began - self._looked_at < max_age:
                return False
            before = self._shown
            try:
                with masking.masking(lambda: False):  # whoever asks first: others may see more
                    self._look(began)
            except Error:
                self._heard, self._read_at = {}, -float("inf")
                self._show(before.calls, before.agents, is_away=True, is_cut=before.is_cut)
            self._looked_at = time.monotonic()
            return self._shown is not before

    def news(self, viewer: Viewer, since: str = "") -> News | None:
        """Return what ``viewer``, who was last told the news with the id ``since``, does not know; ``None``: nothing.

        ``data`` is a JSON object: ``whole`` (whether it replaces everything told before), ``calls`` and ``agents``
        that are new or differ, ``gone`` and ``gone_agents`` by id, ``away`` (the database cannot be read), ``cut``
        (more than ``MOST_CALLS``) and ``now``. Times are milliseconds since 1970 by the server's clock.
        """
        shown = self._shown
        known = self._version(shown, since)
        if known == shown.version:
            return None
        key = (viewer, known)
        told = shown.told.get(key)
        if told is None:
            told = shown.told[key] = json.dumps(_difference(shown, viewer, known), separators=(",", ":"))
        return News(f"{self._name}.{shown.version}", f'{{"now":{time.time_ns() // 1_000_000},{told[1:]}')

    def anew(self, since: str) -> str:
        """Return from where to go on when what is to be seen has changed: all is told again."""
        return ""

    def _version(self, shown: _Shown, since: str) -> int | None:
        """Return the version that an id stands for, or ``None`` when only everything will do."""
        name, _, number = since.partition(".")
        if name != self._name or not (number.isascii() and number.isdecimal() and len(number) < 19):
            return None
        return int(number) if shown.forgotten <= int(number) <= shown.version else None

    def _look(self, began: float) -> None:
        live = Conversation.objects.filter(state=State.LIVE).order_by("-last_heard_at")
        heard = {row[0]: row for row in live.values_list("pk", "last_heard_at", "agent")[: MOST_CALLS + 1]}
        is_cut = len(heard) > MOST_CALLS
        if is_cut:
            heard.popitem()
        if is_whole := began - self._read_at >= WHOLE_SECONDS:
            self._read_at = began
        if began - self._roster_at >= ROSTER_SECONDS:
            self._roster, self._roster_at = _at_work(), began
        stale = [pk for pk, row in heard.items() if is_whole or row != self._heard.get(pk)]
        fresh = {call.pk: call for call in _read(stale)} if stale else {}
        calls = {pk: fresh.get(pk) or self._shown.calls[pk] for pk in heard if pk in fresh or pk in self._shown.calls}
        self._heard = {pk: heard[pk] for pk in calls}
        self._show(calls, self._agents(calls.values()), is_away=False, is_cut=is_cut)

    def _agents(self, calls: Iterable[LiveCall]) -> dict[int, LiveAgent]:
        """Return what each agent does who is at work: who talks is not ringing."""
        busy: dict[int, tuple[str, datetime | None, LiveCall]] = {}
        for call in calls:
            for part in call.parts:
                if part.agent not in busy or part.state == TALKING:
                    busy[part.agent] = (part.state, part.since, call)
        if missing := busy.keys() - self._roster.keys():
            self._roster |= {
                agent.pk: agent for agent in Agent.objects.filter(pk__in=missing).select_related("account")
            }
        found = {}
        for pk, agent in self._roster.items():
            state, since, call = busy.get(pk, (FREE, None, None))
            account = str(agent.account)
            found[pk] = LiveAgent(pk, agent.account_id, account, str(agent), state, since, call.pk if call else None)
        return found

    def _show(
        self, calls: Mapping[UUID, LiveCall], agents: Mapping[int, LiveAgent], *, is_away: bool, is_cut: bool
    ) -> None:
        """Show this, as a new version if it differs from what is shown."""
        before = self._shown
        if (calls, agents, is_away, is_cut) == (before.calls, before.agents, before.is_away, before.is_cut):
            return
        version = before.version + 1
        gone = [*before.gone]
        gone += [(version, old) for pk, old in before.calls.items() if calls.get(pk) != old]
        gone += [(version, old) for pk, old in before.agents.items() if agents.get(pk) != old]
        dropped, kept = gone[:-MOST_GONE], gone[-MOST_GONE:]
        self._shown = _Shown(
            version=version,
            calls=calls,
            call_versions=_versions(calls, before.calls, before.call_versions, version),
            agents=agents,
            agent_versions=_versions(agents, before.agents, before.agent_versions, version),
            gone=tuple(kept),
            forgotten=dropped[-1][0] if dropped else before.forgotten,
            is_away=is_away,
            is_cut=is_cut,
        )


def _versions(now: Mapping, before: Mapping, versions: Mapping, version: int) -> dict:
    return {pk: versions[pk] if before.get(pk) == item else version for pk, item in now.items()}


def _id(text: str) -> int | None:
    """Return an id from an address; 0, which nothing has, for one that makes no sense."""
    if not text:
        return None
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0


# --- What viewers are told -------------------------------------------------------------------------------------------


def _difference(shown: _Shown, viewer: Viewer, known: int | None) -> dict[str, Any]:
    """Return what ``viewer`` does not know of what is shown; everything when they know nothing."""
    calls = {pk: call for pk, call in shown.calls.items() if viewer.sees(call)}
    agents = {pk: agent for pk, agent in shown.agents.items() if viewer.sees_agent(agent)}
    since = -1 if known is None else known
    gone: set[UUID] = set()
    gone_agents: set[int] = set()
    if known is not None:
        for version, old in reversed(shown.gone):
            if version <= known:
                break
            if isinstance(old, LiveCall):
                if old.pk not in calls and viewer.sees(old):
                    gone.add(old.pk)
            elif old.pk not in agents and viewer.sees_agent(old):
                gone_agents.add(old.pk)
    return {
        "whole": known is None,
        "calls": [_call(call, viewer) for pk, call in calls.items() if shown.call_versions[pk] > since],
        "agents": [_agent(agent, viewer) for pk, agent in agents.items() if shown.agent_versions[pk] > since],
        "gone": sorted(map(str, gone)),
        "gone_agents": sorted(gone_agents),
        "away": shown.is_away,
        "cut": shown.is_cut,
    }


def _call(call: LiveCall, viewer: Viewer) -> dict[str, Any]:
    recent = [one for one in call.recent if viewer.reach.holds(one.account, one.agents)]
    return {
        "id": str(call.pk),
        "account": call.account_name,
        "direction": call.direction,
        "number": viewer.number(call.number),
        "contact": viewer.text(call.contact),
        "did": display(call.did),
        "phase": call.phase,
        "since": _milliseconds(call.since),
        "started": _milliseconds(call.started_at),
        "stream": call.stream,
        "agents": [{"name": viewer.text(part.name), "state": part.state} for part in call.parts],
        "recent": [
            {
                "id": str(one.pk),
                "at": _milliseconds(one.started_at),
                "direction": one.direction,
                "disposition": one.disposition,
                "agent": viewer.text(one.agent_name),
                "talk": one.talk_seconds,
            }
            for one in recent[:RECENT_CALLS]
        ],
    }


def _agent(agent: LiveAgent, viewer: Viewer) -> dict[str, Any]:
    return {
        "id": agent.pk,
        "name": viewer.text(agent.name),
        "account": agent.account_name,
        "state": agent.state,
        "since": _milliseconds(agent.since) if agent.since else None,
        "call": str(agent.call) if agent.call else None,
    }


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)


# --- What is read ----------------------------------------------------------------------------------------------------


def _at_work() -> dict[int, Agent]:
    calls = Conversation.objects.filter(started_at__gte=timezone.now() - AT_WORK, agent__isnull=False)
    return _agents(calls.order_by().values("agent").distinct())


def _agents(pks: Iterable[int] | QuerySet) -> dict[int, Agent]:
    return {agent.pk: agent for agent in Agent.objects.filter(pk__in=pks).select_related("account")}


def _read(pks: Collection[UUID]) -> list[LiveCall]:
    """Read these calls with all that is shown of them."""
    calls = list(Conversation.objects.filter(pk__in=pks, state=State.LIVE).select_related("account", "agent"))
    legs, events = defaultdict(list), defaultdict(list)
    for leg in Leg.objects.filter(conversation__in=pks).order_by("pk").select_related("agent"):
        legs[leg.conversation_id].append(leg)
    for event in Event.objects.filter(conversation__in=pks).order_by("occurred_at", "received_at", "pk"):
        events[event.conversation_id].append(event)
    numbers = {call.customer_number for call in calls if call.customer_number}
    recent, names = _recent(numbers), contacts.names(numbers)
    return [_live_call(call, legs[call.pk], events[call.pk], recent[call.customer_number], names) for call in calls]


def _live_call(
    call: Conversation,
    legs: Sequence[Leg],
    events: Sequence[Event],
    recent: Sequence[RecentCall],
    names: Mapping[str, str],
) -> LiveCall:
    phase, since = phase_of(call, legs, events)
    streams = [event.kind for event in events if event.kind in STREAM_KINDS]
    agents = {leg.agent_id for leg in legs if leg.agent_id} | ({call.agent_id} if call.agent_id else set())
    return LiveCall(
        pk=call.pk,
        account=call.account_id,
        account_name=str(call.account),
        agents=frozenset(agents),
        direction=call.direction,
        number=call.customer_number,
        contact=names.get(call.customer_number, ""),
        did=call.did,
        phase=phase,
        since=since,
        started_at=call.started_at,
        stream=STREAM_WORDS[EventKind(streams[-1])] if streams else "",
        parts=_parts(legs),
        recent=tuple(recent),
    )


def _parts(legs: Sequence[Leg]) -> tuple[Part, ...]:
    """Return each agent who is ringing or talking once, although two legs may lead to one phone."""
    parts: dict[int, Part] = {}
    for leg in legs:
        if leg.agent_id and leg.disposition is None and (leg.answered_at or leg.agent_id not in parts):
            state = TALKING if leg.answered_at else RINGING
            parts[leg.agent_id] = Part(leg.agent_id, str(leg.agent), state, leg.answered_at or leg.started_at)
    return tuple(parts.values())


def phase_of(call: Conversation, legs: Sequence[Leg], events: Sequence[Event]) -> tuple[str, datetime]:
    """Return whether the call is waiting, ringing or talking, and since when. ``events`` are oldest first.

    It talks once the party that is rung second has answered. It waits when its last event says so, or when the caller
    was answered, agents were rung, and none of them is rung any more.
    """
    told = {EventKind.WAITING, EventKind.RINGING, EventKind.ANSWERED, EventKind.BRIDGED}
    last = next((event for event in reversed(events) if event.kind in told), None)
    second = Role.CUSTOMER if call.direction == Direction.OUTBOUND else Role.AGENT
    rung = [leg for leg in legs if leg.role == second]
    answers = [leg.answered_at for leg in rung if leg.disposition is None and leg.answered_at]
    if answers:
        return TALKING, min(answers)
    if last and last.kind == EventKind.WAITING:
        return WAITING, last.occurred_at
    if not rung and call.answered_at:
        return TALKING, call.answered_at
    is_up = any(leg.disposition is None for leg in rung)
    ends = [leg.ended_at for leg in rung if leg.ended_at]
    if not is_up and ends and any(leg.answered_at and leg.disposition is None for leg in legs):
        return WAITING, max(ends)
    starts = [leg.started_at for leg in rung if leg.disposition is None and leg.started_at]
    return RINGING, min(starts, default=call.started_at)


def _recent(numbers: Collection[str]) -> dict[str, list[RecentCall]]:
    """Return the newest ended calls of each number, newest first."""
    recent: dict[str, list[RecentCall]] = defaultdict(list)
    if not numbers:
        return recent
    newest = Window(RowNumber(), partition_by=F("customer_number"), order_by=[F("started_at").desc(), F("id").desc()])
    ended: QuerySet[Conversation] = Conversation.objects.filter(customer_number__in=numbers, state=State.ENDED)
    ranked = ended.annotate(rank=newest).filter(rank__lte=RECENT_READ).select_related("agent")
    calls = list(ranked.order_by("customer_number", "rank"))
    took_part: dict[UUID, set[int]] = defaultdict(set)
    parts = Leg.objects.filter(conversation__in=[call.pk for call in calls], agent__isnull=False).order_by()
    for pk, agent in parts.values_list("conversation", "agent"):
        took_part[pk].add(agent)
    for call in calls:
        agents = took_part[call.pk] | ({call.agent_id} if call.agent_id else set())
        recent[call.customer_number].append(
            RecentCall(
                pk=call.pk,
                account=call.account_id,
                agents=frozenset(agents),
                started_at=call.started_at,
                direction=call.direction,
                disposition=call.disposition or Disposition.UNKNOWN,
                agent_name=str(call.agent) if call.agent else "",
                talk_seconds=call.talk_seconds,
            )
        )
    return recent


BOARD = Board()
"""The one of this process."""
