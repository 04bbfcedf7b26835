"""The roles of staff as Django groups, made after every migration.

A role is given what it lacks; nothing is ever taken from it, so what an administrator added stays. To have less than a
role, make a group of one's own.
"""

from collections.abc import Iterable
from typing import Any

from django.apps import AppConfig, apps
from django.contrib.auth.models import Group, Permission
from django.db import DEFAULT_DB_ALIAS


def _all(words: str, *models: str) -> set[str]:
    """Return permissions such as ``calls.view_tag`` for each of the words and models."""
    return {f"{model.partition('.')[0]}.{word}_{model.partition('.')[2]}" for word in words.split() for model in models}


_CALLS = _all(
    "view",
    *("calls.conversation", "calls.leg", "calls.event", "calls.tag", "calls.agent"),
    *("calls.callnote", "calls.staffoutcome"),
    *("calls.contact", "calls.contactnumber", "calls.missedcaller", "calls.savedview"),
)
_CALL_WORK = (
    {"calls.work_missed"}
    | _all("change", "calls.conversation", "calls.contact")
    | _all("add", "calls.callnote", "calls.staffoutcome", "calls.contact")
    | _all("add change delete", "calls.savedview")
)
_MONEY = _all("view", "calls.account", "calls.balancereading")
_ALERTS = _all("view", "calls.alert", "calls.alertrule", "calls.alertcomment", "calls.notice", "calls.channel")
_SUBSCRIPTIONS = (
    {"calls.resend_message"} | _all("view add change delete", "calls.subscription") | _all("view", "calls.message")
)

ROLES: dict[str, set[str]] = {
    "viewer": {"calls.see_account_calls"} | _CALLS,
    "agent": {"calls.see_own_calls", "calls.reveal_numbers", "calls.play_recordings"} | _CALLS | _CALL_WORK,
    "supervisor": {
        "calls.see_team_calls",
        "calls.reveal_numbers",
        "calls.play_recordings",
        "calls.export_calls",
        "calls.assign_missed",
        "calls.share_savedview",
        "calls.view_team",
    }
    | _CALLS
    | _CALL_WORK
    | _all("change", "calls.agent"),
    "manager": {
        "calls.see_account_calls",
        "calls.see_numbers",
        "calls.play_recordings",
        "calls.export_calls",
        "calls.assign_missed",
        "calls.share_savedview",
        "webhooks.view_delivery",
    }
    | _CALLS
    | _CALL_WORK
    | _MONEY
    | _ALERTS
    | _SUBSCRIPTIONS
    | _all("change", "calls.agent", "calls.alert")
    | _all("add change delete", "calls.alertrule"),
    "auditor": {"calls.see_all_calls", "calls.reveal_numbers", "calls.play_recordings"},
}
"""What each role may do. The auditor may also look at everything."""
# Who gives a role must hold all of it: see calls.admin.people.
ROLES["administrator"] = {"calls.see_all_exports"}.union(*ROLES.values())
"""May also change everything, but for what nobody changes."""

APPS = ("calls", "webhooks", "auth")
"""Whose tables the auditor looks at and the administrator works with."""
UNTOUCHABLE = {"calls.auditentry", "calls.staffsession"}
"""What nobody adds to, changes or deletes by hand."""
LOCKS = {
    "auditor": {"axes.view_accessattempt"},
    "administrator": {"axes.view_accessattempt", "axes.delete_accessattempt"},
}
"""Whose log-in is locked after too many failures; to delete such a row is to unlock it."""


def make_roles(app_config: AppConfig, using: str, **kwargs: Any) -> None:
    """Make the groups of the roles; Django sends this for every app, and the last one has all permissions made."""
    if app_config is not list(apps.get_app_configs())[-1] or using != DEFAULT_DB_ALIAS:
        return
    named = {
        f"{permission.content_type.app_label}.{permission.codename}": permission
        for permission in Permission.objects.select_related("content_type")
    }
    for role, names in ROLES.items():
        group, _ = Group.objects.get_or_create(name=role)
        wanted = names | LOCKS.get(role, set()) | set(_of_whole_apps(role, named))
        group.permissions.add(*(named[name] for name in wanted if name in named))


def _of_whole_apps(role: str, names: Iterable[str]) -> Iterable[str]:
    for name in names:
        app, _, codename = name.partition(".")
        word, _, model = codename.partition("_")
        if app not in APPS or word not in {"add", "change", "delete", "view"}:
            continue
        may_change = role == "administrator" and f"{app}.{model}" not in UNTOUCHABLE
        if may_change or (word == "view" and role in {"auditor", "administrator"}):
            yield name
