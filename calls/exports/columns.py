"""What an export has in its columns: read straight from the database, without making an object of each row."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.db.models import QuerySet

from calls.masking import masked

CHUNK = 2000
"""Rows that are held in memory at once."""


@dataclass(frozen=True)
class Column:
    """One column: its ``name`` for programs, its ``title`` for people, and where its value comes from.

    It is what stands at its one path, or what ``value`` makes of what stands at all ``paths``: a text, number, moment,
    yes or no, list of texts, or nothing. Where it has to be looked up apart from the row, ``look_up`` gives it for the
    primary keys of many rows at once.
    ``is_private`` says that it is or may hold a phone number, which is masked for those who may not see numbers.
    """

    name: str
    title: str
    paths: tuple[str, ...] = ()
    value: Callable[..., Any] | None = None
    look_up: Callable[[list[Any]], dict[Any, Any]] | None = None
    is_private: bool = False
    is_moment: bool = False


def column(name: str, title: str, path: str = "", **options: Any) -> Column:
    """Return the column of one field, which is called as the column is unless ``path`` says otherwise."""
    return Column(name, title, (path or name,), **options)


def moment(name: str, title: str, path: str = "") -> Column:
    """Return the column of a time."""
    return Column(name, title, (path or name,), is_moment=True)


def first_of(*texts: str | None) -> str:
    """Return the first text that says something: a name, or else an id."""
    return next(filter(None, texts), "")


def chunks(rows: QuerySet, columns: Sequence[Column], *, is_masked: bool) -> Iterator[list[list[Any]]]:
    """Yield the values of ``rows``, in their order, in lists of up to ``CHUNK`` rows.

    To be read in one snapshot: on PostgreSQL the rows come from a cursor of the transaction.
    """
    paths = list(dict.fromkeys(["pk", *(path for column in columns for path in column.paths)]))
    sources = [[paths.index(path) for path in column.paths] for column in columns]
    found = rows.prefetch_related(None).values_list(*paths).iterator(chunk_size=CHUNK)
    while batch := list(islice(found, CHUNK)):
        by_column = []
        for column, source in zip(columns, sources, strict=True):
            if column.look_up:
                looked_up = column.look_up([row[0] for row in batch])
                values = [looked_up.get(row[0]) for row in batch]
            elif column.value is None:
                (place,) = source
                values = [row[place] for row in batch]
            else:
                values = [column.value(*(row[place] for place in source)) for row in batch]
            if is_masked and column.is_private:
                values = [_masked(value) for value in values]
            by_column.append(values)
        yield [list(row) for row in zip(*by_column, strict=True)]


def _masked(value: Any) -> Any:
    return [masked(text) for text in value] if isinstance(value, list) else masked(value) if value else value
