"""Conversations: the list staff live in, and the page of one call."""

import re
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.html import format_html
from unfold.contrib.filters.admin import (
    AutocompleteSelectFilter,
    ChoicesDropdownFilter,
    RangeNumericFilter,
    RelatedDropdownFilter,
    TextFilter,
)
from unfold.decorators import action, display
from unfold.forms import ActionForm
from unfold.widgets import UnfoldAdminSelectWidget

from calls.admin import origins, timeline
from calls.admin.base import BaseAdmin, TimeRangeFilter
from calls.choices import Flag, State
from calls.models import Conversation, ConversationAlias, ConversationRedirect, Leg, Tag
from calls.numbers import display as display_number
from calls.numbers import search_digits
from calls.templatetags import words

OTHER_CALLS = 5
"""How many calls of the same number a call's page shows."""

LETTER = re.compile(r"[^\W\d_]")
UUID_TEXT = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class DidFilter(TextFilter):
    """The number of ours that was called or shown, in any spelling or in part."""

    title = "DID"
    parameter_name = "did"

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        digits = search_digits(self.value() or "")
        return queryset.filter(did__contains=digits) if digits else queryset


class AgentFilter(AutocompleteSelectFilter):
    """An agent; or no agent at all, by an address with agent__isnull, which the theme's own filter lets pass."""

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if self.lookup_val_isnull == "True":
            return queryset.filter(agent=None)
        return super().queryset(request, queryset)


class DestinationFilter(TextFilter):
    """The head of the customer's number, such as +9190; “none” for numbers that are not in full."""

    title = "number’s head"
    parameter_name = "destination"

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        text = (self.value() or "").strip()
        if text == "none":
            return queryset.exclude(customer_number__startswith="+")
        digits = search_digits(text)
        return queryset.filter(customer_number__startswith=f"+{digits}") if digits else queryset


class TagForm(ActionForm):
    """The bar below the list, with the tag that the action puts on."""

    tag = forms.ModelChoiceField(
        Tag.objects,
        label="",
        required=False,
        empty_label="Which tag?",
        widget=UnfoldAdminSelectWidget({"aria-label": "Tag", "x-show": "action === 'add_tag'"}),
    )


