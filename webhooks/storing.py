"""Putting deliveries in the inbox, many with one statement and one commit."""

from collections.abc import Sequence

import psycopg
from django.db import DataError, IntegrityError, connection
from django.db.backends.base.base import BaseDatabaseWrapper

from webhooks.models import Delivery

_FIELDS = Delivery._meta.concrete_fields
_INTO = f"INSERT INTO {Delivery._meta.db_table} ({', '.join(field.column for field in _FIELDS)})"
# Not "INSERT OR IGNORE", as bulk_create has it on SQLite: that leaves out, without a word, a row with a column missing.
_UNLESS_THERE = "ON CONFLICT (id) DO NOTHING"


def insert(deliveries: Sequence[Delivery], database: BaseDatabaseWrapper = connection) -> list[Delivery]:
    """Store and commit what is not stored yet; return those that the table refuses, which hinder none of the others.

    Raises ``django.db.Error`` when the database is away; then any of them may be stored or not.
    """
    if not deliveries:
        return []
    try:
        if database.vendor == "postgresql":
            _insert_arrays(deliveries, database)
        else:
            _insert_values(deliveries, database)
    except (DataError, IntegrityError, ValueError):
        if len(deliveries) == 1:
            return list(deliveries)
        return [refused for delivery in deliveries for refused in insert([delivery], database)]
    return []


def _insert_arrays(deliveries: Sequence[Delivery], database: BaseDatabaseWrapper) -> None:
    """One array a column, sent in binary: a third of the time that as many rows of literals take."""
    arrays = [[getattr(delivery, field.attname) for delivery in deliveries] for field in _FIELDS]
    # Without a length: a cast to varchar(20) would cut a text that is too long instead of refusing it.
    types = [field.db_type(database).partition("(")[0] for field in _FIELDS]
    unnested = ", ".join(f"%b::{name}[]" for name in types)
    database.ensure_connection()
    with database.wrap_database_errors, psycopg.Cursor(database.connection) as cursor:
        cursor.execute(f"{_INTO} SELECT * FROM unnest({unnested}) {_UNLESS_THERE}", arrays)  # noqa: S608 - no input


def _insert_values(deliveries: Sequence[Delivery], database: BaseDatabaseWrapper) -> None:
    values = [
        field.get_db_prep_save(getattr(delivery, field.attname), database)
        for delivery in deliveries
        for field in _FIELDS
    ]
    row = f"({', '.join(['%s'] * len(_FIELDS))})"
    with database.cursor() as cursor:
        cursor.execute(f"{_INTO} VALUES {', '.join([row] * len(deliveries))} {_UNLESS_THERE}", values)
