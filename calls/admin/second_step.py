"""The code from an app that is asked for after the password: the page that asks, and the one that sets it up."""

import math
from typing import Any

import segno
from django import forms
from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django_otp import login as note_device
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice
from unfold.widgets import BASE_INPUT_CLASSES

from calls import audit
from calls.models import AuditEntry

BACKUP_CODES = 8
WRONG = "That code is not right, or was used before. Wait for the next one in the app and type it."
TOO_SOON = "Too many wrong codes. Wait {} seconds, then type the one that the app shows."


class CodeForm(forms.Form):
    """Six digits from the app, or a backup code."""

    code = forms.CharField(
        label="Code",
        max_length=16,
        widget=forms.TextInput(
            {
                "autocomplete": "one-time-code",
                "autofocus": "",
                "autocapitalize": "none",
                "class": " ".join(BASE_INPUT_CLASSES),
            }
        ),
    )

    def clean_code(self) -> str:
        return self.cleaned_data["code"].replace(" ", "").replace("-", "").lower()


@never_cache
def ask(request: HttpRequest) -> HttpResponse:
    """Ask for the code; with the right one, go on to the page that was asked for."""
    if not request.user.is_authenticated:
        return redirect("admin:login")
    form = CodeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        device, problem = _device_of(request.user, form.cleaned_data["code"])
        if device:
            note_device(request, device)
            return redirect(_next(request))
        form.add_error("code", problem)
        audit.record(request, AuditEntry.Action.LOGIN_FAILED, request.user, request.user.get_username(), step="code")
    return render(request, "admin/second_step.html", _context(request, form, "Your code"))


@never_cache
def set_up(request: HttpRequest) -> HttpResponse:
    """Show the secret for the app to scan; with a code that it makes of it, keep it and show the backup codes."""
    if not (request.user.is_authenticated and request.user.is_staff):
        return redirect("admin:login")
    has_device = TOTPDevice.objects.filter(user=request.user, confirmed=True).exists()
    if has_device and not request.user.is_verified():
        return redirect("second_step")
    form = CodeForm(request.POST or None)
    if request.method != "POST":
        TOTPDevice.objects.filter(user=request.user, confirmed=False).delete()
    device = TOTPDevice.objects.filter(user=request.user, confirmed=False).first()
    device = device or TOTPDevice.objects.create(user=request.user, name="app", confirmed=False)
    if request.method == "POST" and form.is_valid():
        if _verified(device, form.cleaned_data["code"]):
            codes = _confirm(request, device)
            context = _context(request, form, "Your backup codes") | {"codes": codes, "next": _next(request)}
            return render(request, "admin/second_step_codes.html", context)
        form.add_error("code", _problem(device))
    context = _context(request, form, "Set up a code from an app") | {
        "drawing": segno.make(device.config_url, error="m").svg_data_uri(scale=5, border=4, light="#fff"),
        "secret": _in_groups(device.config_url),
        "replaces": has_device,
    }
    return render(request, "admin/second_step_set_up.html", context)


def forget_devices(request: HttpRequest, user: Any) -> None:
    """Have ``user``, who lost the phone, log in with the password alone until the app is set up again."""
    for model in (TOTPDevice, StaticDevice):
        model.objects.filter(user=user).delete()
    audit.record(request, AuditEntry.Action.CHANGE, user, user.get_username(), app="forgotten")


def _device_of(user: Any, code: str) -> tuple[TOTPDevice | StaticDevice | None, str]:
    """Return the device that the code is of, else what is wrong. Backup codes are longer than those of the app."""
    model = TOTPDevice if code.isdecimal() else StaticDevice
    with transaction.atomic():
        device = model.objects.select_for_update().filter(user=user, confirmed=True).first()
        if device is None:
            return None, WRONG
        return (device, "") if device.verify_token(code) else (None, _problem(device))


def _verified(device: TOTPDevice, code: str) -> bool:
    with transaction.atomic():
        return TOTPDevice.objects.select_for_update().get(pk=device.pk).verify_token(code)


def _problem(device: TOTPDevice | StaticDevice) -> str:
    device.refresh_from_db()
    _, details = device.verify_is_allowed()
    seconds = math.ceil((details["locked_until"] - timezone.now()).total_seconds()) if details else 0
    return TOO_SOON.format(seconds) if seconds > 1 else WRONG


def _confirm(request: HttpRequest, device: TOTPDevice) -> list[str]:
    """Let the device be the only one of its owner and return new backup codes, of which no other copy is shown."""
    with transaction.atomic():
        TOTPDevice.objects.filter(user=request.user).exclude(pk=device.pk).delete()
        StaticDevice.objects.filter(user=request.user).delete()
        TOTPDevice.objects.filter(pk=device.pk).update(confirmed=True)
        device.refresh_from_db()
        backup = StaticDevice.objects.create(user=request.user, name="backup codes")
        codes = [f"{StaticToken.random_token()}{StaticToken.random_token()[:4]}" for _ in range(BACKUP_CODES)]
        StaticToken.objects.bulk_create(StaticToken(device=backup, token=code) for code in codes)
        audit.record(request, AuditEntry.Action.CHANGE, request.user, request.user.get_username(), app="set up")
    note_device(request, device)
    return [f"{code[:4]}-{code[4:8]}-{code[8:]}" for code in codes]


def _in_groups(config_url: str) -> str:
    """Return the secret as it is typed into an app without a camera, in groups of four."""
    secret = config_url.partition("secret=")[2].partition("&")[0]
    return " ".join(secret[start : start + 4] for start in range(0, len(secret), 4))


def _next(request: HttpRequest) -> str:
    wanted = request.POST.get("next") or request.GET.get("next", "")
    is_ours = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return wanted if is_ours else reverse("admin:index")


def _context(request: HttpRequest, form: CodeForm, title: str) -> dict[str, Any]:
    return admin.site.each_context(request) | {"title": title, "form": form, "next": _next(request)}
