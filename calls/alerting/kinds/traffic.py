"""Kinds of alert that watch calls."""

from datetime import datetime
from decimal import Decimal

from django.db.models import Count, Q

from calls.alerting.findings import Clock, Finding, Kind
from calls.alerting.kinds.scope import (
    beyond,
    call_page,
    calls_of,
    ended_calls,
    ended_calls_link,
    figure,
    live_link,
    plural,
    span,
    window,
)
from calls.choices import AlertKind, Direction, Disposition, EventKind, State
from calls.models import Account, AlertRule, Conversation, Event

MOST_CALLS = 10
"""How many calls are linked one by one."""


def missed_calls(rule: AlertRule, account: Account, at: datetime) -> list[Finding]:
    """Find the share of missed calls among the inbound ones of the window.

    Too few calls open no alert, and clear none that is open.
    """
    since = at - window(rule)
    inbound = ended_calls(rule, account, since, at).filter(direction=Direction.INBOUND)
    counts = inbound.aggregate(
        calls=Count("id"),
        missed=Count("id", filter=Q(disposition=Disposition.MISSED)),
        answered=Count("id", filter=Q(disposition=Disposition.ANSWERED)),
    )
    if not counts["missed"]:
        return []
    share = Decimal(100 * counts["missed"]) / counts["calls"]
    answered = Decimal(100 * counts["answered"]) / counts["calls"]
    is_over = beyond(rule, share)
    if is_over is None:
        return []
    direction = {"direction__exact": Direction.INBOUND.value}
    missed = direction | {"disposition__exact": Disposition.MISSED.value}
    return [
        Finding(
            f"{counts['missed']:,} of {plural(counts['calls'], 'inbound call')} missed in {span(rule.window_minutes)}: "
            f"{figure(share)} %, the mark is {figure(rule.opens_at)} %. Answered: {figure(answered)} %.",
            at=at,
            value=share,
            is_over=is_over and counts["calls"] >= rule.minimum_calls,
            evidence=(
                ended_calls_link("The missed calls", rule, account, since, at, **missed),
                ended_calls_link("All inbound calls", rule, account, since, at, **direction),
            ),
        )
    ]


def stream_errors(rule: AlertRule, account: Account, at: datetime) -> list[Finding]:
    """Find the errors of media streams in the window."""
    errors = Event.objects.filter(
        account=account, kind=EventKind.STREAM_ERROR, occurred_at__gte=at - window(rule), occurred_at__lte=at
    )
    count = errors.count()
    is_over = beyond(rule, Decimal(count))
    if is_over is None or not count:
        return []
    calls = list(Conversation.objects.filter(pk__in=errors.values("conversation")).order_by("-started_at", "-id"))
    return [
        Finding(
            f"{plural(count, 'stream error')} on {plural(len(calls), 'call')} in {span(rule.window_minutes)}; "
            f"the mark is {figure(rule.opens_at)}.",
            at=at,
            value=Decimal(count),
            is_over=is_over,
            evidence=tuple(call_page(f"{call}, {call.external_id}", call.pk) for call in calls[:MOST_CALLS]),
        )
    ]


def stuck_calls(rule: AlertRule, account: Account, at: datetime) -> list[Finding]:
    """Find the calls that are live now and began the window or longer before.

    Which calls were live at a moment of the past is not kept: those that have ended since are not found.
    """
    started_by = at - window(rule)
    # The bound on ``last_heard_at`` leads to the index of the few that are live.
    stuck = calls_of(rule, account).filter(state=State.LIVE, started_at__lte=started_by, last_heard_at__lte=at)
    count = stuck.count()
    is_over = beyond(rule, Decimal(count))
    if is_over is None or not count:
        return []
    return [
        Finding(
            f"{plural(count, 'call')} live for {span(rule.window_minutes)} or longer; the mark is "
            f"{figure(rule.opens_at)}.",
            at=at,
            value=Decimal(count),
            is_over=is_over,
            evidence=(live_link(rule, account, started_by),),
        )
    ]


KINDS = {
    AlertKind.MISSED_CALLS: Kind(
        "Opens when at least this share of the inbound calls of the window was missed. Needs the minimum of calls.",
        missed_calls,
        Clock.DATA,
        mark="Missed share, in per cent",
        fields=frozenset({"clears_at", "window_minutes", "minimum_calls", "did", "agent"}),
        highest=Decimal(100),
    ),
    AlertKind.STREAM_ERRORS: Kind(
        "Opens when media streams of calls report this many errors within the window.",
        stream_errors,
        Clock.DATA,
        mark="Stream errors",
        fields=frozenset({"clears_at", "window_minutes"}),
    ),
    AlertKind.STUCK_CALLS: Kind(
        "Opens when this many calls are live for longer than the window. The past can be asked only for calls that are "
        "still live.",
        stuck_calls,
        Clock.WALL,
        mark="Calls",
        fields=frozenset({"clears_at", "window_minutes", "did", "agent"}),
    ),
}
