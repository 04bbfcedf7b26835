from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from unfold.contrib.filters.admin import DropdownFilter, RelatedDropdownFilter
from unfold.decorators import display

from calls.admin.base import ReadOnlyAdmin
from calls.models import Alert
from calls.templatetags import words


class OpenFilter(DropdownFilter):
    """Whether the cause is still there."""

    title = "state"
    parameter_name = "open"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        return [("1", "Open"), ("0", "Cleared")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(cleared_at__isnull=self.value() == "1") if self.value() in {"0", "1"} else queryset


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    """What staff had to know of, and whether it still holds."""

    list_display = ["message", "state_word", "account", "opened", "cleared", "mailed"]
    list_select_related = ["account"]
    list_filter = [OpenFilter, ("account", RelatedDropdownFilter)]
    sortable_by = ()

    @display(description="state")
    def state_word(self, alert: Alert) -> str:
        word, label = ("answered", "Cleared") if alert.cleared_at else ("missed", "Open")
        return format_html('<span class="rl-word rl-{}">{}</span>', word, label)

    @display(description="opened")
    def opened(self, alert: Alert) -> str:
        return words.moment(alert.opened_at)

    @display(description="cleared")
    def cleared(self, alert: Alert) -> str:
        return words.moment(alert.cleared_at)

    @display(description="mailed")
    def mailed(self, alert: Alert) -> str:
        return words.moment(alert.notified_at) if alert.notified_at else "not yet"

    @display(description="balance reading")
    def reading_link(self, alert: Alert) -> str:
        if alert.reading_id is None:
            return words.EMPTY
        url = reverse("admin:calls_balancereading_change", args=[alert.reading_id])
        return format_html('<a href="{}" class="rl-link">{}</a>', url, alert.reading)

    def get_readonly_fields(self, request: HttpRequest, obj: Alert | None = None) -> list[str]:
        return ["message", "state_word", "account", "opened", "cleared", "mailed", "reading_link"]

    def get_fields(self, request: HttpRequest, obj: Alert | None = None) -> list[str]:
        return self.get_readonly_fields(request, obj)