@admin.register(Conversation)
class ConversationAdmin(BaseAdmin):
    """One line per call, and its page. Staff put tags on it; everything else is derived."""

    list_display = [
        "customer", "direction_word", "outcome_word", "agent_name", "did_number", "account_name", "started",
        "ring", "talk", "cost_text",
    ]  # fmt: skip
    list_display_links = ["customer"]
    list_select_related = ["account", "agent"]
    list_filter = [
        ("started_at", TimeRangeFilter),
        ("ended_at", TimeRangeFilter),
        ("state", ChoicesDropdownFilter),
        ("disposition", ChoicesDropdownFilter),
        ("direction", ChoicesDropdownFilter),
        ("account", RelatedDropdownFilter),
        ("agent", AgentFilter),
        DidFilter,
        DestinationFilter,
        ("talk_seconds", RangeNumericFilter),
        ("cost", RangeNumericFilter),
        ("tags", RelatedDropdownFilter),
    ]
    list_fullwidth = True
    list_disable_select_all = True
    sortable_by = ["started"]
    search_fields = ["customer_number"]  # shows the box; get_search_results says what it finds
    search_help_text = "Number or part of it, or a provider’s call id"
    action_form = TagForm
    actions = ["add_tag"]
    fields = ["tags"]
    autocomplete_fields = ["tags"]
    change_form_outer_before_template = "calls/conversation_head.html"
    change_form_outer_after_template = "calls/conversation.html"

    @display(description="customer")
    def customer(self, call: Conversation) -> str:
        return words.phone(call.customer_number)

    @display(description="direction")
    def direction_word(self, call: Conversation) -> str:
        return words.arrow(call.direction)

    @display(description="disposition")
    def outcome_word(self, call: Conversation) -> str:
        return words.outcome(call)

    @display(description="agent")
    def agent_name(self, call: Conversation) -> str:
        return display_number(str(call.agent)) if call.agent else words.EMPTY  # one without a name is a number

    @display(description="DID")
    def did_number(self, call: Conversation) -> str:
        return format_html('<span class="rl-number">{}</span>', words.phone(call.did)) if call.did else words.EMPTY

    @display(description="account")
    def account_name(self, call: Conversation) -> str:
        return str(call.account)

    @display(description="started", ordering="started_at")
    def started(self, call: Conversation) -> str:
        return words.moment(call.started_at)

    @display(description="ring")
    def ring(self, call: Conversation) -> str:
        return words.clock(call.ring_seconds)

    @display(description="talk")
    def talk(self, call: Conversation) -> str:
        return words.clock(call.talk_seconds)

    @display(description="cost")
    def cost_text(self, call: Conversation) -> str:
        return words.money(call.cost, call.cost_unit)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Conversation | None = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Conversation]:
        return super().get_queryset(request).select_related("account", "agent")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Conversation], search_term: str
    ) -> tuple[QuerySet[Conversation], bool]:
        """Find a number in any spelling or in part, and whole ids; neither can name a call twice."""
        return find(queryset, search_term), False

    @action(description="Add tag", permissions=["change"])
    def add_tag(self, request: HttpRequest, queryset: QuerySet[Conversation]) -> None:
        tag = Tag.objects.filter(pk=request.POST.get("tag") or None).first()
        if tag is None:
            self.message_user(request, "Choose the tag to add.", messages.WARNING)
            return
        calls = list(queryset)
        tag.conversations.add(*calls)
        self.message_user(request, f"“{tag}” is now on {len(calls)} call{'s' if len(calls) != 1 else ''}.")

    def save_model(self, request: HttpRequest, obj: Conversation, form: forms.ModelForm, change: bool) -> None:
        """Leave the row alone: only tags are edited, and saving it could undo what was derived meanwhile."""

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        response = super().change_view(request, object_id, *args, **kwargs)
        # The recording plays from where the provider keeps it, and from nowhere else.
        if address := (getattr(response, "context_data", None) or {}).get("recording_url"):
            parts = urlsplit(address)
            response._csp_replace = {"media-src": [f"{parts.scheme}://{parts.netloc}"]}
        return response

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, obj: Conversation, **kwargs: Any
    ) -> HttpResponse:
        context |= {"show_save_and_continue": False, "show_save_and_add_another": False, "show_close": True}
        context |= call_context(obj)
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> HttpResponse:
        """Lead from a call that turned out to be part of another one to that one."""
        try:
            merged = ConversationRedirect.objects.filter(pk=object_id).first()
        except ValidationError:
            merged = None
        if merged:
            return redirect("admin:calls_conversation_change", merged.conversation_id)
        return super()._get_obj_does_not_exist_redirect(request, opts, object_id)


def find(calls: QuerySet[Conversation], query: str) -> QuerySet[Conversation]:
    """Return the calls whose customer's number or DID holds what ``query`` spells, or that have it as an id.

    A number may be typed in part, with or without country code, leading zeros and blanks.
    """
    text = query.strip()
    if not text:
        return calls
    wanted = Q(external_id=text) | Q(request_id=text)
    wanted |= Q(pk__in=Leg.objects.filter(external_id=text).values("conversation"))
    wanted |= Q(pk__in=ConversationAlias.objects.filter(value=text).values("conversation"))
    if UUID_TEXT.fullmatch(text):
        wanted |= Q(pk=text)
    if digits := "" if LETTER.search(text) else search_digits(text):
        wanted |= Q(customer_number__contains=digits) | Q(did__contains=digits)
    return calls.filter(wanted)


def call_context(call: Conversation) -> dict[str, Any]:
    """Return what the page of a call shows beside its form."""
    legs = list(call.legs.select_related("agent"))
    events = list(call.events.order_by("occurred_at", "id"))
    same_number = Conversation.objects.filter(customer_number=call.customer_number).exclude(pk=call.pk)
    return {
        "call": call,
        "legs": legs,
        "lanes": timeline.lanes(legs, events, timezone.now()),
        "moments": timeline.moments(legs, events),
        "origins": origins.sections(call, legs),
        "reported_legs": [leg for leg in legs if leg.has_cdr],
        "unreported_legs": [leg for leg in legs if not leg.has_cdr],
        "is_live": call.state == State.LIVE,
        "flags": [Flag(flag).label if flag in Flag else flag for flag in call.flags],
        "recording_url": words.web_address(call.recording),
        "other_calls": same_number.select_related("account", "agent")[:OTHER_CALLS] if call.customer_number else [],
    }
