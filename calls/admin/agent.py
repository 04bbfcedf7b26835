from django import forms
from django.contrib import admin
from django.http import HttpRequest
from unfold.contrib.filters.admin import RelatedDropdownFilter
from unfold.decorators import display

from calls.admin.base import BaseAdmin
from calls.models import Agent
from calls.numbers import normalize
from calls.templatetags import words


@admin.register(Agent)
class AgentAdmin(BaseAdmin):
    """Our people; made on first sight of a call, named here."""

    list_display = ["shown_name", "external_id", "extension", "phone_text", "account"]
    list_select_related = ["account"]
    list_filter = [("account", RelatedDropdownFilter)]
    search_fields = ["name", "external_id", "extension", "phone"]
    fields = ["account", "external_id", "name", "extension", "phone"]

    @display(description="name")
    def shown_name(self, agent: Agent) -> str:
        return str(agent)

    @display(description="phone")
    def phone_text(self, agent: Agent) -> str:
        return words.phone(agent.phone) if agent.phone else words.EMPTY

    def get_readonly_fields(self, request: HttpRequest, obj: Agent | None = None) -> list[str]:
        # Calls find their agent by these.
        return ["account", "external_id"] if obj else []

    def has_delete_permission(self, request: HttpRequest, obj: Agent | None = None) -> bool:
        return False  # the next call would only make the agent anew

    def save_model(self, request: HttpRequest, obj: Agent, form: forms.ModelForm, change: bool) -> None:
        obj.phone = normalize(obj.phone, obj.account.phone_region)
        super().save_model(request, obj, form, change)
