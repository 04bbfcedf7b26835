"""Rules of alerts: the kind is chosen first, then what that kind goes by; each can be tried out on the past."""

from datetime import timedelta
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Field, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.functional import SimpleLazyObject
from django.utils.html import format_html
from django.utils.text import capfirst
from django.views.decorators.http import require_POST
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from calls.access import visible
from calls.admin.base import BaseAdmin, RelatedFilter
from calls.alerting import backtest
from calls.alerting.evidence import as_stored, links
from calls.alerting.kinds import KINDS
from calls.choices import AlertKind
from calls.models import Account, Alert, AlertRule
from calls.numbers import display as display_number
from calls.templatetags import words

TRY = "_try"
"""Name of the button that tries a rule out, as it stands in the form, and saves nothing."""


class RuleForm(forms.ModelForm):
    """A rule of one kind, which the admin sets: its marks are called what they count."""

    kind_word: ClassVar[AlertKind]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.instance.kind = self.kind_word
        for name in ("opens_at", "clears_at"):
            if (value := self.initial.get(name)) is not None:
                self.initial[name] = f"{value:f}".rstrip("0").rstrip(".")
        if "opens_at" in self.fields:
            self.fields["opens_at"].label = capfirst(KINDS[self.kind_word].mark)

    def is_valid(self) -> bool:
        """Return whether it is to be saved; one that is only tried out is shown again."""
        return super().is_valid() and TRY not in self.data


