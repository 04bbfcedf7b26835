from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from unfold.contrib.filters.admin import DropdownFilter
from unfold.decorators import display

from calls import statement
from calls.admin.base import ReadOnlyAdmin, RelatedFilter, TimeRangeFilter
from calls.admin.export import ExportMixin
from calls.admin.statement import statement_url
from calls.choices import GapKind
from calls.exports import tables
from calls.models import BalanceReading
from calls.templatetags import words


class GapFilter(DropdownFilter):
    """Why a balance is not what the one before and the charge would leave, in a word or two."""

    title = "gap"
    parameter_name = "gap_kind__exact"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        return list(words.GAPS.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(gap_kind=self.value()) if self.value() else queryset


@admin.register(BalanceReading)
class BalanceReadingAdmin(ExportMixin, ReadOnlyAdmin):
    """Balances as the provider stated them, and the gaps between them."""

    list_display = ["booked", "account_link", "charge_text", "balance_text", "gap_text", "gap_word", "call_link"]
    list_select_related = ["account", "conversation"]
    list_filter = [("booked_at", TimeRangeFilter), ("account", RelatedFilter), GapFilter]
    sortable_by = ()
    export_columns = tables.READINGS

    @display(description="booked")
    def booked(self, reading: BalanceReading) -> str:
        return words.moment(reading.booked_at)

    @display(description="ended")
    def ended(self, reading: BalanceReading) -> str:
        return words.moment(reading.occurred_at)

    @display(description="account")
    def account_link(self, reading: BalanceReading) -> str:
        url = statement_url(reading.account)
        return format_html('<a href="{}" class="rl-link" title="Its statement">{}</a>', url, reading.account)

    @display(description="balance")
    def balance_text(self, reading: BalanceReading) -> str:
        return words.money(reading.balance, reading.account.unit)

    @display(description="charge")
    def charge_text(self, reading: BalanceReading) -> str:
        return words.money(reading.charge, reading.account.unit)

    @display(description="gap")
    def gap_text(self, reading: BalanceReading) -> str:
        return words.money(reading.gap, reading.account.unit) if reading.gap else words.EMPTY

    @display(description="reason")
    def gap_word(self, reading: BalanceReading) -> str:
        return words.gap(reading)

    @display(description="reason")
    def reason(self, reading: BalanceReading) -> str:
        return statement.reason(reading)

    @display(description="happened after")
    def since(self, reading: BalanceReading) -> str:
        return words.moment(reading.gap_since)

    @display(description="call")
    def call_link(self, reading: BalanceReading) -> str:
        url = reverse("admin:calls_conversation_change", args=[reading.conversation_id])
        return format_html(
            '<a href="{}" class="rl-link">{}</a>', url, words.phone(reading.conversation.customer_number)
        )

    @display(description="calls seen live then, without a final report")
    def suspects(self, reading: BalanceReading) -> str:
        calls = statement.suspects([reading]).get(reading.pk, [])
        links = (
            (reverse("admin:calls_conversation_change", args=[call.pk]), words.phone(call.customer_number))
            for call in calls
        )
        return format_html_join(", ", '<a href="{}" class="rl-link">{}</a>', links) or "None"

    def get_readonly_fields(self, request: HttpRequest, obj: BalanceReading | None = None) -> list[str]:
        fields = ["booked", "ended", "account_link", "charge_text", "balance_text", "gap_text", "reason", "call_link"]
        return [*fields, "since", "suspects"] if obj and obj.gap_kind == GapKind.MISSING else fields

    def get_fields(self, request: HttpRequest, obj: BalanceReading | None = None) -> list[str]:
        return self.get_readonly_fields(request, obj)
