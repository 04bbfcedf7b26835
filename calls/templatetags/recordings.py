"""The player of a recording, on the page of its call."""

from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html

from calls import recordings
from calls.choices import State
from calls.models import Conversation, Recording

register = template.Library()

PLAYS = 5
"""How many playbacks the page of a call shows."""

_COLOURS = {
    Recording.State.PENDING: "pending",
    Recording.State.READY: "answered",
    Recording.State.EXPIRED: "expired",
    Recording.State.FAILED: "failed",
}
_REASONS = {
    Recording.State.PENDING: "Not asked for yet.",
    Recording.State.READY: "",
    Recording.State.EXPIRED: "The provider does not have it any more.",
    Recording.State.FAILED: "It could not be had.",
}


@register.filter
def recording_word(recording: Recording) -> str:
    """Return whether it can be played, as a coloured word, with why not."""
    word = format_html(
        '<span class="rl-word rl-{}">{}</span>', _COLOURS[recording.state], recording.get_state_display()
    )
    reason = recording.words or _REASONS[recording.state]
    return format_html('{} <span class="rl-reason">{}</span>', word, reason) if reason else word


@register.simple_tag(takes_context=True)
def recording_of(context: template.Context, call: Conversation) -> dict[str, Any]:
    """Return what the player shows of the recording of ``call`` to the viewer."""
    user = context["request"].user
    known = Recording.objects.filter(conversation=call).first()
    if call.state == State.LIVE and (known is None or known.state != Recording.State.READY):
        known = Recording(conversation=call, words="The call is going on; its recording comes after its end.")
    elif known is None:
        known = Recording(conversation=call)
    try:
        recordings.address_of(call)
        is_account_at_fault = known.state != Recording.State.READY and recordings.is_file_name(call)
    except recordings.Unplayable as problem:
        is_account_at_fault = problem.is_account_at_fault
        known.state, known.words = problem.state, str(problem)
    return {
        "noun": "voicemail" if call.has_voicemail else "recording",
        "known": known,
        "may_play": user.has_perm("calls.play_recordings"),
        "may_download": user.has_perm("calls.export_calls"),
        "account_to_mend": call.account if is_account_at_fault and user.has_perm("calls.change_account") else None,
        "plays": _plays(call) if user.has_perm("calls.view_auditentry") else None,
        "now": timezone.now(),
    }


def _plays(call: Conversation) -> list[Any]:
    return list(recordings.plays_of(call).select_related("user")[:PLAYS])
