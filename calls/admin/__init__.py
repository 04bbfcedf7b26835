"""The admin of calls: one noun a module."""

from calls.admin import agent, alert, api_key, balance, conversation, people, quick_search, tag

__all__ = ["agent", "alert", "api_key", "balance", "conversation", "people", "quick_search", "tag"]