@admin.register(AlertRule)
class AlertRuleAdmin(BaseAdmin):
    """When staff are told, of what, and by which channels."""

    form = RuleForm
    list_display = ["name", "kind_text", "scope", "state_word", "open_alerts"]
    list_filter = [("kind", ChoicesDropdownFilter), ("account", RelatedFilter)]
    list_select_related = ["account", "agent"]
    sortable_by = ()
    search_fields = ["name"]
    autocomplete_fields = ["agent"]
    actions = ["mute_for_an_hour", "mute_for_a_day", "unmute"]
    change_form_outer_before_template = "calls/alert_rule.html"
    change_form_after_template = "calls/alert_rule_try.html"

    @display(description="kind")
    def kind_text(self, rule: AlertRule) -> str:
        return rule.get_kind_display()

    @display(description="watches")
    def scope(self, rule: AlertRule) -> str:
        parts = [
            str(rule.account or "Every account"),
            display_number(rule.did) if rule.did else "",
            str(rule.agent or ""),
        ]
        return ", ".join(filter(None, parts))

    @display(description="state")
    def state_word(self, rule: AlertRule) -> str:
        return state_word(rule)

    @display(description="open alerts")
    def open_alerts(self, rule: AlertRule) -> str:
        if not rule.open_count:
            return words.EMPTY
        url = f"{reverse('admin:calls_alert_changelist')}?rule__id__exact={rule.pk}&open=1"
        return format_html('<a class="rl-link" href="{}">{}</a>', url, rule.open_count)

    def get_queryset(self, request: HttpRequest) -> QuerySet[AlertRule]:
        still_open = Alert.objects.filter(rule=OuterRef("pk"), cleared_at=None).order_by().values("rule")
        count = Subquery(still_open.annotate(count=Count("pk")).values("count"), output_field=IntegerField())
        return super().get_queryset(request).annotate(open_count=Coalesce(count, 0))

    def has_delete_permission(self, request: HttpRequest, obj: AlertRule | None = None) -> bool:
        # Its alerts tell what happened; the page says that it can be switched off.
        return obj is not None and not obj.alerts.exists() and super().has_delete_permission(request, obj)

    def get_urls(self) -> list[URLPattern]:
        mute = self.admin_site.admin_view(require_POST(self.mute))
        return [path("<int:pk>/mute/", mute, name="calls_alertrule_mute"), *super().get_urls()]

    def add_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Have the kind chosen, then show the form that goes with it."""
        if request.GET.get("kind") in KINDS:
            return super().add_view(request, *args, **kwargs)
        if not self.has_add_permission(request):
            raise PermissionDenied
        context = self.admin_site.each_context(request) | {
            "title": "Add alert rule",
            "opts": self.opts,
            "kinds": [(word, AlertKind(word).label, KINDS[word]) for word in AlertKind if word in KINDS],
        }
        return TemplateResponse(request, "calls/alert_kinds.html", context)

    def get_form(self, request: HttpRequest, obj: AlertRule | None = None, **kwargs: Any) -> type[RuleForm]:
        form = super().get_form(request, obj, **kwargs)
        form.kind_word = _kind_word(request, obj)
        return form

    def get_fieldsets(self, request: HttpRequest, obj: AlertRule | None = None) -> list:
        kind = KINDS[_kind_word(request, obj)]
        scope = ["account", *(name for name in ("did", "agent") if name in kind.fields)]
        marks = [name for name in ("clears_at", "window_minutes", "minimum_calls") if name in kind.fields]
        marks = ["opens_at", *marks] if kind.mark else marks
        opens = [("When an alert opens", {"fields": marks})] if marks else []
        return [
            (None, {"fields": ["name", *scope, "is_active"]}),
            *opens,
            ("Who is told", {"fields": ["channels", "quiet_from", "quiet_until", "muted_until"]}),
        ]

    def formfield_for_dbfield(self, db_field: Field, request: HttpRequest, **kwargs: Any) -> forms.Field | None:
        if db_field.name == "channels":
            kwargs["widget"] = UnfoldAdminCheckboxSelectMultipleWidget
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if db_field.name == "account":
            field.empty_label = "Every account"
        if db_field.name in {"account", "agent", "channels"}:
            field.widget = getattr(field.widget, "widget", field.widget)  # without the buttons to add and edit those
        return field

    def save_model(self, request: HttpRequest, obj: AlertRule, form: forms.ModelForm, change: bool) -> None:
        super().save_model(request, obj, form, change)
        accounts = [obj.account] if obj.account else Account.objects.all()
        if (obj.did or obj.agent) and not any(backtest.matches_calls(obj, account) for account in accounts):
            self.message_user(request, NO_CALLS, messages.WARNING)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        form = context["adminform"].form
        accounts = visible(request.user, Account.objects.filter(is_active=True))
        saved = kwargs.get("obj")
        context |= {
            "rule": saved,
            "rule_kind": KINDS[form.kind_word],
            "rule_kind_label": form.kind_word.label,
            "rule_state": state_word(saved) if saved else "",
            "has_alerts": saved is not None and saved.alerts.exists(),
            "may_try": self.has_change_permission(request, saved),
            "accounts_to_try": accounts,
            "tried_account": request.POST.get("try_account", ""),
            "days": backtest.DAYS,
        }
        if TRY in request.POST and not form.errors:
            account = form.instance.account or accounts.filter(pk=_id(request.POST.get("try_account", ""))).first()
            # Worked out when the page is written, which is after the transaction that Django opens for every form.
            context |= (
                {"trial": SimpleLazyObject(lambda: _trial(form.instance, account))}
                if account
                else {"lacks_account": True}
            )
        return super().render_change_form(request, context, **kwargs)

    @admin.action(description="Mute for an hour", permissions=["change"])
    def mute_for_an_hour(self, request: HttpRequest, queryset: QuerySet[AlertRule]) -> None:
        self._mute(request, queryset, 1)

    @admin.action(description="Mute for a day", permissions=["change"])
    def mute_for_a_day(self, request: HttpRequest, queryset: QuerySet[AlertRule]) -> None:
        self._mute(request, queryset, 24)

    @admin.action(description="Unmute", permissions=["change"])
    def unmute(self, request: HttpRequest, queryset: QuerySet[AlertRule]) -> None:
        self._mute(request, queryset, 0)

    def mute(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Mute or unmute one rule, from its page or from that of one of its alerts."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        rule = get_object_or_404(self.get_queryset(request), pk=pk)
        hours = request.POST.get("hours", "")
        if hours in {"0", "1", "24"}:
            self._mute(request, AlertRule.objects.filter(pk=pk), int(hours))
        alert = rule.alerts.filter(pk=_id(request.POST.get("alert", ""))).first()
        return redirect("admin:calls_alert_change", alert.pk) if alert else redirect("admin:calls_alertrule_change", pk)

    def _mute(self, request: HttpRequest, rules: QuerySet[AlertRule], hours: int) -> None:
        until = timezone.now() + timedelta(hours=hours) if hours else None
        muted = list(rules)
        AlertRule.objects.filter(pk__in=[rule.pk for rule in muted]).update(muted_until=until)
        for rule in muted:
            self.log_change(request, rule, f"Muted for {hours} h" if hours else "Unmuted")
        names = ", ".join(str(rule) for rule in muted)
        self.message_user(request, f"Muted for {hours} h: {names}." if hours else f"Not muted any more: {names}.")


NO_CALLS = f"This rule matches no calls of the last {backtest.DAYS} days. Check the DID and the agent."


def state_word(rule: AlertRule) -> str:
    """Return whether a rule is at work, as a coloured word."""
    if not rule.is_active:
        word, label = "unknown", "Off"
    elif rule.is_muted:
        word, label = "busy", "Muted"
    else:
        word, label = "answered", "Active"
    return format_html('<span class="rl-word rl-{}">{}</span>', word, label)


def _trial(rule: AlertRule, account: Account) -> dict[str, Any]:
    """Return what the page says of a rule that was tried out on the past of an account."""
    firings = backtest.would_have_fired(rule, account)
    return {
        "account": account,
        "firings": [(firing, links(as_stored(firing.evidence))) for firing in firings],
        "step_minutes": int(backtest.step_of(rule).total_seconds() // 60),
        "warning": "" if backtest.matches_calls(rule, account) else NO_CALLS,
    }


def _kind_word(request: HttpRequest, rule: AlertRule | None) -> AlertKind:
    return AlertKind(rule.kind if rule else request.GET["kind"])


def _id(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 19 else None
