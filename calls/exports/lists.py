"""What a list of the admin shows: the same rows in the same order for the same viewer, all pages of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from zoneinfo import ZoneInfo

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, QueryDict
from django.utils import timezone

from calls.access import may_see_numbers, seen_by
from calls.exports.columns import chunks
from calls.exports.snapshot import directory, read_along, snapshot
from calls.exports.writers import write


def admin_of(table: str) -> Any:
    """Return the ModelAdmin of a table such as ``calls.conversation``; it has ``export_columns``."""
    return admin.site.get_model_admin(apps.get_model(table))


def may_export(user: Any, model_admin: Any) -> bool:
    """Return whether ``user`` may have the rows of a list as a file: by that permission, and that to look at it."""
    may_enter = user.is_active and user.is_staff
    return may_enter and user.has_perm("calls.export_calls") and model_admin.has_view_permission(_request(user, ""))


def list_of(user: Any, model_admin: Any, query: str) -> ChangeList:
    """Return the list that ``user`` sees under an address with ``query``; all its rows are its ``queryset``.

    They must be read in the viewer's zone: some filters ask for it only when their SQL is made. Raises
    ``IncorrectLookupParameters`` for a query that the list does not take.
    """
    with seen_by(user):
        return model_admin.get_changelist_instance(_request(user, query))


def stream(user: Any, model_admin: Any, query: str, form: str, zone: ZoneInfo) -> Iterator[bytes]:
    """Yield a list as a file, all of it as it was at one moment, in pieces as they are made. Not for XLSX."""

    def produce(file: BinaryIO) -> Iterator[int]:
        with timezone.override(zone), snapshot():
            rows = list_of(user, model_admin, query).queryset
            yield from write_rows(file, user, model_admin, rows, form, zone, directory())

    return read_along(produce)


def write_rows(
    file: BinaryIO, user: Any, model_admin: Any, rows: QuerySet, form: str, zone: ZoneInfo, scratch: Path
) -> Iterator[int]:
    """Write rows of a list to ``file``, as ``user`` may see them, and yield how many are written: see ``write``."""
    columns = model_admin.export_columns
    return write(file, form, columns, chunks(rows, columns, is_masked=not may_see_numbers(user)), zone, scratch)


def _request(user: Any, query: str) -> HttpRequest:
    request = HttpRequest()
    request.method, request.user, request.GET = "GET", user, QueryDict(query)
    return request
