"""Counting that stays quick at any size."""

from django.db.models import QuerySet

CAP = 10_000
"""Rows beyond this are not counted and not paged to: that would read the whole table. Filters lead there."""


def count_up_to_cap(rows: QuerySet) -> int:
    """Return how many rows there are, or ``CAP`` + 1 for any number above ``CAP``."""
    return rows.order_by()[: CAP + 1].count()
