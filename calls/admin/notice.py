"""The log of notices: who was told of what, after how many tries, and what is still to go out."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display

from calls.admin.base import ReadOnlyAdmin, RelatedFilter, TimeRangeFilter
from calls.models import Notice
from calls.templatetags import words

_COLOURS = {Notice.State.DUE: "busy", Notice.State.SENT: "answered", Notice.State.GIVEN_UP: "missed"}


@admin.register(Notice)
class NoticeAdmin(ReadOnlyAdmin):
    """Who was told of what, and what is still to go out."""

    list_display = ["written", "transition_text", "alert_link", "channel", "state_word", "attempts", "when", "error"]
    list_select_related = ["alert", "channel"]
    list_filter = [
        ("state", ChoicesDropdownFilter),
        ("channel", RelatedFilter),
        ("transition", ChoicesDropdownFilter),
        ("created_at", TimeRangeFilter),
    ]
    sortable_by = ()

    @display(description="written")
    def written(self, notice: Notice) -> str:
        return words.moment(notice.created_at)

    @display(description="says")
    def transition_text(self, notice: Notice) -> str:
        return notice.get_transition_display()

    @display(description="alert")
    def alert_link(self, notice: Notice) -> str:
        url = reverse("admin:calls_alert_change", args=[notice.alert_id])
        return format_html('<a class="rl-link" href="{}">{}</a>', url, notice.alert)

    @display(description="state")
    def state_word(self, notice: Notice) -> str:
        colour = _COLOURS[Notice.State(notice.state)]
        return format_html('<span class="rl-word rl-{}">{}</span>', colour, notice.get_state_display())

    @display(description="sent, or next try")
    def when(self, notice: Notice) -> str:
        if notice.state == Notice.State.DUE:
            return format_html("next try {}", words.moment(notice.due_at))
        return words.moment(notice.sent_at)

    @display(description="why not", empty_value="–")
    def error(self, notice: Notice) -> str | None:
        return format_html('<div class="rl-reason">{}</div>', notice.last_error) if notice.last_error else None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Notice]:
        return super().get_queryset(request).select_related("alert", "channel")
