"""Alerts: the list of what staff must know of, and the page where one is acknowledged, assigned and talked over."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db.models import F, OrderBy, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.html import format_html
from django.views.decorators.http import require_POST
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import display

from calls.admin.base import ReadOnlyAdmin, RelatedFilter, TimeRangeFilter
from calls.admin.export import ExportMixin
from calls.alerting.evidence import links
from calls.exports import tables
from calls.models import Alert, AlertComment
from calls.templatetags import words

OPEN_FIRST = F("cleared_at").desc(nulls_first=True)


class OpenFilter(DropdownFilter):
    """Whether the cause is still there."""

    title = "state"
    parameter_name = "open"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        return [("1", "Open"), ("new", "Open, not acknowledged"), ("0", "Cleared")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Alert]) -> QuerySet[Alert]:
        if self.value() == "new":
            return queryset.filter(cleared_at=None, acknowledged_at=None)
        return queryset.filter(cleared_at__isnull=self.value() == "1") if self.value() in {"0", "1"} else queryset


class AssignedFilter(DropdownFilter):
    """Whose task it is."""

    title = "assigned to"
    parameter_name = "assigned"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        return [("me", "Me"), ("nobody", "Nobody")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Alert]) -> QuerySet[Alert]:
        wanted = {"me": request.user, "nobody": None}
        return queryset.filter(assigned_to=wanted[self.value()]) if self.value() in wanted else queryset


class CommentForm(forms.ModelForm):
    """What somebody has to say of an alert."""

    class Meta:
        model = AlertComment
        fields = ["text"]


@admin.register(Alert)
class AlertAdmin(ExportMixin, ReadOnlyAdmin):
    """What staff had to know of, whether it still holds, and who sees to it."""

    list_display = ["message_text", "state_word", "kind_text", "account", "opened", "cleared", "assigned_to"]
    list_select_related = ["account", "assigned_to"]
    list_filter = [
        OpenFilter,
        ("kind", ChoicesDropdownFilter),
        ("account", RelatedFilter),
        ("rule", RelatedFilter),
        AssignedFilter,
        ("opened_at", TimeRangeFilter),
    ]
    sortable_by = ()
    export_columns = tables.ALERTS
    change_form_outer_before_template = "calls/alert.html"

    @display(description="message")
    def message_text(self, alert: Alert) -> str:
        return str(alert)

    @display(description="state")
    def state_word(self, alert: Alert) -> str:
        return state_word(alert)

    @display(description="kind")
    def kind_text(self, alert: Alert) -> str:
        return alert.get_kind_display()

    @display(description="opened")
    def opened(self, alert: Alert) -> str:
        return words.moment(alert.opened_at)

    @display(description="cleared")
    def cleared(self, alert: Alert) -> str:
        return words.moment(alert.cleared_at)

    def get_fieldsets(self, request: HttpRequest, obj: Alert | None = None) -> list:
        return []  # the page shows everything by its own template

    def get_ordering(self, request: HttpRequest) -> list[str | OrderBy]:
        return [OPEN_FIRST, "-opened_at", "-id"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Alert]:
        return super().get_queryset(request).select_related("rule", "account", "assigned_to", "acknowledged_by")

    def get_urls(self) -> list[URLPattern]:
        def post(name: str, view: Any) -> URLPattern:
            view = self.admin_site.admin_view(require_POST(view))
            return path(f"<int:pk>/{name}/", view, name=f"calls_alert_{name}")

        return [
            post("acknowledge", self.acknowledge),
            post("assign", self.assign),
            post("comment", self.comment),
            *super().get_urls(),
        ]

    def acknowledge(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Note that somebody has seen it; who was first stays."""
        alert = self._alert(request, pk)
        is_first = Alert.objects.filter(pk=pk, acknowledged_at=None).update(
            acknowledged_at=timezone.now(), acknowledged_by=request.user
        )
        if is_first:
            self.log_change(request, alert, "Acknowledged")
        else:
            self.message_user(request, "It has been acknowledged already.", messages.WARNING)
        return redirect("admin:calls_alert_change", pk)

    def assign(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Make it somebody's task, or nobody's."""
        alert = self._alert(request, pk)
        wanted = request.POST.get("assignee", "")
        person = staff().filter(pk=wanted).first() if wanted.isdecimal() and len(wanted) < 19 else None
        if wanted and person is None:
            self.message_user(request, "There is no such member of staff any more. Choose another.", messages.ERROR)
        elif person != alert.assigned_to:
            Alert.objects.filter(pk=pk).update(assigned_to=person)
            self.log_change(request, alert, f"Assigned to {person or 'nobody'}")
        return redirect("admin:calls_alert_change", pk)

    def comment(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Add what somebody has to say."""
        alert = self._alert(request, pk)
        form = CommentForm(request.POST, instance=AlertComment(alert=alert, author=request.user))
        if form.is_valid():
            form.save()
            self.log_change(request, alert, "Commented")
        else:
            self.message_user(request, " ".join(form.errors["text"]), messages.ERROR)
        return redirect("admin:calls_alert_change", pk)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        alert = kwargs["obj"]
        context |= {
            "alert": alert,
            "state_word": state_word(alert),
            "links": links(alert.evidence),
            "comments": alert.comments.select_related("author"),
            "notices": alert.notices.select_related("channel").order_by("pk"),
            "may_change": self.has_change_permission(request),
            "may_mute": request.user.has_perm("calls.change_alertrule"),
            "staff": staff(),
        }
        return super().render_change_form(request, context, **kwargs)

    def _alert(self, request: HttpRequest, pk: int) -> Alert:
        if not self.has_change_permission(request):
            raise PermissionDenied
        return get_object_or_404(self.get_queryset(request), pk=pk)


def staff() -> QuerySet:
    """Return those an alert can be assigned to."""
    return get_user_model().objects.filter(is_staff=True, is_active=True).order_by("username")


def state_word(alert: Alert) -> str:
    """Return whether an alert is open, as a coloured word."""
    if alert.cleared_at:
        word, label = "answered", "Cleared"
    elif alert.acknowledged_at:
        word, label = "busy", "Acknowledged"
    else:
        word, label = "missed", "Open"
    return format_html('<span class="rl-word rl-{}">{}</span>', word, label)
