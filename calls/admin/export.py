"""Exports: the button of every list that has columns declared, and the page of what is made in the background."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ORDER_VAR, PAGE_VAR, SEARCH_VAR
from django.core.exceptions import FieldDoesNotExist, PermissionDenied
from django.db.models import Field, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from calls import audit
from calls.access import may_see_numbers
from calls.admin.base import ReadOnlyAdmin
from calls.admin.keyset import POSITION
from calls.choices import ExportFormat
from calls.counting import CAP, count_up_to_cap
from calls.exports import jobs, lists
from calls.exports.columns import Column
from calls.exports.snapshot import PIECE
from calls.exports.streaming import download
from calls.exports.writers import CONTENT_TYPES
from calls.masking import masked
from calls.models import AuditEntry, Export
from calls.tasks import call_for_exports

State = Export.State
SHOWN = 50
"""Exports on the page, the newest ones."""
COLOURS = {State.QUEUED: "pending", State.RUNNING: "live", State.DONE: "processed", State.FAILED: "failed"}
PLACES = {PAGE_VAR, "e", "_popup", *POSITION}
"""Parameters of a list's address that say which page of it is shown."""


class ExportMixin:
    """Puts an export button on the list of a ModelAdmin; it goes before ``BaseAdmin`` and its like.

    The file has the rows that the list shows under its present address, all pages of them, in its order, with the
    columns of ``export_columns``.
    """

    export_columns: list[Column]

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.export_view))
        return [path("export-list/", view, name=self._export_name), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if lists.may_export(request.user, self):
            url = f"{reverse(f'admin:{self._export_name}')}?{_without_page(request.GET)}"
            extra_context = {"export_url": url, "export_formats": ExportFormat, "export_cap": CAP} | (
                extra_context or {}
            )
        return super().changelist_view(request, extra_context)

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """Send the list as a file at once if it is short, else have the file made in the background."""
        form, zone, query = request.POST.get("format"), timezone.get_current_timezone(), _without_page(request.GET)
        if not lists.may_export(request.user, self) or form not in ExportFormat:
            raise PermissionDenied
        back = redirect(f"{reverse(f'admin:{self.opts.app_label}_{self.opts.model_name}_changelist')}?{query}")
        try:
            changelist = lists.list_of(request.user, self, query)
            found = count_up_to_cap(changelist.queryset)
        except IncorrectLookupParameters:
            messages.error(request, "The list does not take these filters. Choose them again.")
            return back
        filters = filters_in_words(changelist, QueryDict(query))
        is_short = found <= CAP and form != ExportFormat.XLSX
        export = None
        if not is_short:
            try:
                export = jobs.ask(request.user, self.opts.label_lower, query, form, zone.key, filters)
            except jobs.TooMany as error:
                messages.warning(request, str(error))
                return back
            call_for_exports()
        audit.record(
            request,
            AuditEntry.Action.EXPORT,
            export,
            f"{self.opts.verbose_name_plural} as {ExportFormat(form).label}",
            filters=masked(filters),
            rows=found if found <= CAP else f"more than {CAP}",
        )
        if export:
            return redirect(f"{reverse('admin:calls_export_changelist')}#rl-export-{export.pk}")
        pieces = lists.stream(request.user, self, query, form, zone)
        name = file_name(self.opts.verbose_name_plural, timezone.localtime(), form)
        return download(request, pieces, CONTENT_TYPES[form], name)

    @property
    def _export_name(self) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_export_list"


@admin.register(Export)
class ExportAdmin(ReadOnlyAdmin):
    """What was asked for, how far it has come, and the files that are ready."""

    def has_view_permission(self, request: HttpRequest, obj: Export | None = None) -> bool:
        return request.user.has_perm("calls.export_calls")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Export]:
        exports = super().get_queryset(request).select_related("user")
        return exports if sees_all(request) else exports.filter(user=request.user)

    def get_urls(self) -> list[URLPattern]:
        cancel = self.admin_site.admin_view(require_POST(self.cancel))
        fetch = self.admin_site.admin_view(self.download)
        return [
            path("<uuid:pk>/cancel/", cancel, name="calls_export_cancel"),
            path("<uuid:pk>/download/", fetch, name="calls_export_download"),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the newest exports; with ``?part=1`` only the part of the page that changes."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        rows = [row_of(export) for export in self.get_queryset(request)[:SHOWN]]
        context = {"rows": rows, "shows_users": sees_all(request), "most_shown": SHOWN if len(rows) == SHOWN else None}
        if "part" in request.GET:
            return TemplateResponse(request, "calls/exports_part.html", context)
        context |= self.admin_site.each_context(request) | {"title": "Exports"}
        return TemplateResponse(request, "calls/exports.html", context)

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        return redirect(f"{reverse('admin:calls_export_changelist')}#rl-export-{object_id}")

    def cancel(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Stop an export, unless it has ended meanwhile."""
        export = self._export(request, pk)
        if not jobs.cancel(export):
            self.message_user(request, "It had ended already.", messages.WARNING)
        return redirect("admin:calls_export_changelist")

    def download(self, request: HttpRequest, pk: UUID) -> HttpResponseBase:
        """Send the file to whom it belongs, as long as it is kept and they may still have the list."""
        export = self._export(request, pk)
        model_admin = lists.admin_of(export.table)
        may_have = may_see_numbers(request.user) or not export.has_numbers
        if not may_have or not lists.may_export(request.user, model_admin):
            raise PermissionDenied
        file = jobs.file_of(export)
        if export.state != State.DONE or export.expires_at <= timezone.now() or not file.exists():
            raise Http404("The file is no longer kept. Export the list again.")
        names = model_admin.opts.verbose_name_plural
        audit.record(
            request,
            AuditEntry.Action.DOWNLOAD,
            export,
            f"{names} as {export.get_format_display()}",
            filters=masked(export.filters),
            rows=export.rows_done,
        )
        name = file_name(names, export.created_at.astimezone(ZoneInfo(export.zone)), export.format)
        response = download(request, _pieces(file), CONTENT_TYPES[export.format], name)
        response["Content-Length"] = str(export.size)
        return response

    def _export(self, request: HttpRequest, pk: UUID) -> Export:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return get_object_or_404(self.get_queryset(request), pk=pk)


def sees_all(request: HttpRequest) -> bool:
    """Return whether the viewer sees the exports of everybody."""
    return request.user.has_perm("calls.see_all_exports")


def row_of(export: Export) -> dict[str, Any]:
    """Return what the page says of one export."""
    opts = lists.admin_of(export.table).opts
    list_url = reverse(f"admin:{opts.app_label}_{opts.model_name}_changelist")
    expected, done = export.rows_expected, export.rows_done
    return {
        "export": export,
        "name": str(opts.verbose_name_plural),
        "list_url": f"{list_url}?{export.query}",
        "colour": COLOURS.get(export.state, "ignored"),
        "percent": min(100, done * 100 // expected) if expected else None,
    }


def file_name(names: str, at: datetime, form: str) -> str:
    """Return what a file is called: its list and when it was asked for, in the viewer's zone."""
    return f"{names.replace(' ', '-')}-{at:%Y-%m-%d-%H%M}.{form}"


def filters_in_words(changelist: Any, parameters: QueryDict) -> str:
    """Return what narrows a list down, as “disposition: Missed; account: Delhi support”."""
    words = {}
    no_filters = {ORDER_VAR, *getattr(changelist, "own_parameters", ())}
    for key, values in parameters.lists():
        value = " ".join(filter(None, values))
        name, _, lookup = key.partition("__")
        for end in ("_from_0", "_to_0", "_from", "_to", "_from_1", "_to_1"):
            if name.endswith(end):
                name, lookup = name.removesuffix(end), end.split("_")[1]
        if not value or key in no_filters:
            continue
        field = _field(changelist, name)
        label = "search" if key == SEARCH_VAR else str(field.verbose_name) if field else name.replace("_", " ")
        if lookup in {"from", "to"}:
            label = f"{label} {lookup}"
        words[label] = f"{words[label]} {value}" if label in words else _value(field, lookup, value)
    return "; ".join(f"{label}: {value}" for label, value in words.items())


def _field(changelist: Any, name: str) -> Field | None:
    try:
        return changelist.lookup_opts.get_field(name)
    except FieldDoesNotExist:
        return None


def _value(field: Field | None, lookup: str, value: str) -> str:
    if field is None:
        return value
    if field.is_relation and lookup.endswith("exact") and value.isdecimal() and len(value) < 19:
        return str(field.related_model._default_manager.filter(pk=value).first() or value)
    return str(dict(field.flatchoices).get(value, value))


def _without_page(parameters: QueryDict) -> str:
    """Return the address of a list without the page: an export has all of them."""
    kept = parameters.copy()
    for name in PLACES:
        kept.pop(name, None)
    return kept.urlencode()


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while piece := opened.read(PIECE):
            yield piece
