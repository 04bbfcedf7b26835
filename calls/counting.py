"""Counting that stays quick at any size."""

import json
from typing import NamedTuple

from django.contrib.humanize.templatetags.humanize import intcomma
from django.db import connection
from django.db.models import QuerySet

CAP = 10_000
"""Rows beyond this are not counted: that would read the whole table."""

BEYOND_DOUBT = 50_000
"""An estimate from which on there are taken to be more rows than ``CAP``: the planner errs, but rarely fivefold."""

CHEAP = 3_000
"""What counting may cost, in the planner's units, before a page waits for it: a few milliseconds."""


class Size(NamedTuple):
    """How many rows there are, as far as it was worth finding out."""

    rows: int
    kind: str
    """``exact``; ``more``: there are more than ``rows``; ``about``: the planner's estimate."""

    def __str__(self) -> str:
        if self.kind == "about":
            digits = max(len(str(self.rows)) - 3, 0)
            return f"about {intcomma(round(self.rows, -digits))}"
        return f"{'more than ' if self.kind == 'more' else ''}{intcomma(self.rows)}"


def count_up_to_cap(rows: QuerySet) -> int:
    """Return how many rows there are, or ``CAP`` + 1 for any number above ``CAP``."""
    return rows.order_by()[: CAP + 1].count()


def counted(rows: QuerySet) -> Size:
    """Return how many rows there are, counting up to ``CAP``."""
    count = count_up_to_cap(rows)
    return Size(CAP, "more") if count > CAP else Size(count, "exact")


def size(rows: QuerySet) -> Size:
    """Return how many rows there are, for the head of a page that does not wait: counted where that is quick."""
    if connection.vendor != "postgresql":
        return counted(rows)
    text = rows.order_by().values("pk")[: CAP + 1].explain(format="json")
    if not text:  # a filter that nothing can meet is not asked for at all
        return Size(0, "exact")
    plan = json.loads(text)[0]["Plan"]
    estimate = plan["Plans"][0]["Plan Rows"] if plan["Node Type"] == "Limit" else plan["Plan Rows"]
    if estimate >= BEYOND_DOUBT or plan["Total Cost"] > CHEAP:
        return Size(estimate, "about")
    return counted(rows)
