from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import ManyToManyField
from django.http import HttpRequest
from unfold.decorators import display
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from calls.access import may_see_numbers, reach_of
from calls.admin.base import BaseAdmin
from calls.choices import Scope
from calls.models import ApiKey
from calls.templatetags import words


class ApiKeyForm(forms.ModelForm):
    """Scopes as check boxes."""

    scopes = forms.MultipleChoiceField(
        choices=[(scope.value, scope.value) for scope in Scope],
        initial=[Scope.READ.value],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="read: see calls and money. stream: follow live calls. export: fetch whole lists. "
        "manage: see deliveries as they came, set up subscriptions.",
    )


@admin.register(ApiKey)
class ApiKeyAdmin(BaseAdmin):
    """Keys of programs: made, limited by scopes, deactivated; shown once."""

    form = ApiKeyForm
    autocomplete_fields = ["accounts"]
    list_display = ["name", "hint_text", "scope_text", "is_active", "created", "last_used"]
    actions = ["deactivate"]

    @display(description="begins with")
    def hint_text(self, key: ApiKey) -> str:
        return f"{key.hint}…"

    @display(description="scopes")
    def scope_text(self, key: ApiKey) -> str:
        return ", ".join(key.scopes)

    @display(description="made", ordering="created_at")
    def created(self, key: ApiKey) -> str:
        return words.moment(key.created_at)

    @display(description="last used", ordering="last_used_at")
    def last_used(self, key: ApiKey) -> str:
        return words.moment(key.last_used_at) if key.last_used_at else "never"

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> list[str]:
        fields = ["name", "scopes", "accounts"]
        return [*fields, "is_active", "hint", "created_at", "last_used_at"] if obj else fields

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> list[str]:
        return ["hint", "created_at", "last_used_at"] if obj else []

    def formfield_for_manytomany(
        self, db_field: ManyToManyField, request: HttpRequest, **kwargs: Any
    ) -> forms.ModelMultipleChoiceField | None:
        field = super().formfield_for_manytomany(db_field, request, **kwargs)
        field.required = not reach_of(request.user).is_everything  # a key without accounts reads what is of all
        return field

    def has_add_permission(self, request: HttpRequest) -> bool:
        # A key reads numbers in full.
        return may_see_numbers(request.user) and super().has_add_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False  # deactivated, it still tells what had access

    def save_model(self, request: HttpRequest, obj: ApiKey, form: forms.ModelForm, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        key, text = ApiKey.issue(obj.name, [Scope(scope) for scope in obj.scopes])
        obj.pk = key.pk
        self.message_user(request, f"The key, shown only this once: {text}", messages.WARNING)

    @admin.action(description="Deactivate", permissions=["change"])
    def deactivate(self, request: HttpRequest, queryset: object) -> None:
        for key in queryset:
            self.log_change(request, key, "Deactivated")
        count = queryset.update(is_active=False)
        self.message_user(request, f"{count} key{'s' if count != 1 else ''} deactivated.")
