from django import forms
from django.contrib import admin
from django.http import HttpRequest
from unfold.decorators import display

from calls.access import may_see_numbers
from calls.admin.base import BaseAdmin, RelatedFilter
from calls.admin.export import ExportMixin
from calls.exports import tables
from calls.models import Agent
from calls.numbers import normalize
from calls.templatetags import words


@admin.register(Agent)
class AgentAdmin(ExportMixin, BaseAdmin):
    """Our people; made on first sight of a call, named here."""

    list_display = ["shown_name", "external_text", "extension_text", "phone_text", "account"]
    list_select_related = ["account"]
    list_filter = [("account", RelatedFilter)]
    export_columns = tables.AGENTS
    search_fields = ["name", "external_id", "extension", "phone"]

    @display(description="name")
    def shown_name(self, agent: Agent) -> str:
        return str(agent)

    @display(description="provider’s id")
    def external_text(self, agent: Agent) -> str:
        return words.shown(agent.external_id)

    @display(description="extension")
    def extension_text(self, agent: Agent) -> str:
        return words.shown(agent.extension) or words.EMPTY

    @display(description="phone")
    def phone_text(self, agent: Agent) -> str:
        return words.phone(agent.phone) if agent.phone else words.EMPTY

    def get_fields(self, request: HttpRequest, obj: Agent | None = None) -> list[str]:
        """Show who may not see numbers no more of them than the list does."""
        if obj and not may_see_numbers(request.user):
            return ["account", "external_text", "name", "extension_text", "phone_text"]
        return ["account", "external_id", "name", "extension", "phone"]

    def get_readonly_fields(self, request: HttpRequest, obj: Agent | None = None) -> list[str]:
        # Calls find their agent by the first two.
        return ["account", "external_id", "external_text", "extension_text", "phone_text"] if obj else []

    def has_delete_permission(self, request: HttpRequest, obj: Agent | None = None) -> bool:
        return False  # the next call would only make the agent anew

    def save_model(self, request: HttpRequest, obj: Agent, form: forms.ModelForm, change: bool) -> None:
        obj.phone = normalize(obj.phone, obj.account.phone_region)
        super().save_model(request, obj, form, change)
