"""Subscriptions: what programs are told by webhook, whether it gets through, and the log of what was sent."""

import json
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count, Field, IntegerField, ManyToManyField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.views.decorators.http import require_POST
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminSelect2MultipleWidget,
    UnfoldAdminTextareaWidget,
)

from calls import tasks
from calls.access import may_see_numbers, reach_of, visible
from calls.addresses import AddressRefused, check_outgoing
from calls.admin.api_key import OVERLAPS, OverlapForm
from calls.admin.base import BaseAdmin, ReadOnlyAdmin, RelatedFilter, TimeRangeFilter
from calls.choices import Direction, Disposition, EventType
from calls.models import Agent, Message, Subscription, Tag
from calls.subscriptions import control
from calls.subscriptions.filters import LOOKUPS, faults
from calls.subscriptions.occurrences import OFFERED
from calls.templatetags import words

SHOWN_TYPES = 3
"""How many types the list names; the rest are counted."""
STATES = {
    Subscription.State.ACTIVE: "answered",
    Subscription.State.PAUSED: "busy",
    Subscription.State.DISABLED: "missed",
}
MESSAGE_STATES = {
    Message.State.PENDING: "busy",
    Message.State.DELIVERED: "answered",
    Message.State.FAILED: "missed",
    Message.State.CANCELLED: "unknown",
}


_PAGES = {
    "conversation": ("admin:calls_conversation_change", "call"),
    "alert": ("admin:calls_alert_change", "alert"),
    "delivery": ("admin:webhooks_delivery_change", "delivery"),
}


def _boxes(choices: list[tuple[str, str]], **options: Any) -> forms.MultipleChoiceField:
    return forms.MultipleChoiceField(choices=choices, widget=UnfoldAdminCheckboxSelectMultipleWidget, **options)


