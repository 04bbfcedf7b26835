"""Rows as CSV, XLSX or NDJSON. Memory stays flat, however many there are."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO
from zoneinfo import ZoneInfo

import msgspec
import xlsxwriter

from calls.choices import ExportFormat as Format
from calls.exports.cells import csv_cell, csv_lines, json_value
from calls.exports.columns import Column

MOST_ROWS_OF_SHEET = 1_048_575
"""Below the header; what is more goes on on a further sheet."""
MOST_LETTERS_OF_CELL = 32_767
FIRST_YEAR_OF_SHEET = 1900


CONTENT_TYPES = {
    Format.CSV: "text/csv; charset=utf-8",
    Format.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    Format.NDJSON: "application/x-ndjson",
}

Chunks = Iterable[Sequence[Sequence[Any]]]


def titles(columns: Sequence[Column], zone: ZoneInfo) -> list[str]:
    """Return the header: times say in which zone they are."""
    return [f"{column.title} ({zone.key})" if column.is_moment else column.title for column in columns]


def write(
    file: BinaryIO, form: str, columns: Sequence[Column], chunks: Chunks, zone: ZoneInfo, scratch: Path
) -> Iterator[int]:
    """Write rows to ``file`` and yield how many are written, first with 0 and then after each chunk.

    The file is complete when the iterator is exhausted. ``scratch`` is a directory for what XLSX needs meanwhile.
    """
    if form == Format.XLSX:
        yield from _write_xlsx(file, columns, chunks, zone, scratch)
        return
    if form == Format.CSV:
        file.write(csv_lines([titles(columns, zone)]))
    yield (done := 0)
    for chunk in chunks:
        if form == Format.CSV:
            file.write(csv_lines([csv_cell(value, zone) for value in row] for row in chunk))
        else:
            names = [column.name for column in columns]
            lines = ({name: json_value(value, zone) for name, value in zip(names, row, strict=True)} for row in chunk)
            file.write(msgspec.json.Encoder().encode_lines(lines))
        yield (done := done + len(chunk))


def _write_xlsx(
    file: BinaryIO, columns: Sequence[Column], chunks: Chunks, zone: ZoneInfo, scratch: Path
) -> Iterator[int]:
    # Rows go to a file in the scratch directory at once. No text is ever taken for a formula or a link.
    book = xlsxwriter.Workbook(file, {"constant_memory": True, "tmpdir": str(scratch), "use_zip64": True})
    bold = book.add_format({"bold": True})
    date = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
    header = titles(columns, zone)

    def new_sheet() -> Any:
        sheet = book.add_worksheet()
        sheet.freeze_panes(1, 0)
        for place, title in enumerate(header):
            sheet.set_column(place, place, max(12, min(len(title) + 2, 30)))
            sheet.write_string(0, place, title, bold)
        return sheet

    def write_row(sheet: Any, line: int, row: Sequence[Any]) -> None:
        for place, value in enumerate(row):
            if value is None or value == "":
                continue
            if isinstance(value, datetime) and (local := value.astimezone(zone)).year >= FIRST_YEAR_OF_SHEET:
                sheet.write_datetime(line, place, local.replace(tzinfo=None), date)
            elif isinstance(value, int | Decimal) and not isinstance(value, bool):
                sheet.write_number(line, place, value)
            else:
                text = value if isinstance(value, str) else _text(value, zone)
                sheet.write_string(line, place, text[:MOST_LETTERS_OF_CELL])

    sheet, line, done = new_sheet(), 0, 0
    yield done
    for chunk in chunks:
        for row in chunk:
            if line == MOST_ROWS_OF_SHEET:
                sheet, line = new_sheet(), 0
            line += 1
            write_row(sheet, line, row)
        done += len(chunk)
        yield done
    book.close()


def _text(value: object, zone: ZoneInfo) -> str:
    """Return what is neither a number nor a date as the text of a cell; a text cell needs no defusing."""
    return ", ".join(value) if isinstance(value, list) else csv_cell(value, zone)
