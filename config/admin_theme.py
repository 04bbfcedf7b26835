"""How the admin looks: settings of the Unfold theme, and what stands in its sidebar."""

from collections.abc import Callable

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy
from django.utils import timezone


def _file(path: str) -> Callable[[HttpRequest], str]:
    return lambda request: static(path)


def _may(permission: str) -> Callable[[HttpRequest], bool]:
    return lambda request: request.user.has_perm(permission)


def _may_see_inbox(request: HttpRequest) -> bool:
    return request.user.has_perms(["webhooks.view_delivery", "calls.see_all_calls"])  # its figures are of all accounts


def _item(title: str, icon: str, model: str) -> dict[str, object]:
    """Return the entry of a model's list, for those who may see it."""
    app, _, name = model.partition(".")
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{app}_{name}_changelist"),
        "permission": _may(f"{app}.view_{name}"),
    }


_DELIVERIES = reverse_lazy("admin:webhooks_delivery_changelist")
_INBOX = reverse_lazy("admin:webhooks_inbox")

UNFOLD = {
    "SITE_TITLE": "Ringledger",
    "SITE_HEADER": "Ringledger",
    # Every time on every page is in this zone: the browser's own once static/js/zone.js has told it.
    "SITE_SUBHEADER": lambda request: f"Times in {timezone.get_current_timezone_name()}",
    "SITE_ICON": _file("img/mark.svg"),
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": _file("img/mark.svg")}],
    "SITE_URL": None,  # there is no other site to return to
    "SHOW_VIEW_ON_SITE": False,
    "BORDER_RADIUS": "8px",
    "STYLES": [_file("css/ringledger.css")],
    "SCRIPTS": [_file("js/zone.js"), _file("js/buttons.js"), _file("js/labels.js"), _file("js/reveal.js")],
    "DASHBOARD_CALLBACK": "calls.admin.overview.add_overview",
    "COLORS": {
        "primary": {
            "50": "oklch(98.4% .014 180.72)",
            "100": "oklch(95.3% .051 180.801)",
            "200": "oklch(91% .096 180.426)",
            "300": "oklch(85.5% .138 181.071)",
            "400": "oklch(77.7% .152 181.912)",
            "500": "oklch(70.4% .14 182.503)",
            "600": "oklch(51.1% .096 186.391)",
            "700": "oklch(43.7% .078 188.216)",
            "800": "oklch(38.6% .063 188.416)",
            "900": "oklch(33% .055 188.9)",
            "950": "oklch(27.7% .046 192.524)",
        }
    },
    "LOGIN": {"form": "config.login.LoginForm"},
    "ACCOUNT": {
        "navigation": [{"title": "Code from an app", "link": reverse_lazy("second_step_set_up")}],
    },
    "COMMAND": {"search_callback": "calls.admin.quick_search.find_calls"},
    "SIDEBAR": {
        "command_search": True,
        "navigation": [
            {
                "items": [
                    {"title": "Overview", "icon": "space_dashboard", "link": reverse_lazy("admin:index")},
                ]
            },
            {
                "title": "Calls",
                "items": [
                    _item("Live board", "sensors", "calls.conversation") | {"link": reverse_lazy("live")},
                    _item("Missed callers", "phone_missed", "calls.missedcaller")
                    | {"badge": "calls.admin.worklist.waiting", "badge_variant": "primary"},
                    _item("Conversations", "call", "calls.conversation"),
                    _item("Agents report", "groups", "calls.agent") | {"link": reverse_lazy("agents")},
                    _item("Contacts", "contacts", "calls.contact"),
                    _item("Exports", "download", "calls.export") | {"permission": _may("calls.export_calls")},
                    _item("Recordings", "graphic_eq", "calls.recording"),
                ],
            },
            {
                "title": "Inbox",
                "items": [
                    _item("At a glance", "monitoring", "webhooks.delivery")
                    | {"link": _INBOX, "permission": _may_see_inbox, "active": lambda request: request.path == _INBOX},
                    _item("Deliveries", "inbox", "webhooks.delivery")
                    | {"active": lambda request: request.path.startswith(str(_DELIVERIES)) and request.path != _INBOX},
                    _item("Rebuilds", "published_with_changes", "webhooks.rebuild"),
                ],
            },
            {
                "title": "Money",
                "items": [
                    _item("Balance readings", "account_balance_wallet", "calls.balancereading"),
                ],
            },
            {
                "title": "Alerts",
                "items": [
                    _item("Alerts", "notifications", "calls.alert"),
                    _item("Rules", "rule", "calls.alertrule"),
                    _item("Channels", "send", "calls.channel"),
                    _item("Notices", "outbox", "calls.notice"),
                ],
            },
            {
                "title": "Set-up",
                "items": [
                    _item("Accounts", "hub", "calls.account"),
                    _item("Agents", "support_agent", "calls.agent"),
                    _item("Tags", "sell", "calls.tag"),
                    _item("API keys", "key", "calls.apikey"),
                    _item("Subscriptions", "webhook", "calls.subscription"),
                    _item("Messages sent", "forward_to_inbox", "calls.message"),
                ],
            },
            {
                "title": "People",
                "items": [
                    _item("Users", "person", "auth.user"),
                    _item("Roles", "group", "auth.group"),
                    _item("Teams", "groups", "calls.team"),
                    _item("Locked log-ins", "lock", "axes.accessattempt"),
                    _item("Audit log", "policy", "calls.auditentry"),
                ],
            },
        ],
    },
}
