"""What stands in one cell of a CSV file, and one value of a line of NDJSON. Pure: imports no model and no settings."""

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime, tzinfo
from decimal import Decimal

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a spreadsheet takes for the beginning of a formula, or drops and then looks at what follows it.

Source: OWASP, CSV Injection.
"""


def defuse(text: str) -> str:
    """Return text that a spreadsheet does not take for a formula: one that would be gets an apostrophe before it."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def csv_cell(value: object, zone: tzinfo) -> str:
    """Return a value as the text of a CSV cell.

    A moment is written as ``YYYY-MM-DD HH:MM:SS`` in ``zone`` (the header names it), an amount with all its decimals,
    nothing as an empty cell, several words with commas between them. Texts are defused; numbers are ours and stay as
    they are.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return defuse(value)
    if isinstance(value, datetime):
        return f"{value.astimezone(zone):%Y-%m-%d %H:%M:%S}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, list):
        return defuse(", ".join(value))
    return str(value)


def csv_lines(rows: Iterable[Sequence[object]]) -> bytes:
    """Return rows of cells as lines of a CSV file in UTF-8."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def json_value(value: object, zone: tzinfo) -> object:
    """Return a value as JSON has it: a moment as ISO 8601 with the offset of ``zone``, an amount as text."""
    if isinstance(value, datetime):
        return value.astimezone(zone).isoformat()
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value