class SubscriptionForm(forms.ModelForm):
    """Types as check boxes, and a field for each filter."""

    event_types = _boxes([(one.value, one.label) for one in OFFERED], label="Told of")
    direction = _boxes(Direction.choices, required=False)
    disposition = _boxes(Disposition.choices, required=False)
    did = forms.CharField(
        label="Our numbers",
        required=False,
        widget=UnfoldAdminTextareaWidget({"rows": 2}),
        help_text="One a line, as they stand on the pages of calls but without blanks, such as +918000000000.",
    )
    agent = forms.ModelMultipleChoiceField(
        Agent.objects.none(), label="Agents", required=False, widget=UnfoldAdminSelect2MultipleWidget
    )
    tag = forms.ModelMultipleChoiceField(
        Tag.objects.all(), label="Tags", required=False, to_field_name="name", widget=UnfoldAdminSelect2MultipleWidget
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, values in self.instance.filters.items():
            self.initial[name] = "\n".join(values) if name == "did" else values

    def clean_url(self) -> str:
        try:
            check_outgoing(self.cleaned_data["url"], allowed=settings.ALLOWED_PRIVATE_TARGETS)
        except AddressRefused as error:
            raise forms.ValidationError(str(error)) from error
        return self.cleaned_data["url"]

    def clean(self) -> dict[str, Any]:
        values = super().clean()
        chosen = {
            "direction": values.get("direction"),
            "disposition": values.get("disposition"),
            "did": values.get("did", "").split(),
            "agent": [agent.pk for agent in values.get("agent", ())],
            "tag": [tag.name for tag in values.get("tag", ())],
        }
        self.instance.filters = {name: chosen[name] for name in LOOKUPS if chosen[name]}
        for fault in faults(self.instance.filters):
            self.add_error(fault.field.removeprefix("filters."), fault.message)
        return values


@admin.register(Subscription)
class SubscriptionAdmin(BaseAdmin):
    """Programs that are told of what happens."""

    form = SubscriptionForm
    list_display = ["name", "receiver", "type_text", "account_text", "state_word", "last_success", "waiting_link"]
    list_filter = [("state", ChoicesDropdownFilter)]
    search_fields = ["name"]
    sortable_by = ()
    autocomplete_fields = ["accounts"]
    fieldsets = [
        (None, {"fields": ["name", "url", "event_types", "accounts"]}),
        (
            "Which calls",
            {
                "fields": ["direction", "disposition", "did", "agent", "tag"],
                "description": "Told of calls that have one of the values in every field that is filled in. Alerts, "
                "balances and deliveries are told of in any case.",
            },
        ),
    ]
    change_form_outer_before_template = "calls/subscription.html"
    list_before_template = "calls/subscription_list.html"

    @display(description="receiver")
    def receiver(self, subscription: Subscription) -> str:
        return urlsplit(subscription.url).hostname or words.EMPTY

    @display(description="told of")
    def type_text(self, subscription: Subscription) -> str:
        labels = [EventType(one).label for one in subscription.event_types]
        if len(labels) == len(OFFERED):
            return "everything"
        first = ", ".join(labels[:SHOWN_TYPES])
        more = f" and {len(labels) - SHOWN_TYPES} more" if len(labels) > SHOWN_TYPES else ""
        return format_html('<span class="rl-told" title="{}">{}{}</span>', ", ".join(labels), first, more)

    @display(description="accounts")
    def account_text(self, subscription: Subscription) -> str:
        return ", ".join(str(account) for account in subscription.accounts.all()) or "all"

    @display(description="state")
    def state_word(self, subscription: Subscription) -> str:
        return state_of(subscription)

    @display(description="last delivered")
    def last_success(self, subscription: Subscription) -> str:
        return words.moment(subscription.last_success_at) if subscription.last_success_at else "never"

    @display(description="waiting")
    def waiting_link(self, subscription: Subscription) -> str:
        if not subscription.waiting:
            return words.EMPTY
        return format_html('<a class="rl-link" href="{}">{}</a>', log_of(subscription, "pending"), subscription.waiting)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Subscription]:
        pending = Message.objects.filter(subscription=OuterRef("pk"), state=Message.State.PENDING).order_by()
        count = pending.values("subscription").annotate(count=Count("pk")).values("count")
        waiting = Coalesce(Subquery(count, output_field=IntegerField()), 0)
        found = super().get_queryset(request).select_related("api_key").prefetch_related("accounts")
        return found.annotate(waiting=waiting)

    def get_form(self, request: HttpRequest, obj: Subscription | None = None, **kwargs: Any) -> type[forms.ModelForm]:
        form = super().get_form(request, obj, **kwargs)
        if agent := form.base_fields.get("agent"):
            agent.queryset = visible(request.user, Agent.objects.all())
        return form

    def formfield_for_dbfield(self, db_field: Field, request: HttpRequest, **kwargs: Any) -> forms.Field | None:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if db_field.name == "accounts" and field:
            field.widget = getattr(field.widget, "widget", field.widget)  # without the buttons to add and edit those
        return field

    def formfield_for_manytomany(
        self, db_field: ManyToManyField, request: HttpRequest, **kwargs: Any
    ) -> forms.ModelMultipleChoiceField | None:
        field = super().formfield_for_manytomany(db_field, request, **kwargs)
        field.required = not reach_of(request.user).is_everything  # none at all would stand for every account
        field.help_text = "It is told of what is of these accounts." + ("" if field.required else " None: of all.")
        return field

    # A receiver gets numbers in full.

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may_see_numbers(request.user) and super().has_add_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Subscription | None = None) -> bool:
        return may_see_numbers(request.user) and super().has_change_permission(request, obj)

    def delete_model(self, request: HttpRequest, obj: Subscription) -> None:
        control.remove(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Subscription]) -> None:
        for subscription in queryset:
            control.remove(subscription)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[list, dict[str, int], set, list]:
        """Say what is deleted by its number: the messages of a subscription may be very many."""
        log = Message.objects.filter(subscription__in=[one.pk for one in objs]).count()
        return [str(one) for one in objs], {"subscriptions": len(objs), "messages in their logs": log}, set(), []

    def save_model(self, request: HttpRequest, obj: Subscription, form: forms.ModelForm, change: bool) -> None:
        if not change:
            self._show(request, control.begin(obj))
            return
        super().save_model(request, obj, form, change)
        if "url" in form.changed_data and obj.state == Subscription.State.ACTIVE:
            self._resume(obj)

    def get_urls(self) -> list[URLPattern]:
        def post(name: str, view: Any) -> URLPattern:
            return path(f"<int:pk>/{name}/", self.admin_site.admin_view(require_POST(view)), name=_name(name))

        ways = {"test": self.test, "rotate": self.rotate, "pause": self.pause, "resume": self.resume}
        return [*(post(name, view) for name, view in ways.items()), *super().get_urls()]

    def test(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Send a test message now and show what became of it."""
        subscription = self._subscription(request, pk)
        attempt = control.send_test(subscription)
        if attempt.error:
            self.message_user(request, f"The test message did not get through. {attempt.error}", messages.ERROR)
        else:
            self.message_user(request, f"The test message was delivered: the receiver answered {attempt.status}.")
        self.log_change(request, subscription, "Tested")
        return redirect("admin:calls_message_change", attempt.message_id)

    def rotate(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Sign with a new secret, which is shown; the present one signs along for the hours that were chosen."""
        subscription, form = self._subscription(request, pk), OverlapForm(request.POST)
        if not form.is_valid():
            self.message_user(request, f"Nothing was done. {form.errors.as_text()}", messages.ERROR)
        else:
            hours = form.cleaned_data["hours"]
            self._show(request, control.rotate(subscription, timedelta(hours=hours)))
            self.log_change(request, subscription, f"New secret; the old one signs along {OVERLAPS[hours]}")
        return redirect("admin:calls_subscription_change", pk)

    def pause(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Send it nothing for now."""
        subscription = self._subscription(request, pk)
        control.pause(subscription, f"By {request.user.get_username()}.")
        self.log_change(request, subscription, "Paused")
        self.message_user(request, "It is paused. What happens meanwhile is kept for it.")
        return redirect("admin:calls_subscription_change", pk)

    def resume(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Go on where it was paused or disabled."""
        subscription = self._subscription(request, pk)
        self._resume(subscription)
        self.log_change(request, subscription, "Resumed")
        self.message_user(request, "It goes on. What waits is sent now.")
        return redirect("admin:calls_subscription_change", pk)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        subscription = kwargs.get("obj")
        if subscription:
            context |= {
                "subscription": subscription,
                "subscription_state": state_of(subscription),
                "has_previous": bool(subscription.previous_until and subscription.previous_until > timezone.now()),
                "may_change": self.has_change_permission(request, subscription),
                "overlaps": OVERLAPS.items(),
                "log": log_of(subscription),
                "waiting_log": log_of(subscription, "pending"),
                "failed": subscription.messages.filter(state=Message.State.FAILED)[:100].count(),
                "failed_log": log_of(subscription, "failed"),
            }
        return super().render_change_form(request, context, **kwargs)

    def _subscription(self, request: HttpRequest, pk: int) -> Subscription:
        if not self.has_change_permission(request):
            raise PermissionDenied
        return get_object_or_404(self.get_queryset(request), pk=pk)

    def _resume(self, subscription: Subscription) -> None:
        control.resume(subscription)
        transaction.on_commit(tasks.call_for_messages)

    def _show(self, request: HttpRequest, secret: str) -> None:
        text = f"The receiver checks messages with this secret, shown only this once: {secret}"
        self.message_user(request, text, messages.WARNING)


@admin.register(Message)
class MessageAdmin(ReadOnlyAdmin):
    """What subscriptions were sent, and what their receivers answered."""

    list_display = ["made", "subscription", "type_text", "about_link", "state_word", "attempts_made", "when", "error"]
    list_filter = [
        ("state", ChoicesDropdownFilter),
        ("subscription", RelatedFilter),
        ("type", ChoicesDropdownFilter),
        ("created_at", TimeRangeFilter),
    ]
    list_select_related = ["subscription"]
    list_display_links = ["made"]
    sortable_by = ()
    actions = ["send_again"]
    change_form_outer_before_template = "calls/message.html"

    @display(description="made")
    def made(self, message: Message) -> str:
        return words.moment(message.created_at)

    @display(description="says")
    def type_text(self, message: Message) -> str:
        return message.get_type_display()

    @display(description="about")
    def about_link(self, message: Message) -> str:
        return about_of(message)

    @display(description="state")
    def state_word(self, message: Message) -> str:
        return state_of_message(message)

    @display(description="delivered, or tried next")
    def when(self, message: Message) -> str:
        if message.state == Message.State.PENDING:
            return next_try(message)
        return words.moment(message.delivered_at)

    @display(description="why not", empty_value=words.EMPTY)
    def error(self, message: Message) -> str | None:
        return format_html('<div class="rl-reason">{}</div>', message.last_error) if message.last_error else None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Message]:
        return super().get_queryset(request).defer("body")

    def get_fieldsets(self, request: HttpRequest, obj: Message | None = None) -> list:
        return []  # the page's own template shows everything

    def has_resend_permission(self, request: HttpRequest) -> bool:
        """Return whether the viewer may have messages sent again: asked by the action."""
        return request.user.has_perm("calls.resend_message")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.send_one_again))
        return [path("<int:pk>/send-again/", view, name="calls_message_send_again"), *super().get_urls()]

    def send_one_again(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Have one message sent again, from the button on its page."""
        if not self.has_resend_permission(request):
            raise PermissionDenied
        message = get_object_or_404(self.get_queryset(request), pk=pk)
        self.send_again(request, Message.objects.filter(pk=message.pk))
        return redirect("admin:calls_message_change", pk)

    @admin.action(description="Send again", permissions=["resend"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[Message]) -> None:
        of = Subscription.objects.filter(pk__in=queryset.order_by().values("subscription"))
        count = 0
        for subscription in of:
            chosen = Message.objects.filter(pk__in=queryset.order_by().values("pk"), subscription=subscription)
            if sent := control.resend(chosen):
                self.log_change(request, subscription, f"{sent} message{'s' if sent != 1 else ''} sent again")
            count += sent
        transaction.on_commit(tasks.call_for_messages)
        if count:
            self.message_user(request, f"{count:,} message{'s' if count != 1 else ''} will be sent again.")
        else:
            text = "Nothing was done: they are waiting already, or are tests, which are sent once."
            self.message_user(request, text, messages.WARNING)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        message: Message = kwargs["obj"]
        seen = visible(request.user, Subscription.objects.filter(pk=message.subscription_id)).exists()
        context |= {
            "message": message,
            "message_state": state_of_message(message),
            "message_about": about_of(message) if message.about else "",
            "next_try": next_try(message) if message.state == Message.State.PENDING else "",
            "body": readable(bytes(message.body)),
            "attempts": [
                (attempt, json.dumps(attempt.request_headers, indent=2)) for attempt in message.attempts.all()
            ],
            "has_subscription_page": seen and request.user.has_perm("calls.view_subscription"),
            "may_send_again": self.has_resend_permission(request)
            and message.state != Message.State.PENDING
            and message.type != EventType.TEST,
        }
        return super().render_change_form(request, context, **kwargs)


def state_of(subscription: Subscription) -> str:
    """Return whether a subscription works: a coloured word, and why not."""
    key = subscription.api_key
    if key and (not key.is_active or key.has_expired):
        return format_html(
            '<div><span class="rl-word rl-missed">Ended</span><div class="rl-reason">Its API key “{}” is no longer '
            "good. Make another subscription.</div></div>",
            key,
        )
    is_failing = subscription.state == Subscription.State.ACTIVE and subscription.failing_since
    word, label = (
        ("missed", "Failing") if is_failing else (STATES[subscription.state], subscription.get_state_display())
    )
    state = format_html('<span class="rl-word rl-{}">{}</span>', word, label)
    if is_failing:
        state = format_html("{} since {}", state, words.moment(subscription.failing_since))
    if reason := subscription.last_error if is_failing else subscription.state_reason:
        state = format_html('{}<div class="rl-reason">{}</div>', state, reason)
    return format_html("<div>{}</div>", state)  # one thing: on a phone, those of a cell stand side by side


def state_of_message(message: Message) -> str:
    """Return how far a message got, as a coloured word."""
    colour = MESSAGE_STATES[Message.State(message.state)]
    return format_html('<span class="rl-word rl-{}">{}</span>', colour, message.get_state_display())


def next_try(message: Message) -> str:
    """Return when a message that waits is tried next."""
    if message.next_attempt_at <= timezone.now():
        return "as soon as it is its turn"
    return words.moment(message.next_attempt_at)


def about_of(message: Message) -> str:
    """Return what a message speaks of, with a link where there is a page of it."""
    noun, _, pk = message.about.rpartition(" ")
    if not pk:
        return words.EMPTY
    page, label = _PAGES[noun or "conversation"]
    return format_html(
        '<a class="rl-link" href="{}">{}</a>', reverse(page, args=[pk if noun == "alert" else UUID(pk)]), label
    )


def log_of(subscription: Subscription, state: str = "") -> str:
    """Return the address of the messages of a subscription, or of those in a state."""
    chosen = f"&state__exact={state}" if state else ""
    return f"{reverse('admin:calls_message_changelist')}?subscription__id__exact={subscription.pk}{chosen}"


def readable(body: bytes) -> str:
    """Return the body of a message laid out for reading."""
    return json.dumps(json.loads(body), indent=2, ensure_ascii=False)


def _name(name: str) -> str:
    return f"calls_subscription_{name}"
