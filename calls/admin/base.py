"""What every page of the admin has in common."""

from datetime import datetime, time, timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Field, ForeignKey, ManyToManyField, Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.functional import cached_property
from unfold.admin import ModelAdmin as ThemedAdmin
from unfold.contrib.filters.admin import RangeDateTimeFilter, RelatedDropdownFilter
from unfold.views import ChangeList

from calls import audit
from calls.access import masked, reach_of, visible
from calls.counting import CAP, count_up_to_cap
from calls.masking import masking
from calls.models import AuditEntry

# Anything else, such as a regular expression or a path into JSON, is work that a link could make the database do.
LOOKUPS = {"", "exact", "id__exact", "in", "isnull", "icontains"}

FIRST_YEAR, LAST_YEAR = 1900, 9998  # beyond, a zone's offset may lead out of what a datetime holds


class CappedPaginator(Paginator):
    """Pages through the first ``CAP`` rows."""

    template_name = "admin/pagination_capped.html"

    @cached_property
    def count(self) -> int:
        return count_up_to_cap(self.object_list)

    @property
    def is_capped(self) -> bool:
        """Whether there are more rows than were counted."""
        return self.count > CAP


class CappedChangeList(ChangeList):
    """A list whose header does not repeat the number of rows: it would say 10,001 for any number above the cap."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.full_result_count = self.result_count


class BaseAdmin(ThemedAdmin):
    """Lists that stay quick at any size, that only filters of ours narrow down, and of rows that the viewer may see."""

    paginator = CappedPaginator
    list_per_page = 50
    list_max_show_all = 0
    list_filter_submit = True
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    def get_changelist(self, request: HttpRequest, **kwargs: object) -> type[ChangeList]:
        return CappedChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return visible(request.user, super().get_queryset(request))

    def formfield_for_foreignkey(
        self, db_field: ForeignKey, request: HttpRequest, **kwargs: Any
    ) -> forms.ModelChoiceField | None:
        field = super().formfield_for_foreignkey(db_field, request, **_visible_choices(db_field, request, kwargs))
        if field and db_field.name == "account" and not reach_of(request.user).is_everything:
            field.required = True  # none at all would stand for every account
        return field

    def formfield_for_manytomany(
        self, db_field: ManyToManyField, request: HttpRequest, **kwargs: Any
    ) -> forms.ModelMultipleChoiceField | None:
        return super().formfield_for_manytomany(db_field, request, **_visible_choices(db_field, request, kwargs))

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> list:
        request.form_changes = audit.changes_of(form, formsets or ())
        return super().construct_change_message(request, form, formsets, add)

    # Django keeps a history of its own, which has the row's name as who made the change sees it.

    def log_addition(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        _record(request, AuditEntry.Action.ADD, obj, message)
        with masking(lambda: True):
            return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        _record(request, AuditEntry.Action.CHANGE, obj, message)
        with masking(lambda: True):
            return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        for row in queryset:
            _record(request, AuditEntry.Action.DELETE, row, "")
        with masking(lambda: True):
            return super().log_deletions(request, queryset)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        return lookup.partition("__")[2] in LOOKUPS and super().lookup_allowed(lookup, value, request)


class ReadOnlyAdmin(BaseAdmin):
    """Rows that providers write or that are worked out: looked at, never edited."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: object = None) -> list[str]:
        return [field.name for field in self.opts.fields]

    def changeform_view(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        # Without this, an empty form would be "saved" and undo what is written meanwhile.
        if request.method == "POST":
            raise PermissionDenied
        return super().changeform_view(request, *args, **kwargs)

    def render_change_form(self, request: HttpRequest, context: dict, **kwargs: object) -> HttpResponse:
        context |= {"show_save": False, "show_save_and_continue": False, "show_close": True}
        return super().render_change_form(request, context, **kwargs)


class RelatedFilter(RelatedDropdownFilter):
    """A choice among the rows of another table that the viewer may see."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[Any, str]]:
        rows = visible(request.user, field.related_model._default_manager.all())
        if ordering := self.field_admin_ordering(field, request, model_admin):
            rows = rows.order_by(*ordering)
        return [(row.pk, str(row)) for row in rows]


class TimeRangeFilter(RangeDateTimeFilter):
    """From … to, in the viewer's zone. A date without a time stands for that whole day.

    In place of a date, a link may give a moment with its offset, which is the same for every viewer.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._moments = {}
        for edge in ("from", "to"):
            day, time_of_day = f"{self.field_path}_{edge}_0", f"{self.field_path}_{edge}_1"
            if moment := aware_moment(self.used_parameters.get(day)):
                self._moments[edge] = moment
                local = timezone.localtime(moment)
                self.used_parameters |= {day: f"{local:%Y-%m-%d}", time_of_day: local.time().isoformat()}

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if start := self._moment("from", time.min):
            queryset = queryset.filter(**{f"{self.field_path}__gte": start})
        if end := self._moment("to", time.max):
            queryset = queryset.filter(**{f"{self.field_path}__lte": end})
        return queryset

    def _moment(self, edge: str, default: time) -> datetime | None:
        if edge in self._moments:
            return self._moments[edge]
        day_text = self.used_parameters.get(f"{self.field_path}_{edge}_0")
        time_text = self.used_parameters.get(f"{self.field_path}_{edge}_1")
        if not day_text:
            return None
        try:
            day = forms.DateField().to_python(day_text)
            moment = datetime.combine(day, forms.TimeField().to_python(time_text) or default)
        except forms.ValidationError as error:
            raise IncorrectLookupParameters(str(error)) from error
        if not FIRST_YEAR <= day.year <= LAST_YEAR:
            raise IncorrectLookupParameters(f"The year {day.year} is out of range.")
        return timezone.make_aware(moment)


def _record(request: HttpRequest, action: AuditEntry.Action, row: Model, message: Any) -> None:
    """Write down a change: field by field if a form made it, else what ``message`` says of it."""
    changes = vars(request).pop("form_changes", {})
    details = {"changes": changes} if changes else {}
    if isinstance(message, str) and message:
        details["note"] = masked(message)
    audit.record(request, action, row, masked(f"{row._meta.verbose_name} {row}"), **details)


def _visible_choices(db_field: Field, request: HttpRequest, kwargs: dict[str, Any]) -> dict[str, Any]:
    rows = kwargs.get("queryset")
    model: type[Model] = db_field.remote_field.model
    return kwargs | {"queryset": visible(request.user, model._default_manager.all() if rows is None else rows)}


def aware_moment(text: str | None) -> datetime | None:
    """Return the moment that ``text`` says with an offset, else ``None``."""
    try:
        moment = parse_datetime(text or "")
    except ValueError:
        return None
    return moment if moment and moment.tzinfo and FIRST_YEAR <= moment.year <= LAST_YEAR else None


def time_range(field: str, since: datetime | None, until: datetime | None) -> dict[str, str]:
    """Return ``TimeRangeFilter``'s parameters for ``since`` to just before ``until``, to the microsecond."""
    query = {}
    for edge, moment in (("from", since), ("to", until and until - timedelta(microseconds=1))):
        if moment:
            local = timezone.localtime(moment)
            query |= {f"{field}_{edge}_0": f"{local:%Y-%m-%d}", f"{field}_{edge}_1": f"{local:%H:%M:%S.%f}"}
    return query
