"""Accounts, and on each one's page its webhook URLs: copied, replaced, retired and tried out there."""

import zoneinfo
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.views.decorators.http import require_POST
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldBooleanSwitchWidget,
)

from calls import burn, ledger, runway, worklist
from calls.admin import statement
from calls.admin.base import BaseAdmin
from calls.ids import new_id
from calls.models import Account
from calls.sealing import seal
from calls.templatetags import words
from webhooks import inbox
from webhooks.admin.labels import label_of
from webhooks.models import Delivery, Endpoint
from webhooks.providers import PROVIDERS

ENDPOINTS = 2
"""Webhook URLs of an account that may be valid at once: the old and the new one while the provider is told."""


class AccountForm(forms.ModelForm):
    """The provider is chosen once."""

    provider = forms.ChoiceField(
        choices=[(slug, provider.label) for slug, provider in PROVIDERS.items()],
        widget=UnfoldAdminSelectWidget,
        help_text="Cannot be changed later.",
    )
    api_secret = forms.CharField(
        label="API secret",
        required=False,
        max_length=500,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        help_text="From the provider's portal. It is stored sealed and never shown again. Empty: leave it as it is.",
    )
    forget_secret = forms.BooleanField(
        label="Forget the API secret",
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text="The provider's lists of calls are read no more, and recordings that it names cannot be played.",
    )

    class Meta:
        widgets = {
            "allowed_networks": UnfoldAdminTextareaWidget({"rows": 3}),
            "business_hours": UnfoldAdminTextareaWidget({"rows": 3}),
        }

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        keeps_secret = self.instance.sealed_secret and not cleaned.get("forget_secret")
        if (cleaned.get("api_secret") or keeps_secret) and not cleaned.get("app_id", "").isdecimal():
            self.add_error("app_id", "The provider's API needs an app id that is a number, such as 2222223.")
        return cleaned


