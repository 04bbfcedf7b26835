"""The page of one call: its timeline, why it ended as it did, what staff make of it, and who it was with."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import ManyToManyField
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path
from django.utils import timezone
from django.views.decorators.http import require_POST
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from calls import audit, contacts, intake
from calls.access import visible
from calls.admin import origins, recording, timeline
from calls.admin.base import BaseAdmin
from calls.choices import Direction, Flag, State
from calls.models import AuditEntry, CallNote, ContactNumber, Conversation, ConversationRedirect, StaffOutcome
from calls.summary import RULES_VERSION

RULES = {
    Direction.INBOUND: "Of an inbound call the caller’s leg decides, or any agent’s leg that was answered. An agent "
    "who did not pick up never makes it missed: another one may have taken it.",
    Direction.OUTBOUND: "Of an outbound call the customer’s leg decides. The agent, who is rung first, decides only "
    "when no customer was ever rung.",
    Direction.UNKNOWN: "The provider does not say who called whom, so the call is judged as an inbound one: the "
    "caller’s leg decides, or any agent’s leg that was answered.",
}
"""How ``calls.summary.decide`` goes about it, in the words of the page."""
OTHER_CALLS = 5
"""How many calls of the same party a call's page shows."""


class NoteForm(forms.ModelForm):
    """What somebody has to say of a call."""

    class Meta:
        model = CallNote
        fields = ["text"]


class OutcomeForm(forms.ModelForm):
    """What came of a call."""

    class Meta:
        model = StaffOutcome
        fields = ["kind", "text"]


