"""The admin of calls: one noun a module."""

from calls.admin import (
    agent,
    alert,
    alert_rule,
    api_key,
    balance,
    channel,
    conversation,
    notice,
    people,
    quick_search,
    tag,
)

__all__ = [
    "agent",
    "alert",
    "alert_rule",
    "api_key",
    "balance",
    "channel",
    "conversation",
    "notice",
    "people",
    "quick_search",
    "tag",
]
