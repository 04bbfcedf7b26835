"""The one writer of the audit log: who revealed, played, exported or changed what, and who logged in.

Who is a member of staff or, in the API, a program with its key; or whoever may run commands on the server.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from axes.signals import user_locked_out
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db import models
from django.forms import BaseFormSet, BaseModelForm
from django.http import HttpRequest
from rest_framework.request import Request

from calls.masking import masked
from calls.models import ApiKey, AuditEntry
from calls.senders import address_of

LONGEST_VALUE = 200
"""Characters of a value before or after a change that are kept."""
SECRET = re.compile("secret|password|token|target|url|key|otp|nonce|digest", re.IGNORECASE)
"""Names of fields whose values are never written down; a channel's target may hold a password."""


def record(
    request: HttpRequest | Request | None,
    action: AuditEntry.Action,
    target: models.Model | None = None,
    name: str = "",
    **details: object,
) -> AuditEntry:
    """Write down that who sent ``request`` did ``action``, to ``target`` if it was done to one row.

    ``request`` is Django's or, in the API, REST framework's, whose ``auth`` is the key that did it;
    ``None`` when a command did it, which then gives its name as ``command``.
    ``name`` is for people and, like ``details``, which must be JSON, holds no secret; numbers in them are masked.
    """
    user, key = getattr(request, "user", None), getattr(request, "auth", None)
    return AuditEntry.objects.create(
        user=user if user and user.is_authenticated else None,
        api_key=key if isinstance(key, ApiKey) else None,
        action=action,
        target_type=target._meta.label_lower if target else "",
        target_id=str(target.pk) if target else "",
        target_name=masked(name or (str(type(target)._meta.verbose_name) if target else ""))[:200],
        details={key: masked(value) if isinstance(value, str) else value for key, value in details.items()},
        address=address_of(request) if request else None,
    )


def changes_of(form: BaseModelForm, formsets: Iterable[BaseFormSet]) -> dict[str, Any]:
    """Return what a form changed, by the name of the field: before and after, without secrets and full numbers."""
    found = _changes(form)
    for formset in formsets:
        of = str(formset.model._meta.verbose_name)
        for one in formset.forms:
            if one.has_changed():
                found |= {f"{of}: {name}": change for name, change in _changes(one).items()}
    return found


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return what differs between two states of a row, by the name of the field, as ``changes_of`` has it."""
    names = [name for name in before | after if before.get(name) != after.get(name)]
    return {name: [_text(name, before.get(name)), _text(name, after.get(name))] for name in names}


def watch_logins() -> None:
    """Write down log-ins, failures, lock-outs and log-outs from now on."""
    user_logged_in.connect(_logged_in, dispatch_uid="calls.audit")
    user_logged_out.connect(_logged_out, dispatch_uid="calls.audit")
    user_login_failed.connect(_login_failed, dispatch_uid="calls.audit")
    user_locked_out.connect(_locked_out, dispatch_uid="calls.audit")


def _changes(form: BaseModelForm) -> dict[str, list[str]]:
    return {
        name: [_text(name, form.initial.get(name)), _text(name, form.cleaned_data.get(name))]
        for name in form.changed_data
        if name in form.cleaned_data
    }


def _text(name: str, value: object) -> str:
    if SECRET.search(name):
        return "not shown"
    if isinstance(value, Mapping):
        value = [one for one in value.values() if one]
    if isinstance(value, models.QuerySet | list | tuple):
        value = ", ".join(str(one) for one in value)
    return masked("" if value is None else str(value))[:LONGEST_VALUE]


def _logged_in(request: HttpRequest, user: Any, **kwargs: Any) -> None:
    request.user = user
    record(request, AuditEntry.Action.LOGIN, user, user.get_username())


def _logged_out(request: HttpRequest, user: Any, **kwargs: Any) -> None:
    if user:
        record(request, AuditEntry.Action.LOGOUT, user, user.get_username())


def _login_failed(credentials: Mapping[str, Any], request: HttpRequest | None = None, **kwargs: Any) -> None:
    if request is not None and not getattr(request, "axes_locked_out", False):
        record(request, AuditEntry.Action.LOGIN_FAILED, name=_known(credentials.get("username")))


def _locked_out(request: HttpRequest, username: str, **kwargs: Any) -> None:
    record(request, AuditEntry.Action.LOCKED_OUT, name=_known(username))


def _known(username: str | None) -> str:
    """Return the name of a login that exists; of any other it is not kept, as it may be a password in the wrong box."""
    users = get_user_model().objects
    return username if username and users.filter(username=username).exists() else "an unknown user name"