class ConversationPage(BaseAdmin):
    """The page of one call. Staff put tags on it; everything else of the row is derived."""

    fields = ["tags"]
    change_form_outer_before_template = "calls/conversation_head.html"
    change_form_outer_after_template = "calls/conversation.html"

    def formfield_for_manytomany(
        self, db_field: ManyToManyField, request: HttpRequest, **kwargs: Any
    ) -> forms.ModelMultipleChoiceField:
        # Boxes to tick: the theme's box to search in has no label that a screen reader could read.
        kwargs["widget"] = UnfoldAdminCheckboxSelectMultipleWidget()
        field = super().formfield_for_manytomany(db_field, request, **kwargs)
        field.help_text = ""
        return field

    def get_urls(self) -> list[URLPattern]:
        def post(route: str, view: Any, name: str) -> URLPattern:
            return path(
                f"<uuid:pk>/{route}/", self.admin_site.admin_view(require_POST(view)), name=f"calls_conversation_{name}"
            )

        listen = self.admin_site.admin_view(recording.play)
        return [
            post("note", self.add_note, "note"),
            post("note/<int:note>", self.edit_note, "edit_note"),
            post("note/<int:note>/delete", self.delete_note, "delete_note"),
            post("outcome", self.set_outcome, "outcome"),
            path("<uuid:pk>/recording/", listen, name="calls_conversation_recording"),
            *super().get_urls(),
        ]

    def add_note(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Keep what the viewer has to say of the call."""
        call = _call(request, pk, "calls.add_callnote")
        form = NoteForm(request.POST, instance=CallNote(conversation=call, author=request.user))
        return _keep(request, form, call, AuditEntry.Action.ADD)

    def edit_note(self, request: HttpRequest, pk: UUID, note: int) -> HttpResponse:
        """Change a note of the viewer's own."""
        call = _call(request, pk, "calls.add_callnote")
        own = get_object_or_404(call.notes, pk=note, author=request.user)
        own.edited_at = timezone.now()
        return _keep(request, NoteForm(request.POST, instance=own), call, AuditEntry.Action.CHANGE)

    def delete_note(self, request: HttpRequest, pk: UUID, note: int) -> HttpResponse:
        """Take a note of the viewer's own back."""
        call = _call(request, pk, "calls.add_callnote")
        own = get_object_or_404(call.notes, pk=note, author=request.user)
        with intake.editing([pk]):
            audit.record(request, AuditEntry.Action.DELETE, own, f"note on {call}", conversation=str(pk))
            own.delete()
        return _back(pk)

    def set_outcome(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Keep what came of the call, or forget it when nothing is chosen."""
        call = _call(request, pk, "calls.add_staffoutcome")
        former = StaffOutcome.objects.filter(conversation=call).first()
        if not request.POST.get("kind"):
            if former:
                with intake.editing([pk]):
                    audit.record(request, AuditEntry.Action.DELETE, former, f"outcome of {call}", kind=former.kind)
                    former.delete()
            return _back(pk)
        outcome = former or StaffOutcome(conversation=call)
        outcome.set_by, outcome.api_key, outcome.set_at = request.user, None, timezone.now()
        action = AuditEntry.Action.CHANGE if former else AuditEntry.Action.ADD
        return _keep(request, OutcomeForm(request.POST, instance=outcome), call, action)

    def save_model(self, request: HttpRequest, obj: Conversation, form: forms.ModelForm, change: bool) -> None:
        """Leave the row alone: only tags are edited, and saving it could undo what was derived meanwhile."""

    def save_related(self, request: HttpRequest, form: forms.ModelForm, formsets: Any, change: bool) -> None:
        """Keep the tags."""
        with intake.editing([form.instance.pk] if form.has_changed() else []):
            super().save_related(request, form, formsets, change)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, obj: Conversation, **kwargs: Any
    ) -> HttpResponse:
        context |= {"show_save_and_continue": False, "show_save_and_add_another": False, "show_close": True}
        context |= call_context(request, obj)
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


def _call(request: HttpRequest, pk: UUID, permission: str) -> Conversation:
    """Return the call, if the viewer may see it and do what takes ``permission``."""
    if not request.user.has_perms(["calls.view_conversation", permission]):
        raise PermissionDenied
    return get_object_or_404(visible(request.user, Conversation.objects.all()), pk=pk)


def _keep(request: HttpRequest, form: forms.ModelForm, call: Conversation, action: AuditEntry.Action) -> HttpResponse:
    """Save what staff say of a call and write down that they did, or tell what is wrong with it."""
    if form.is_valid():
        with intake.editing([call.pk]):
            row = form.save()
            said = {"conversation": str(call.pk), "changes": audit.changes_of(form, [])}
            audit.record(request, action, row, f"{row._meta.verbose_name} of {call}", **said)
    else:
        messages.error(request, " ".join(text for problems in form.errors.values() for text in problems))
    return _back(call.pk)


def _back(pk: UUID) -> HttpResponse:
    return redirect("admin:calls_conversation_change", pk)


def call_context(request: HttpRequest, call: Conversation) -> dict[str, Any]:
    """Return what the page of a call shows beside its form."""
    legs = list(call.legs.select_related("agent"))
    events = list(call.events.order_by("occurred_at", "id"))
    moments = timeline.moments(legs, events)
    drawing = timeline.draw(legs, events, moments, timezone.now())
    sections = origins.sections(call, legs)
    return {
        "call": call,
        "legs": legs,
        "drawing": drawing,
        "answer_seconds": (call.answered_at - drawing.first).total_seconds() if drawing and call.answered_at else None,
        "moments": moments,
        "origins": sections,
        "verdict": next((row for row in sections[0].rows if row.name == origins.NAMES["disposition"]), None)
        if sections
        else None,
        "rule": RULES[call.direction],
        "rules_version": RULES_VERSION,
        "reported_legs": [leg for leg in legs if leg.has_cdr],
        "unreported_legs": [leg for leg in legs if not leg.has_cdr],
        "is_live": call.state == State.LIVE,
        "flags": [Flag(flag).label if flag in Flag else flag for flag in call.flags],
        "notes": call.notes.select_related("author", "api_key"),
        "may_write": request.user.has_perm("calls.add_callnote"),
        "outcome_set": StaffOutcome.objects.filter(conversation=call).select_related("set_by", "api_key").first(),
        "outcome_kinds": StaffOutcome.Kind.choices,
        "may_set_outcome": request.user.has_perm("calls.add_staffoutcome"),
        **_party_context(request, call),
    }


def _party_context(request: HttpRequest, call: Conversation) -> dict[str, Any]:
    """Return whose number it is, and the last calls of that party."""
    if not call.customer_number:
        return {"other_calls": []}
    known = ContactNumber.objects.filter(number=call.customer_number).select_related("contact").first()
    numbers = contacts.numbers_of(known) if known else [call.customer_number]
    calls = visible(request.user, Conversation.objects.filter(customer_number__in=numbers)).exclude(pk=call.pk)
    return {
        "contact": known.contact if known else None,
        "other_calls": calls.select_related("account", "agent")[:OTHER_CALLS],
    }
