"""Keys of programs: made, limited, replaced, revoked; the text of each is shown once."""

from datetime import timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import ManyToManyField, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.html import format_html
from django.views.decorators.http import require_POST
from unfold.decorators import display
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from calls.access import may_see_numbers, reach_of
from calls.admin.base import BaseAdmin
from calls.choices import Scope
from calls.models import ApiKey
from calls.templatetags import words

OVERLAPS = {24: "for a day", 72: "for three days", 168: "for a week", 1: "for an hour", 0: "not at all"}
"""Hours that a key which is replaced may go on."""


class ApiKeyForm(forms.ModelForm):
    """Scopes as check boxes."""

    scopes = forms.MultipleChoiceField(
        choices=[(scope.value, scope.value) for scope in Scope],
        initial=[Scope.READ.value],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="read: see calls and money. stream: follow live calls. export: fetch whole lists. "
        "manage: see deliveries as they came, change calls, set up subscriptions.",
    )

    def clean_expires_at(self) -> Any:
        moment = self.cleaned_data["expires_at"]
        if moment and "expires_at" in self.changed_data and moment <= timezone.now():
            raise forms.ValidationError("This is past. Give a time to come, or revoke the key.")
        return moment


class OverlapForm(forms.Form):
    """How long the key that is replaced goes on."""

    hours = forms.TypedChoiceField(choices=list(OVERLAPS.items()), coerce=int)


@admin.register(ApiKey)
class ApiKeyAdmin(BaseAdmin):
    """Keys of programs."""

    form = ApiKeyForm
    autocomplete_fields = ["accounts"]
    list_display = ["name", "state", "scope_text", "account_text", "rate", "expiry", "last_used"]
    search_fields = ["name", "hint"]
    fields = ["name", "scopes", "accounts", "calls_per_minute", "expires_at"]
    change_form_outer_before_template = "calls/api_key.html"
    actions = ["revoke_all"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiKey]:
        return super().get_queryset(request).prefetch_related("accounts")

    @display(description="state")
    def state(self, key: ApiKey) -> str:
        return state_of(key)

    @display(description="scopes")
    def scope_text(self, key: ApiKey) -> str:
        return ", ".join(key.scopes)

    @display(description="accounts")
    def account_text(self, key: ApiKey) -> str:
        return ", ".join(str(account) for account in key.accounts.all()) or "all"

    @display(description="a minute", ordering="calls_per_minute")
    def rate(self, key: ApiKey) -> str:
        return f"{key.calls_per_minute or settings.API_RATE_PER_MINUTE:,}"

    @display(description="expires", ordering="expires_at")
    def expiry(self, key: ApiKey) -> str:
        return words.moment(key.expires_at) if key.expires_at else "never"

    @display(description="last used", ordering="last_used_at")
    def last_used(self, key: ApiKey) -> str:
        return words.moment(key.last_used_at) if key.last_used_at else "never"

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
        return False  # revoked, it still tells what had access

    def get_urls(self) -> list[URLPattern]:
        def post(name: str, view: Any) -> URLPattern:
            view = self.admin_site.admin_view(require_POST(view))
            return path(f"<int:pk>/{name.replace('_', '-')}/", view, name=f"calls_apikey_{name}")

        ways = {"rotate": self.rotate, "end_former": self.end_former, "revoke": self.revoke}
        return [*(post(name, view) for name, view in ways.items()), *super().get_urls()]

    def save_model(self, request: HttpRequest, obj: ApiKey, form: forms.ModelForm, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        key, text = ApiKey.issue(
            obj.name,
            [Scope(scope) for scope in obj.scopes],
            accounts=form.cleaned_data["accounts"],
            expires_at=obj.expires_at,
            calls_per_minute=obj.calls_per_minute,
        )
        obj.pk = key.pk
        self._show(request, text)

    def rotate(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Give the key a new text, which is shown; the former one goes on for the hours that were chosen."""
        key, form = self._key(request, pk), OverlapForm(request.POST)
        if not self.may_rotate(request, key):
            raise PermissionDenied
        if not form.is_valid():
            self.message_user(request, f"Nothing was done. {form.errors.as_text()}", messages.ERROR)
        else:
            hours = form.cleaned_data["hours"]
            self._show(request, key.rotate(timedelta(hours=hours)))
            self.log_change(request, key, f"Rotated; the former key goes on {OVERLAPS[hours]}")
        return redirect("admin:calls_apikey_change", pk)

    def end_former(self, request: HttpRequest, pk: int) -> HttpResponse:
        """End at once the text that the key had before it was rotated."""
        key = self._key(request, pk)
        ApiKey.objects.filter(pk=pk, former_expires_at__gt=timezone.now()).update(former_expires_at=timezone.now())
        self.log_change(request, key, "The former key was ended")
        self.message_user(request, "The former key has ended.")
        return redirect("admin:calls_apikey_change", pk)

    def revoke(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Let nobody in with the key any more, for good."""
        key = self._key(request, pk)
        self.revoke_all(request, ApiKey.objects.filter(pk=key.pk))
        return redirect("admin:calls_apikey_change", pk)

    @admin.action(description="Revoke", permissions=["change"])
    def revoke_all(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        keys = list(queryset.filter(is_active=True))
        ApiKey.objects.filter(pk__in=[key.pk for key in keys]).update(is_active=False)
        for key in keys:
            self.log_change(request, key, "Revoked")
        self.message_user(request, f"{len(keys)} key{'s' if len(keys) != 1 else ''} revoked.")

    def may_rotate(self, request: HttpRequest, key: ApiKey) -> bool:
        """Return whether the viewer may be shown a text of the key: it opens no more than they may see themselves."""
        if not key.is_active or not self.has_change_permission(request, key) or not may_see_numbers(request.user):
            return False
        reach, accounts = reach_of(request.user), {account.pk for account in key.accounts.all()}
        return reach.is_everything or (bool(accounts) and accounts <= reach.accounts)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        key = kwargs.get("obj")
        if key:
            context |= {
                "key": key,
                "key_state": state_of(key),
                "may_change": self.has_change_permission(request, key),
                "may_rotate": self.may_rotate(request, key),
                "overlaps": OVERLAPS.items(),
            }
        return super().render_change_form(request, context, **kwargs)

    def _key(self, request: HttpRequest, pk: int) -> ApiKey:
        if not self.has_change_permission(request):
            raise PermissionDenied
        return get_object_or_404(self.get_queryset(request), pk=pk)

    def _show(self, request: HttpRequest, text: str) -> None:
        self.message_user(request, f"The key, shown only this once: {text}", messages.WARNING)


def state_of(key: ApiKey) -> str:
    """Return whether a key may be used: a coloured word, and its first characters."""
    if not key.is_active:
        word, label = "missed", "Revoked"
    elif key.has_expired:
        word, label = "unknown", "Expired"
    elif key.has_former:
        word, label = "busy", "Being replaced"
    else:
        word, label = "answered", "Active"
    return format_html('<span class="rl-word rl-{}">{}</span> <code>{}…</code>', word, label, key.hint)
