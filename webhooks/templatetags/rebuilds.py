"""The button by which templates of calls let one call be derived again: ``calls`` itself knows nothing of rebuilds."""

from typing import Any

from django import template

from calls.models import Conversation

register = template.Library()


@register.inclusion_tag("webhooks/rebuild_button.html", takes_context=True)
def rebuild_button(context: template.Context, conversation: Conversation) -> dict[str, Any]:
    """Show the button to those who may start a rebuild."""
    return {"call": conversation, "may_start": context["request"].user.has_perm("webhooks.add_rebuild")}
