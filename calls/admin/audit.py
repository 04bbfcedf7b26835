"""The audit log: looked at and filtered, never changed."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display

from calls.admin.base import ReadOnlyAdmin, RelatedFilter, TimeRangeFilter
from calls.admin.export import ExportMixin
from calls.exports import tables
from calls.models import AuditEntry
from calls.templatetags import words


@admin.register(AuditEntry)
class AuditEntryAdmin(ExportMixin, ReadOnlyAdmin):
    """What staff and programs did that others must be able to trace."""

    list_display = ["when", "who", "action_text", "what", "details_text", "address"]
    list_select_related = ["user", "api_key"]
    list_filter = [
        ("at", TimeRangeFilter),
        ("user", RelatedFilter),
        ("api_key", RelatedFilter),
        ("action", ChoicesDropdownFilter),
    ]
    sortable_by = ()
    export_columns = tables.AUDIT
    fields = ["when", "who", "action_text", "what", "details_text", "address"]

    @display(description="when")
    def when(self, entry: AuditEntry) -> str:
        return words.moment(entry.at)

    @display(description="who")
    def who(self, entry: AuditEntry) -> str:
        if entry.api_key:
            return f"API key {entry.api_key}"
        if entry.user:
            return entry.user.get_username()
        return "a command on the server" if "command" in entry.details else "nobody logged in"

    @display(description="did")
    def action_text(self, entry: AuditEntry) -> str:
        return entry.get_action_display()

    @display(description="what")
    def what(self, entry: AuditEntry) -> str:
        try:
            address = reverse(f"admin:{entry.target_type.replace('.', '_')}_change", args=[entry.target_id])
        except NoReverseMatch:
            return entry.target_name or words.EMPTY
        return format_html('<a class="rl-link" href="{}">{}</a>', address, entry.target_name)

    @display(description="details")
    def details_text(self, entry: AuditEntry) -> str:
        if not entry.details:
            return words.EMPTY
        changes = entry.details.get("changes", {})
        plain = {name: value for name, value in entry.details.items() if name != "changes"}
        lines = ((name, _in_words(value)) for name, value in (plain | changes).items())
        return format_html('<div class="rl-reason">{}</div>', format_html_join("", "<div>{}: {}</div>", lines))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return self.fields

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def _in_words(value: Any) -> str:
    if isinstance(value, list) and len(value) == 2:
        before, after = (str(one) or "nothing" for one in value)
        return words.shown(f"{before} → {after}")
    return words.shown(value)
