"""The inbox: what came in, what was not understood and why, and the button that has it read again."""

import logging
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.views.decorators.http import require_POST
from unfold.contrib.filters.admin import DropdownFilter
from unfold.decorators import display

from calls.access import may_see_numbers, shown, visible
from calls.admin.base import ReadOnlyAdmin, RelatedFilter, TimeRangeFilter
from calls.admin.keyset import KeysetChangeList
from calls.exports.streaming import download
from calls.models import Conversation, StoredRecord
from calls.templatetags import words
from calls.weblinks import shortened
from webhooks import bell, figures, processing
from webhooks.admin import inbox
from webhooks.admin.labels import ADVICE, label_of, status_word
from webhooks.exporting import export
from webhooks.models import Delivery
from webhooks.providers import PROVIDERS

logger = logging.getLogger(__name__)

Status = Delivery.Status
BATCH = 1000
"""Ids per statement when many deliveries are put back."""


class StatusFilter(DropdownFilter):
    """Repeats are left out until they are asked for: they say nothing new."""

    title = "status"
    parameter_name = "status__exact"
    all_option = ["", "All but repeats"]

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        return [*Status.choices, ("all", "All and repeats")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if self.value() == "all":
            return queryset
        return queryset.filter(status=self.value()) if self.value() else queryset.exclude(status=Status.REPEAT)


class ProviderFilter(DropdownFilter):
    """The provider of the account."""

    title = "provider"
    parameter_name = "provider"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        return [(slug, provider.label) for slug, provider in PROVIDERS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(account__provider=self.value()) if self.value() else queryset


class ErrorFilter(DropdownFilter):
    """The choices are the classes there are, not the values in the table: listing those would read all of it."""

    title = "error"
    parameter_name = "error_class__exact"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        return [(name, name) for name in ADVICE]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if not self.value():
            return queryset
        # Only what is in quarantine has an error, and has an index; what waits to be read again is left out.
        return queryset.filter(error_class=self.value(), status=Status.QUARANTINED)


class AwayFilter(admin.SimpleListFilter):
    """The reports by which the inbox page tells of an outage; only its links ask for them."""

    title = "away"
    parameter_name = "away"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        return [(self.used_parameters[self.parameter_name], "")] if self.value() else []

    def has_output(self) -> bool:
        return True  # or else the value would not be taken

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if not self.value():
            return queryset
        found = [outage for outage in figures.outages_of_day()[0] if outage.first_missed.isoformat() == self.value()]
        return queryset.filter(pk__in=[pk for outage in found for pk in outage.deliveries])


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    """The inbox: what came in, what was not understood and why, and the button that has it read again."""

    list_display = ["received", "account_name", "provider_label", "status_column", "error_text", "size_text", "repeats"]
    list_filter = [
        StatusFilter,
        ("received_at", TimeRangeFilter),
        ("account", RelatedFilter),
        ProviderFilter,
        ErrorFilter,
        AwayFilter,
    ]
    list_select_related = ["account"]
    list_fullwidth = True
    sortable_by = ()
    actions = ["process_again"]
    list_before_template = "webhooks/delivery_list.html"
    change_form_outer_before_template = "webhooks/delivery.html"

    def get_changelist(self, request: HttpRequest, **kwargs: object) -> type[KeysetChangeList]:
        return KeysetChangeList

    @display(description="received")
    def received(self, delivery: Delivery) -> str:
        return words.moment(delivery.received_at)

    @display(description="account")
    def account_name(self, delivery: Delivery) -> str:
        return str(delivery.account)

    @display(description="provider")
    def provider_label(self, delivery: Delivery) -> str:
        return label_of(delivery.account)

    @display(description="status")
    def status_column(self, delivery: Delivery) -> str:
        return status_word(delivery)

    @display(description="error")
    def error_text(self, delivery: Delivery) -> str:
        if not delivery.error_class:
            return words.EMPTY
        return format_html('{} <span class="rl-muted">{}</span>', delivery.error_class, delivery.error_field)

    @display(description="size")
    def size_text(self, delivery: Delivery) -> str:
        return f"{delivery.size:,} B"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Delivery]:
        # A list of fifty bodies of a megabyte each would be slow to fetch and shows none of them.
        return super().get_queryset(request).defer("body", "query", "error_message")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.process_one_again))
        return [
            path("<uuid:pk>/process-again/", view, name="webhooks_delivery_process_again"),
            path("overview/", self.admin_site.admin_view(inbox.overview), name="webhooks_inbox"),
            path("export/", self.admin_site.admin_view(self.export), name="webhooks_delivery_export"),
            *super().get_urls(),
        ]

    def export(self, request: HttpRequest) -> HttpResponseBase:
        """Stream the deliveries of the filtered list as NDJSON, oldest first."""
        # The bytes as they came cannot be masked.
        may_export = request.user.has_perm("calls.export_calls") and may_see_numbers(request.user)
        if not (may_export and self.has_view_permission(request)):
            raise PermissionDenied
        try:
            chosen = self.get_changelist_instance(request).get_queryset(request)
        except IncorrectLookupParameters:
            return redirect("admin:webhooks_delivery_changelist")
        logger.info("%s exports deliveries: %s", request.user, request.GET.urlencode() or "all but repeats")
        lines = (b"".join(batch) for batch in export(chosen))
        return download(request, lines, "application/x-ndjson", "deliveries.ndjson")

    def get_fieldsets(self, request: HttpRequest, obj: Delivery | None = None) -> list:
        return []  # the page's own template shows everything

    def process_one_again(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Put one delivery back to pending, from the button on its page."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        self._requeue(request, [get_object_or_404(self.get_queryset(request), pk=pk).pk])
        return redirect("admin:webhooks_delivery_change", pk)

    @admin.action(description="Process again", permissions=["change"])
    def process_again(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        self._requeue(request, list(queryset.values_list("pk", flat=True)))

    def _requeue(self, request: HttpRequest, ids: Sequence[UUID]) -> None:
        count = sum(processing.requeue(ids[i : i + BATCH]) for i in range(0, len(ids), BATCH))
        bell.ring()
        if count:
            self.message_user(request, f"{count:,} of {len(ids):,} will be processed again.", messages.SUCCESS)
        if count < len(ids):
            left = "Repeats, deliveries that are pending already, and those that were cut off are left as they are."
            self.message_user(request, left, messages.WARNING)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        delivery = kwargs["obj"]
        told = StoredRecord.objects.filter(source=delivery.pk).values("conversation")
        calls = visible(request.user, Conversation.objects.filter(pk__in=told))
        context |= {
            "delivery": delivery,
            "status_word": status_word(delivery),
            "provider_label": label_of(delivery.account),
            "query_text": shown(shortened(bytes(delivery.query).decode("utf-8", "replace"))),
            "advice": ADVICE.get(delivery.error_class, ""),
            "calls": calls.select_related("account", "agent"),
            "copies": Delivery.objects.filter(repeat_of=delivery).only("received_at")[:50],
            "can_process_again": self.has_change_permission(request)
            and delivery.status in {Status.PROCESSED, Status.IGNORED, Status.QUARANTINED}
            and delivery.error_class != "TooLarge",
        }
        return super().render_change_form(request, context, **kwargs)
