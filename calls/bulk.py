"""Many rows with one statement, as tuples: an instance of its model costs more than all else that is done with a row.

On PostgreSQL the values go as one binary array a column; elsewhere row by row, which costs little without a network.
"""

import json
from collections.abc import Iterable, Sequence

import psycopg
from django.db import connection, models


@models.Field.register_lookup
@models.ForeignObject.register_lookup
class Among(models.lookups.In):
    """``pk__among=ids``: like ``in``, with any number of values as one parameter."""

    lookup_name = "among"

    def as_postgresql(self, compiler, connection) -> tuple[str, list]:
        """Return the comparison with an array, written as PostgreSQL's text for one."""
        column, parameters = self.process_lhs(compiler, connection)
        texts = (str(value).replace("\\", "\\\\").replace('"', '\\"') for value in self.rhs)
        array = "{" + ",".join([f'"{text}"' for text in texts]) + "}"
        return f"{column} = ANY(%s::{_type(self.lhs.output_field)}[])", [*parameters, array]


def insert(model: type[models.Model], names: Sequence[str], rows: Sequence[tuple]) -> list:
    """Insert rows of the columns ``names`` and return the primary keys that the database counts up, in the same order.

    Columns that are not named become null or what the database says.
    """
    if not rows:
        return []
    table, key, fields = model._meta.db_table, model._meta.pk.column, _fields(model, names)
    columns = ", ".join(_quoted(fields))
    if connection.vendor == "postgresql":
        # Rows are inserted, numbered and returned in the order of the array's elements.
        new = f"{_unnest(fields)} WITH ORDINALITY AS new({columns}, row_place)"
        statement = f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {new} ORDER BY row_place RETURNING {key}"  # noqa: S608 - no input
        return [pk for (pk,) in _execute(statement, fields, rows)]
    places = ", ".join(["%s"] * len(fields))
    keys = []
    with connection.cursor() as cursor:
        for row in _prepared(fields, rows):
            cursor.execute(f"INSERT INTO {table} ({columns}) VALUES ({places})", row)  # noqa: S608 - no input
            keys.append(cursor.lastrowid)
    return keys


def update(model: type[models.Model], names: Sequence[str], rows: Sequence[tuple]) -> None:
    """Set the columns ``names`` of rows that exist; each tuple begins with the primary key."""
    if not rows:
        return
    table, key = model._meta.db_table, model._meta.pk
    fields = _fields(model, names)
    if connection.vendor == "postgresql":
        values = ", ".join(f"{column} = new.{column}" for column in _quoted(fields))
        new = f"{_unnest([key, *fields])} AS new(row_key, {', '.join(_quoted(fields))})"
        statement = f"UPDATE {table} SET {values} FROM {new} WHERE {table}.{key.column} = new.row_key"  # noqa: S608 - no input
        _execute(statement, [key, *fields], rows)
    else:
        values = ", ".join(f"{column} = %s" for column in _quoted(fields))
        prepared = _prepared([*fields, key], ((*row[1:], row[0]) for row in rows))
        with connection.cursor() as cursor:
            cursor.executemany(f"UPDATE {table} SET {values} WHERE {key.column} = %s", list(prepared))  # noqa: S608 - no input


def _quoted(fields: Iterable[models.Field]) -> list[str]:
    return [connection.ops.quote_name(field.column) for field in fields]


def _fields(model: type[models.Model], names: Sequence[str]) -> list[models.Field]:
    by_name = {field.attname: field for field in model._meta.concrete_fields}
    return [by_name[name] for name in names]


def _type(field: models.Field) -> str:
    # Without a length: a cast to varchar(20) would cut a text that is too long instead of refusing it.
    return field.db_type(connection).partition("(")[0]


def _unnest(fields: Iterable[models.Field]) -> str:
    return f"unnest({', '.join(f'%b::{_type(field)}[]' for field in fields)})"


def _execute(statement: str, fields: Sequence[models.Field], rows: Sequence[tuple]) -> list[tuple]:
    arrays = [
        [json.dumps(value) for value in column] if isinstance(field, models.JSONField) else list(column)
        for field, column in zip(fields, zip(*rows, strict=True), strict=True)
    ]
    connection.ensure_connection()
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(statement, arrays)
        return cursor.fetchall() if cursor.description else []


def _prepared(fields: Sequence[models.Field], rows: Iterable[tuple]) -> Iterable[list]:
    for row in rows:
        yield [field.get_db_prep_save(value, connection) for field, value in zip(fields, row, strict=True)]
