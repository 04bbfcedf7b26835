"""Pages by keyset: a page starts after a row, not after a number of rows, so that every page costs what the first does.

An order is a sequence of columns as ``order_by`` takes them, all forward or all backward, the last of them unique,
none null.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db.models import BooleanField, F, Func, Model, Q, Value
from django.db.models.sql.compiler import SQLCompiler


def reversed_order(order: Sequence[str]) -> list[str]:
    """Return the opposite order."""
    return [name.removeprefix("-") if name.startswith("-") else f"-{name}" for name in order]


def values_of(row: Model, order: Sequence[str]) -> list[str]:
    """Return as text the values that place ``row`` in ``order``."""
    values = [getattr(row, name.removeprefix("-")) for name in order]
    return [value.isoformat() if isinstance(value, datetime) else str(value) for value in values]


def after(order: Sequence[str], values: Sequence[object]) -> Q:
    """Return the condition for rows that come after ``values`` in ``order``."""
    names = [name.removeprefix("-") for name in order]
    return Q(_Beyond(*names, values=values, sign="<" if order[0].startswith("-") else ">"))


class _Beyond(Func):
    """``(a, b) < (x, y)``: both databases go straight to the place in an index, however many rows share ``a``."""

    output_field = BooleanField()

    def __init__(self, *names: str, values: Sequence[object], sign: str) -> None:
        super().__init__(*map(F, names))
        self.values, self.sign = values, sign

    def as_sql(self, compiler: SQLCompiler, connection: Any, **context: Any) -> tuple[str, list[Any]]:
        columns = self.get_source_expressions()
        places = [Value(value, column.output_field) for value, column in zip(self.values, columns, strict=True)]
        parts = [compiler.compile(part) for part in (*columns, *places)]
        sql, parameters = zip(*parts, strict=True)
        half = len(columns)
        text = f"({', '.join(sql[:half])}) {self.sign} ({', '.join(sql[half:])})"
        return text, [value for part in parameters for value in part]
