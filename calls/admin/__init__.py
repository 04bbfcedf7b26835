"""The admin of calls: one noun a module."""

from calls.admin import (
    agent,
    alert,
    alert_rule,
    api_key,
    audit,
    balance,
    channel,
    contact,
    conversation,
    export,
    notice,
    people,
    quick_search,
    recording,
    tag,
    worklist,
)

__all__ = [
    "agent",
    "alert",
    "alert_rule",
    "api_key",
    "audit",
    "balance",
    "channel",
    "contact",
    "conversation",
    "export",
    "notice",
    "people",
    "quick_search",
    "recording",
    "tag",
    "worklist",
]
