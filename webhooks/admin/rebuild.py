"""Rebuilds: asked for as a dry run, looked at field by field, applied, and undone."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Field, QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.views.decorators.http import require_POST
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display

from calls.access import visible
from calls.admin.base import BaseAdmin, ReadOnlyAdmin, RelatedFilter
from calls.models import Conversation, ConversationRedirect
from calls.templatetags import words
from webhooks import rebuilding
from webhooks.admin.change import Row, rows_of
from webhooks.models import Rebuild, RebuildChange

State = Rebuild.State
SHOWN = 50
"""Calls of one page of changes, and deliveries at most that are listed as read differently."""
OPEN = 5
"""With no more changed calls than this, their fields are shown at once."""
COLOURS = {
    State.QUEUED: "pending",
    State.RUNNING: "live",
    State.DONE: "processed",
    State.CANCELLED: "ignored",
    State.FAILED: "failed",
}


class RebuildForm(forms.ModelForm):
    """What to derive again; it always begins as a dry run."""

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        since, until = cleaned.get("since"), cleaned.get("until")
        if since and until and since >= until:
            raise ValidationError({"until": "It must be later than the beginning."})
        return cleaned


@admin.register(Rebuild)
class RebuildAdmin(ReadOnlyAdmin):
    """Rebuilds: asked for as a dry run, looked at field by field, applied, and undone."""

    form = RebuildForm
    add_form_template = "webhooks/rebuild_form.html"
    change_form_outer_before_template = "webhooks/rebuild.html"
    list_display = ["name", "scope_name", "requester", "created", "state_word", "progress_text", "changed_text"]
    list_filter = [("state", ChoicesDropdownFilter), ("account", RelatedFilter)]
    list_select_related = ["account", "conversation", "requested_by"]
    sortable_by = ()

    @display(description="rebuild")
    def name(self, rebuild: Rebuild) -> str:
        return str(rebuild)

    @display(description="of")
    def scope_name(self, rebuild: Rebuild) -> str:
        return scope_in_words(rebuild)

    @display(description="asked for by")
    def requester(self, rebuild: Rebuild) -> str:
        return str(rebuild.requested_by or "command line")

    @display(description="asked for")
    def created(self, rebuild: Rebuild) -> str:
        return words.moment(rebuild.created_at)

    @display(description="state")
    def state_word(self, rebuild: Rebuild) -> str:
        return state_word(rebuild)

    @display(description="deliveries read")
    def progress_text(self, rebuild: Rebuild) -> str:
        return progress_in_words(rebuild)

    @display(description="calls changed")
    def changed_text(self, rebuild: Rebuild) -> str:
        return f"{rebuild.calls_changed:,}"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return BaseAdmin.has_add_permission(self, request)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Rebuild]:
        related = ["account", "conversation", "requested_by", "applies", "undoes"]
        return super().get_queryset(request).select_related(*related)

    def get_readonly_fields(self, request: HttpRequest, obj: Rebuild | None = None) -> list[str]:
        return super().get_readonly_fields(request, obj) if obj else []

    def get_fieldsets(self, request: HttpRequest, obj: Rebuild | None = None) -> list:
        # The page of one shows everything by its own template.
        return [] if obj else [(None, {"fields": ["account", "since", "until"]})]

    def formfield_for_dbfield(self, db_field: Field, request: HttpRequest, **kwargs: Any) -> forms.Field | None:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if db_field.name == "account":
            field.empty_label = "All accounts"
            field.widget = field.widget.widget  # without the buttons to add and edit accounts
        return field

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        if object_id is None:  # the form that starts one
            return BaseAdmin.changeform_view(self, request, object_id, *args, **kwargs)
        return super().changeform_view(request, object_id, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Rebuild, form: forms.ModelForm, change: bool) -> None:
        obj.requested_by = request.user
        super().save_model(request, obj, form, change)

    def response_add(self, request: HttpRequest, obj: Rebuild, post_url_continue: str | None = None) -> HttpResponse:
        return redirect("admin:webhooks_rebuild_change", obj.pk)

    def get_urls(self) -> list[URLPattern]:
        def post(route: str, view: Any, name: str) -> URLPattern:
            return path(route, self.admin_site.admin_view(require_POST(view)), name=f"webhooks_rebuild_{name}")

        progress = self.admin_site.admin_view(self.progress)
        return [
            post("of-call/<uuid:pk>/", self.start_of_call, "of_call"),
            post("<int:pk>/apply/", self.apply, "apply"),
            post("<int:pk>/undo/", self.undo, "undo"),
            post("<int:pk>/cancel/", self.cancel, "cancel"),
            path("<int:pk>/progress/", progress, name="webhooks_rebuild_progress"),
            *super().get_urls(),
        ]

    def start_of_call(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Start a dry run of one call, from the button on its page."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        call = get_object_or_404(visible(request.user, Conversation.objects.all()), pk=pk)
        rebuild = Rebuild.objects.create(account=call.account, conversation=call, requested_by=request.user)
        self.log_addition(request, rebuild, f"Started a dry run of {call}")
        return redirect("admin:webhooks_rebuild_change", rebuild.pk)

    def apply(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Do what a dry run said."""
        return self._follow(request, pk, rebuilding.apply, "Applied")

    def undo(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Put back what a rebuild changed."""
        return self._follow(request, pk, rebuilding.undo, "Undone")

    def cancel(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Stop a rebuild after the batch under way."""
        rebuild = self._rebuild(request, pk)
        rebuilding.cancel(rebuild)
        self.log_change(request, rebuild, "Cancelled")
        return redirect("admin:webhooks_rebuild_change", pk)

    def progress(self, request: HttpRequest, pk: int) -> JsonResponse:
        """Return how far a rebuild is, for the script that keeps its page up to date."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        rebuild = get_object_or_404(self.get_queryset(request), pk=pk)
        return JsonResponse(
            {
                "state": rebuild.state,
                "done": rebuild.deliveries_done,
                "total": rebuild.deliveries_total,
                "read": progress_in_words(rebuild),
                "changed": f"{rebuild.calls_changed:,}",
                "is_finished": rebuild.is_finished,
            }
        )

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        rebuild = kwargs.get("obj")
        if rebuild is None:
            return super().render_change_form(request, context, **kwargs)
        after = request.GET.get("after", "")
        is_key = after.isdecimal() and len(after) < 19  # no key is longer, and Python refuses to read what is very long
        page = list(rebuild.changes.filter(pk__gt=int(after) if is_key else 0)[: SHOWN + 1])
        notable = list(rebuild.sources.filter(is_notable=True).select_related("delivery")[: SHOWN + 1])
        may_change = self.has_change_permission(request)
        has_effect = rebuild.calls_changed > 0 or rebuild.sources.filter(problem="").exists()
        context |= {
            "rebuild": rebuild,
            "scope": scope_in_words(rebuild),
            "state_word": state_word(rebuild),
            "progress": progress_in_words(rebuild),
            "changes": _with_urls(page[:SHOWN]),
            "is_open": len(page) <= OPEN,
            "next_after": page[SHOWN - 1].pk if len(page) > SHOWN else None,
            "is_continued": bool(after),
            "notable": notable[:SHOWN],
            "has_more_notable": len(notable) > SHOWN,
            "followers": [*rebuild.applied_by.all(), *rebuild.undone_by.all()],
            "show_save_and_add_another": False,
            "can_cancel": may_change and not rebuild.is_finished,
            "can_apply": may_change and has_effect and rebuilding.can_apply(rebuild),
            "can_undo": may_change and rebuilding.can_undo(rebuild),
        }
        return super().render_change_form(request, context, **kwargs)

    def _rebuild(self, request: HttpRequest, pk: int) -> Rebuild:
        if not self.has_change_permission(request):
            raise PermissionDenied
        return get_object_or_404(self.get_queryset(request), pk=pk)

    def _follow(self, request: HttpRequest, pk: int, do: Any, word: str) -> HttpResponse:
        rebuild = self._rebuild(request, pk)
        try:
            follower = do(rebuild, request.user)
        except rebuilding.NotPossible as problem:
            self.message_user(request, str(problem), messages.ERROR)
            return redirect("admin:webhooks_rebuild_change", pk)
        self.log_change(request, rebuild, f"{word} by {follower}")
        return redirect("admin:webhooks_rebuild_change", follower.pk)


def scope_in_words(rebuild: Rebuild) -> str:
    """Return which calls it is about, as staff would say it."""
    if rebuild.conversation_id:
        call = rebuild.conversation
        return (
            format_html("{} {}", words.phone(call.customer_number), words.moment(call.started_at)) if call else "a call"
        )
    return str(rebuild.account or "All accounts")


def state_word(rebuild: Rebuild) -> str:
    """Return its state as a coloured word."""
    is_stopping = rebuild.cancel_requested_at and not rebuild.is_finished
    label = "Stopping" if is_stopping else rebuild.get_state_display()
    return format_html('<span class="rl-word rl-{}">{}</span>', COLOURS[State(rebuild.state)], label)


def progress_in_words(rebuild: Rebuild) -> str:
    """Return how many deliveries were read, and of how many once that is known."""
    if rebuild.deliveries_total is None:
        return words.EMPTY
    return f"{rebuild.deliveries_done:,} of {rebuild.deliveries_total:,}"


def _with_urls(changes: Sequence[RebuildChange]) -> list[tuple[RebuildChange, str, list[Row]]]:
    """Return each change with the page of its call, empty when there is none, and its rows.

    After a dry run a call that would be new has no page; one that was merged away leads to the other.
    """
    ids = [change.conversation_id for change in changes]
    there = set(Conversation.objects.filter(pk__in=ids).values_list("pk", flat=True))
    there |= set(ConversationRedirect.objects.filter(pk__in=ids).values_list("pk", flat=True))
    pages = {pk: reverse("admin:calls_conversation_change", args=[pk]) for pk in there}
    return [(change, pages.get(change.conversation_id, ""), rows_of(change)) for change in changes]
