"""Pages by keyset: a page starts after a row, not after a number of rows, so that every page costs what the first does.

An order is a sequence of columns as ``order_by`` takes them, the last of them unique, none null.
"""

from collections.abc import Sequence
from datetime import datetime

from django.db.models import Model, Q


def reversed_order(order: Sequence[str]) -> list[str]:
    """Return the opposite order."""
    return [name.removeprefix("-") if name.startswith("-") else f"-{name}" for name in order]


def values_of(row: Model, order: Sequence[str]) -> list[str]:
    """Return as text the values that place ``row`` in ``order``."""
    values = [getattr(row, name.removeprefix("-")) for name in order]
    return [value.isoformat() if isinstance(value, datetime) else str(value) for value in values]


def after(order: Sequence[str], values: Sequence[object]) -> Q:
    """Return the condition for rows that come after ``values`` in ``order``.

    The first column's bound stands by itself, so that both databases walk the index from there.
    """
    names = [name.removeprefix("-") for name in order]
    lookups = ["lt" if name.startswith("-") else "gt" for name in order]
    condition = Q()
    for i in range(len(order)):
        equal = [(names[j], values[j]) for j in range(i)]
        condition |= Q(*equal, (f"{names[i]}__{lookups[i]}", values[i]))
    return Q((f"{names[0]}__{lookups[0]}e", values[0])) & condition