@admin.register(Account)
class AccountAdmin(BaseAdmin):
    """Accounts, and on each one's page its webhook URLs: copied, replaced, retired and tried out there."""

    form = AccountForm
    list_display = ["shown_name", "slug", "provider_label", "app_id", "unit", "is_active"]
    search_fields = ["slug", "name", "app_id"]
    change_form_outer_before_template = "webhooks/account.html"
    fieldsets = [
        (None, {"fields": ["slug", "name", "provider", "app_id", "is_active"]}),
        ("How its deliveries are read", {"fields": ["unit", "time_zone", "phone_region", "silence_minutes"]}),
        ("Who may send", {"fields": ["allowed_networks"]}),
        ("When somebody is there", {"fields": ["business_hours", "callback_minutes"]}),
    ]

    @display(description="name")
    def shown_name(self, account: Account) -> str:
        return str(account)

    @display(description="provider")
    def provider_label(self, account: Account) -> str:
        return label_of(account)

    def get_readonly_fields(self, request: HttpRequest, obj: Account | None = None) -> list[str]:
        return ["provider", "provider_label", "pull_state"] if obj else []

    def get_fieldsets(self, request: HttpRequest, obj: Account | None = None) -> list:
        """Show the provider's name, not its slug, once it is chosen."""
        names = {"provider": "provider_label"} if obj else {}
        shown = [
            (title, {"fields": [names.get(name, name) for name in options["fields"]]})
            for title, options in self.fieldsets
        ]
        if obj and PROVIDERS[obj.provider].pull:
            can_change = self.has_change_permission(request, obj)
            secret = ["api_secret", *(["forget_secret"] if obj.sealed_secret else [])] if can_change else []
            shown.append(("What calls cost, by the provider's API", {"fields": ["pull_state", "api_base", *secret]}))
        return shown

    @display(description="state")
    def pull_state(self, account: Account) -> str:
        if not account.sealed_secret:
            return "No API secret is set, so the provider's lists of calls are not read."
        read = "nothing has been read yet"
        if account.pulled_until:
            read = format_html("calls up to {} have been read", words.moment(account.pulled_until))
        text = format_html("An API secret is set; {}.", read)
        if not account.pull_error:
            return text
        return format_html('{} <strong class="rl-flag">The last try failed.</strong> {}', text, account.pull_error)

    def has_delete_permission(self, request: HttpRequest, obj: Account | None = None) -> bool:
        # Django's own page would load every delivery of the account, to say that they protect it.
        return obj is not None and not _is_used(obj) and super().has_delete_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: Account, form: forms.ModelForm, change: bool) -> None:
        if secret := form.cleaned_data.get("api_secret"):
            obj.sealed_secret, obj.pull_error = seal(secret, settings.SECRET_KEY), ""
        elif form.cleaned_data.get("forget_secret"):
            obj.sealed_secret, obj.pull_error = "", ""
        super().save_model(request, obj, form, change)
        if not change:
            Endpoint.issue(obj)
        elif {"business_hours", "callback_minutes", "time_zone"} & set(form.changed_data):
            worklist.renew_promises(obj)

    def response_add(self, request: HttpRequest, obj: Account, post_url_continue: str | None = None) -> HttpResponse:
        if {"_addanother", "_popup"} & request.POST.keys():
            return super().response_add(request, obj, post_url_continue)
        self.message_user(request, f"{obj} is ready. Give its webhook URL to {label_of(obj)}.")
        return redirect("admin:calls_account_change", obj.pk)

    def get_urls(self) -> list[URLPattern]:
        page = self.admin_site.admin_view

        def post(route: str, view: Any, name: str) -> URLPattern:
            return path(route, page(require_POST(view)), name=name)

        return [
            post("<int:pk>/new-url/", self.new_url, "calls_account_new_url"),
            post("<int:pk>/retire-url/<int:endpoint_pk>/", self.retire_url, "calls_account_retire_url"),
            post("<int:pk>/test-delivery/", self.send_test_delivery, "calls_account_test_delivery"),
            path("<int:pk>/statement/", page(statement.page), name="calls_account_statement"),
            path("<int:pk>/statement/csv/", page(statement.export), name="calls_account_statement_csv"),
            *super().get_urls(),
        ]

    def new_url(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Make a second webhook URL, valid beside the first."""
        account = self._account(request, pk)
        if _valid(account).count() >= ENDPOINTS:
            self.message_user(request, "Two URLs are valid already. Retire one first.", messages.ERROR)
        else:
            Endpoint.issue(account)
            text = "Here is a new URL. Give it to the provider; when deliveries come by it, retire the old one."
            self.message_user(request, text)
        return redirect("admin:calls_account_change", pk)

    def retire_url(self, request: HttpRequest, pk: int, endpoint_pk: int) -> HttpResponse:
        """Let a webhook URL answer 404 from now on."""
        account = self._account(request, pk)
        endpoint = get_object_or_404(_valid(account), pk=endpoint_pk)
        endpoint.retired_at = timezone.now()
        endpoint.save(update_fields=["retired_at"])
        self.message_user(request, "The URL is retired: it answers 404 from now on.", messages.WARNING)
        return redirect("admin:calls_account_change", pk)

    def send_test_delivery(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Put a delivery such as the provider sends in the inbox, by the way that real ones take."""
        account = self._account(request, pk)
        token = next((endpoint.token for endpoint in _valid(account) if endpoint.token), None)
        if token is None:
            self.message_user(request, "There is no URL whose token is known here. Make a new one.", messages.ERROR)
            return redirect("admin:calls_account_change", pk)
        body = inbox.Body()
        body.feed(sample_body(account))
        test = inbox.Request(
            method="POST",
            path=f"/webhooks/{account.provider}/{token}/",
            query=b"",
            content_type="application/json",
            peer=request.META.get("REMOTE_ADDR", ""),
            forwarded_for=request.headers.get("X-Forwarded-For", ""),
            body=body,
        )
        answer = inbox.accept(test)
        if answer.status == HTTPStatus.OK:
            url = reverse("admin:webhooks_delivery_change", args=[answer.content["delivery"]])
            text = format_html('The test delivery is in the inbox. <a href="{}" class="rl-link">Open it</a>', url)
            self.message_user(request, text, messages.SUCCESS)
        elif answer.status == HTTPStatus.NOT_FOUND:
            text = "Refused (404): the account is not active, or your own address is not among its allowed networks."
            self.message_user(request, text, messages.WARNING)
        else:
            self.message_user(request, f"Not kept: the inbox answered {answer.status}.", messages.ERROR)
        return redirect("admin:calls_account_change", pk)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        if account := kwargs.get("obj"):
            context |= {
                "account": account,
                "urls": [(endpoint, _url(endpoint)) for endpoint in _valid(account)],
                "can_add_url": _valid(account).count() < ENDPOINTS,
                "retired_count": account.endpoints.count() - _valid(account).count(),
                "is_used": _is_used(account),
                "can_change_account": self.has_change_permission(request),
                "newest": Delivery.objects.filter(account=account)
                .exclude(method=Delivery.PULL)
                .only("received_at")
                .first(),
            }
            if request.user.has_perm("calls.view_balancereading") and (reading := ledger.current(account)):
                now = timezone.now()
                context |= {"balance": reading.balance, "runway": runway.words(burn.runway_of(account, now), now)}
        return super().render_change_form(request, context, **kwargs)

    def _account(self, request: HttpRequest, pk: int) -> Account:
        if not self.has_change_permission(request):
            raise PermissionDenied
        return get_object_or_404(self.get_queryset(request), pk=pk)


def _is_used(account: Account) -> bool:
    """Return whether anything came in for the account or was made for it, beside its URLs."""
    came_in = Delivery.objects.filter(account=account)
    return came_in.exists() or account.conversations.exists() or account.agents.exists()


def _valid(account: Account) -> QuerySet[Endpoint]:
    return Endpoint.objects.filter(account=account, retired_at=None)


def _url(endpoint: Endpoint) -> str | None:
    token = endpoint.token
    return f"{settings.PUBLIC_URL.rstrip('/')}/webhooks/{endpoint.account.provider}/{token}/" if token else None


def sample_body(account: Account) -> bytes:
    """Return a final report as the account's provider sends it: a call that was answered just now, free of charge.

    It states no balance, so that trying out a webhook URL leaves the account's money alone.
    """
    ended = timezone.now().replace(microsecond=0)
    times = {"started": ended - timedelta(seconds=18), "answered": ended - timedelta(seconds=13), "ended": ended}
    zone = zoneinfo.ZoneInfo(account.time_zone)
    context: dict[str, Any] = {"id": new_id(), "app_id": account.app_id}
    for name, time in times.items():
        context[name] = str(int(time.timestamp()))
        context[f"{name}_ms"] = f"{int(time.timestamp())}000"
        context[f"{name}_local"] = time.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")
    return render_to_string(f"webhooks/samples/{account.provider}.json", context).encode()
