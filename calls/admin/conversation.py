"""Conversations: the list staff live in. The page of one call is in ``calls.admin.conversation_page``."""

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from unfold.contrib.filters.admin import RangeNumericFilter
from unfold.decorators import action, display
from unfold.forms import ActionForm
from unfold.views import ChangeList
from unfold.widgets import UnfoldAdminSelectWidget

from calls import audit, intake
from calls.admin.base import TimeRangeFilter
from calls.admin.conversation_filters import (
    CampaignFilter,
    DestinationFilter,
    DidFilter,
    HourFilter,
    RowsFilter,
    TagsFilter,
    ValuesFilter,
    WeekdayFilter,
)
from calls.admin.conversation_list import COLUMNS, USUAL, ConversationList, columns_of
from calls.admin.conversation_page import ConversationPage
from calls.admin.export import ExportMixin
from calls.admin.missed_filter import MissedByFilter
from calls.admin.party_filter import PartyFilter, StaffOutcomeFilter
from calls.admin.saved_view import SavedViewsMixin
from calls.counting import CAP, counted
from calls.exports import tables
from calls.models import AuditEntry, Conversation, Tag
from calls.numbers import display as display_number
from calls.searching import find, is_refused
from calls.templatetags import words


class TagForm(ActionForm):
    """The bar below the list, with the tag that the action puts on or takes off."""

    tag = forms.ModelChoiceField(
        Tag.objects,
        label="",
        required=False,
        empty_label="Which tag?",
        widget=UnfoldAdminSelectWidget({"aria-label": "Tag", "x-show": "action.endsWith('_tag')"}),
    )


@admin.register(Conversation)
class ConversationAdmin(SavedViewsMixin, ExportMixin, ConversationPage):
    """One line per call, and its page."""

    list_display = [COLUMNS[name] for name in USUAL]
    list_display_links = ["customer"]
    list_select_related = ["account", "agent"]
    list_filter = [
        ("started_at", TimeRangeFilter),
        ("account", ValuesFilter),
        ("agent", RowsFilter),
        ("disposition", ValuesFilter),
        ("direction", ValuesFilter),
        ("state", ValuesFilter),
        DidFilter,
        ("tags", TagsFilter),
        StaffOutcomeFilter,
        PartyFilter,
        DestinationFilter,
        CampaignFilter,
        ("ended_at", TimeRangeFilter),
        HourFilter,
        WeekdayFilter,
        MissedByFilter,
        ("talk_seconds", RangeNumericFilter),
        ("cost", RangeNumericFilter),
    ]
    list_fullwidth = True
    sortable_by = []  # by its start, one way or the other: see KeysetChangeList
    search_fields = ["customer_number"]  # shows the box; get_search_results says what it finds
    search_help_text = "Number, its last digits, or a call’s id"
    action_form = TagForm
    actions = ["add_tag", "remove_tag"]
    export_columns = tables.CONVERSATIONS

    @display(description="customer")
    def customer(self, call: Conversation) -> str:
        number = words.phone(call.customer_number)
        if not call.contact_name:
            return number
        return format_html('{} <small class="rl-muted rl-customer-number">{}</small>', call.contact_name, number)

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
        return format_html('<span class="rl-number">{}</span>', words.did(call.did)) if call.did else words.EMPTY

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

    @display(description="ended")
    def ended(self, call: Conversation) -> str:
        return words.moment(call.ended_at)

    @display(description="duration")
    def duration(self, call: Conversation) -> str:
        return words.clock(call.duration_seconds)

    @display(description="tags")
    def tag_names(self, call: Conversation) -> str:
        return ", ".join(tag.name for tag in call.tags.all()) or words.EMPTY

    @display(description="why")
    def why(self, call: Conversation) -> str:
        return call.get_reason_display()

    def get_urls(self) -> list[URLPattern]:
        count = self.admin_site.admin_view(self.count)
        return [path("count/", count, name="calls_conversation_count"), *super().get_urls()]

    def count(self, request: HttpRequest) -> HttpResponse:
        """Answer with how many calls a list has, where its page did not wait to count them."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            rows = self.get_changelist_instance(request).queryset
        except IncorrectLookupParameters as error:
            return JsonResponse({"problem": str(error)}, status=400)
        return JsonResponse({"size": str(counted(rows))})

    def get_changelist(self, request: HttpRequest, **kwargs: object) -> type[ChangeList]:
        return ConversationList

    def get_list_display(self, request: HttpRequest) -> list[str]:
        return [COLUMNS[name] for name in columns_of(request)]

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
        if is_refused(search_term):
            hint = "You see numbers masked: search by the last four digits, or by the whole number."
            self.message_user(request, hint, messages.WARNING, fail_silently=True)  # an export has no page to say it on
        return find(queryset, search_term), False

    @action(description="Add tag", permissions=["change"])
    def add_tag(self, request: HttpRequest, queryset: QuerySet[Conversation]) -> None:
        self._set_tag(request, queryset, is_added=True)

    @action(description="Remove tag", permissions=["change"])
    def remove_tag(self, request: HttpRequest, queryset: QuerySet[Conversation]) -> None:
        self._set_tag(request, queryset, is_added=False)

    def _set_tag(self, request: HttpRequest, calls: QuerySet[Conversation], *, is_added: bool) -> None:
        """Put the chosen tag on calls or take it off, and say of how many."""
        pk = request.POST.get("tag", "")
        tag = Tag.objects.filter(pk=pk).first() if pk.isdecimal() else None
        if tag is None:
            self.message_user(request, f"Choose the tag to {'add' if is_added else 'remove'}.", messages.WARNING)
            return
        ids = list(calls.order_by().values_list("pk", flat=True)[: CAP + 1])
        if len(ids) > CAP:
            text = f"More than {CAP:,} calls match, and nothing was changed. Narrow the list down, a month at a time."
            self.message_user(request, text, messages.WARNING)
            return
        through = Tag.conversations.through
        tagged = through.objects.filter(tag=tag, conversation__among=ids)
        before = set(tagged.values_list("conversation", flat=True))
        if is_added:
            rows = [through(tag=tag, conversation_id=pk) for pk in ids]
            with intake.editing(set(ids) - before):
                through.objects.bulk_create(rows, batch_size=1000, ignore_conflicts=True)
            rest = f" {len(before):,} of them had it already." if before else ""
            self.message_user(request, f"“{tag}” is now on {_calls(len(ids))}.{rest}")
        else:
            with intake.editing(before):
                removed, _ = tagged.delete()
            rest = f" The other {len(ids) - removed:,} did not have it." if removed < len(ids) else ""
            self.message_user(request, f"“{tag}” is taken off {_calls(removed)}.{rest}")
        did = "put on" if is_added else "taken off"
        audit.record(request, AuditEntry.Action.CHANGE, tag, f"tag “{tag}” {did} {_calls(len(ids))}", calls=len(ids))


def _calls(count: int) -> str:
    return f"{count:,} call{'' if count == 1 else 's'}"
