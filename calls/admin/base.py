"""What every page of the admin has in common."""

from datetime import datetime, time

from django import forms
from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.functional import cached_property
from unfold.admin import ModelAdmin as ThemedAdmin
from unfold.contrib.filters.admin import RangeDateTimeFilter
from unfold.views import ChangeList

from calls.counting import CAP, count_up_to_cap

# Anything else, such as a regular expression or a path into JSON, is work that a link could make the database do.
LOOKUPS = {"", "exact", "id__exact", "isnull", "icontains"}


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
    """Lists that stay quick at any size, and that only filters of ours narrow down."""

    paginator = CappedPaginator
    list_per_page = 50
    list_max_show_all = 0
    list_filter_submit = True
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    def get_changelist(self, request: HttpRequest, **kwargs: object) -> type[ChangeList]:
        return CappedChangeList

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


class TimeRangeFilter(RangeDateTimeFilter):
    """From … to, in the viewer's zone. A date without a time stands for that whole day."""

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if start := self._moment("from", time.min):
            queryset = queryset.filter(**{f"{self.field_path}__gte": start})
        if end := self._moment("to", time.max):
            queryset = queryset.filter(**{f"{self.field_path}__lte": end})
        return queryset

    def _moment(self, edge: str, default: time) -> datetime | None:
        day_text = self.used_parameters.get(f"{self.field_path}_{edge}_0")
        time_text = self.used_parameters.get(f"{self.field_path}_{edge}_1")
        if not day_text:
            return None
        try:
            day = forms.DateField().to_python(day_text)
            moment = datetime.combine(day, forms.TimeField().to_python(time_text) or default)
        except forms.ValidationError as error:
            raise IncorrectLookupParameters(str(error)) from error
        if not 1900 <= day.year <= 9998:  # beyond, a zone's offset may lead out of what a datetime holds
            raise IncorrectLookupParameters(f"The year {day.year} is out of range.")
        return timezone.make_aware(moment)
