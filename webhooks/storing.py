"""Putting deliveries in the inbox, many with one statement and one commit."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import psycopg
from django.db import DataError, IntegrityError, connection
from django.db.backends.base.base import BaseDatabaseWrapper

from webhooks.models import Delivery


class NewDelivery(NamedTuple):
    """A delivery on its way into the inbox: what is known at the door, of the model's columns.

    A tuple, for a model instance costs ten times as much to make and a webhook is made of little else.
    """

    id: UUID
    account_id: int
    received_at: datetime
    method: str
    content_type: str
    remote_address: str
    query: bytes
    body: bytes
    size: int
    digest: str
    status: str = "pending"
    processed_at: datetime | None = None
    error_class: str = ""
    error_field: str = ""
    error_value: str = ""
    error_message: str = ""


_FIELDS = {field.attname: field for field in Delivery._meta.concrete_fields}
_GIVEN = [_FIELDS[name] for name in NewDelivery._fields]
_DEFAULT = [field for name, field in _FIELDS.items() if name not in NewDelivery._fields]
_COLUMNS = ", ".join(field.column for field in _DEFAULT + _GIVEN)
_INTO = f"INSERT INTO {Delivery._meta.db_table} ({_COLUMNS})"
# Not "INSERT OR IGNORE", as bulk_create has it on SQLite: that leaves out, without a word, a row with a column missing.
_UNLESS_THERE = "ON CONFLICT (id) DO NOTHING"
# The types stand without a length: a cast to varchar(20) would cut a text that is too long instead of refusing it.
_TYPES = {"id": "uuid", "account_id": "bigint", "received_at": "timestamptz", "processed_at": "timestamptz"}
_TYPES |= {"query": "bytea", "body": "bytea", "size": "integer"}
_ARRAYS = ", ".join(f"%b::{_TYPES.get(name, 'text')}[]" for name in NewDelivery._fields)
_UNNEST = f"{_INTO} SELECT {'%s, ' * len(_DEFAULT)}* FROM unnest({_ARRAYS}) {_UNLESS_THERE}"  # noqa: S608 - no input


def insert(deliveries: Sequence[NewDelivery], database: BaseDatabaseWrapper = connection) -> list[NewDelivery]:
    """Store and commit what is not stored yet; return those that the table refuses, which hinder none of the others.

    Raises ``django.db.Error`` when the database is away; then any of them may be stored or not.
    """
    if not deliveries:
        return []
    try:
        if database.vendor == "postgresql":
            database.ensure_connection()
            with database.wrap_database_errors, psycopg.Cursor(database.connection) as cursor:
                cursor.execute(_UNNEST, _arrays(deliveries))
        else:
            _insert_values(deliveries, database)
    except (DataError, IntegrityError, ValueError):
        if len(deliveries) == 1:
            return list(deliveries)
        return [refused for delivery in deliveries for refused in insert([delivery], database)]
    return []


async def insert_async(deliveries: Sequence[NewDelivery], database: psycopg.AsyncConnection) -> list[NewDelivery]:
    """Do the same on the event loop (PostgreSQL only, in autocommit). Raises ``psycopg.Error``."""
    try:
        await database.execute(_UNNEST, _arrays(deliveries))
    except (psycopg.DataError, psycopg.IntegrityError, ValueError):
        if len(deliveries) == 1:
            return list(deliveries)
        return [refused for delivery in deliveries for refused in await insert_async([delivery], database)]
    return []


def _arrays(deliveries: Sequence[NewDelivery]) -> list[object]:
    """One array a column, sent in binary: a third of the time that as many rows of literals take."""
    return [field.get_default() for field in _DEFAULT] + [list(column) for column in zip(*deliveries, strict=True)]


def _insert_values(deliveries: Sequence[NewDelivery], database: BaseDatabaseWrapper) -> None:
    defaults = [field.get_db_prep_save(field.get_default(), database) for field in _DEFAULT]
    values = []
    for delivery in deliveries:
        values += defaults
        values += [field.get_db_prep_save(value, database) for field, value in zip(_GIVEN, delivery, strict=True)]
    row = f"({', '.join(['%s'] * len(_FIELDS))})"
    with database.cursor() as cursor:
        cursor.execute(f"{_INTO} VALUES {', '.join([row] * len(deliveries))} {_UNLESS_THERE}", values)
