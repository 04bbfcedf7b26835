"""What the kinds share: the calls that a rule looks at, links to exactly these, and how figures are written."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from django.db.models import QuerySet

from calls.alerting.findings import Evidence
from calls.choices import State
from calls.models import Account, AlertRule, Conversation
from calls.numbers import normalize

SMALLEST = Decimal("0.000001")
"""The smallest amount that is kept: calls with a cost are those that cost this or more."""


def calls_of(rule: AlertRule, account: Account) -> QuerySet[Conversation]:
    """Return the calls of ``account`` that ``rule`` concerns: all, or those of its DID and its agent."""
    calls = Conversation.objects.filter(account=account)
    if rule.did:
        calls = calls.filter(did=normalize(rule.did, account.phone_region))
    return calls.filter(agent_id=rule.agent_id) if rule.agent_id else calls


def ended_calls(rule: AlertRule, account: Account, since: datetime, at: datetime) -> QuerySet[Conversation]:
    """Return those of ``calls_of`` that started from ``since`` to ``at``, both included, and were over by ``at``.

    Without the second condition a moment of the past would be judged by calls whose end nobody knew then.
    """
    return calls_of(rule, account).filter(started_at__gte=since, started_at__lte=at, ended_at__lte=at)


def window(rule: AlertRule) -> timedelta:
    """Return how far back ``rule`` looks."""
    return timedelta(minutes=rule.window_minutes)


def beyond(rule: AlertRule, value: Decimal) -> bool | None:
    """Return whether a figure that opens an alert when it rises has reached the mark (true), or has not yet come back
    to the one at which the alert clears (false); ``None`` when it is back."""
    if value >= rule.opens_at:
        return True
    return False if rule.clears_at is not None and value > rule.clears_at else None


def moments(field: str, since: datetime | None, until: datetime | None) -> dict[str, str]:
    """Return the parameters of a list's time filter for ``since`` to ``until``, both included, whatever the zone."""
    edges = {f"{field}_from_0": since, f"{field}_to_0": until}
    return {name: moment.isoformat() for name, moment in edges.items() if moment}


def ended_calls_link(
    label: str, rule: AlertRule, account: Account, since: datetime, at: datetime, **parameters: str
) -> Evidence:
    """Return a link to what ``ended_calls`` returns, narrowed down by more parameters of the list."""
    query = moments("started_at", since, at) | moments("ended_at", None, at) | parameters
    return calls_link(label, rule, account, query)


def calls_link(label: str, rule: AlertRule, account: Account, query: Mapping[str, str]) -> Evidence:
    """Return a link to those of ``calls_of`` that the list's parameters ``query`` leave."""
    scope = {"account__id__exact": str(account.pk)}
    if rule.did:
        scope["did__exact"] = normalize(rule.did, account.phone_region)
    if rule.agent_id:
        scope["agent__id__exact"] = str(rule.agent_id)
    return Evidence(label, "admin:calls_conversation_changelist", scope | dict(query))


def call_page(label: str, call_id: object) -> Evidence:
    """Return a link to one call."""
    return Evidence(label, "admin:calls_conversation_change", args=(str(call_id),))


def live_link(rule: AlertRule, account: Account, started_by: datetime) -> Evidence:
    """Return a link to the live calls that started by a moment."""
    query = moments("started_at", None, started_by) | {"state__exact": State.LIVE.value}
    return calls_link("The calls", rule, account, query)


def plural(count: int, word: str) -> str:
    """Return ``1 call`` or ``2 calls``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def span(minutes: int) -> str:
    """Return a window's length: ``90 minutes``, ``2 hours``, ``7 days``."""
    for size, word in ((1440, "day"), (60, "hour")):
        if minutes >= size and minutes % size == 0:
            return plural(minutes // size, word)
    return plural(minutes, "minute")


def when(moment: datetime, account: Account) -> str:
    """Return a time in the account's zone, with the zone: ``2 Mar, 17:30 IST``."""
    local = moment.astimezone(ZoneInfo(account.time_zone))
    return f"{local.day} {local:%b, %H:%M %Z}"


def figure(value: Decimal) -> str:
    """Return a number without more decimals than say something: ``30``, ``2.5``."""
    text = f"{value:,.2f}"
    return text.rstrip("0").rstrip(".")
