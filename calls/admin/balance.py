from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from unfold.contrib.filters.admin import RelatedDropdownFilter
from unfold.decorators import display

from calls.admin.base import ReadOnlyAdmin, TimeRangeFilter
from calls.models import BalanceReading
from calls.templatetags import words


@admin.register(BalanceReading)
class BalanceReadingAdmin(ReadOnlyAdmin):
    """Balances as the provider stated them, and the gaps between them."""

    list_display = ["occurred", "account", "balance_text", "charge_text", "gap_text", "call_link"]
    list_select_related = ["account", "conversation"]
    list_filter = [("occurred_at", TimeRangeFilter), ("account", RelatedDropdownFilter)]
    sortable_by = ()

    @display(description="occurred")
    def occurred(self, reading: BalanceReading) -> str:
        return words.moment(reading.occurred_at)

    @display(description="balance")
    def balance_text(self, reading: BalanceReading) -> str:
        return words.money(reading.balance, reading.account.unit)

    @display(description="charge")
    def charge_text(self, reading: BalanceReading) -> str:
        return words.money(reading.charge, reading.account.unit)

    @display(description="gap")
    def gap_text(self, reading: BalanceReading) -> str:
        if not reading.gap:
            return words.EMPTY
        meaning = "top-up" if reading.gap > 0 else "charged without a call that we know"
        return format_html('{} <span class="rl-muted">{}</span>', words.money(reading.gap), meaning)

    @display(description="call")
    def call_link(self, reading: BalanceReading) -> str:
        url = reverse("admin:calls_conversation_change", args=[reading.conversation_id])
        return format_html(
            '<a href="{}" class="rl-link">{}</a>', url, words.phone(reading.conversation.customer_number)
        )

    def get_readonly_fields(self, request: HttpRequest, obj: BalanceReading | None = None) -> list[str]:
        return ["occurred", "account", "balance_text", "charge_text", "gap_text", "call_link"]

    def get_fields(self, request: HttpRequest, obj: BalanceReading | None = None) -> list[str]:
        return self.get_readonly_fields(request, obj)
