"""Addresses of the conversation list that show exactly the calls described."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from urllib.parse import urlencode

from django.db.models import Model
from django.urls import reverse

# By what callers say: the list's parameter for one value, and the one for several.
_PARAMETERS = {
    "account": ("account__id__exact", "account__in"),
    "agent": ("agent__id__exact", "agent__in"),
    "did": ("did__exact", "did__in"),
    "direction": ("direction__exact", "direction__in"),
    "disposition": ("disposition__exact", "disposition__in"),
    "state": ("state__exact", "state__in"),
    "cost_unit": ("cost_unit__exact", "cost_unit__in"),
    "campaign": ("campaign__exact", "campaign"),
    "hour": ("hour", "hour"),
    "weekday": ("weekday", "weekday"),
    "missed_by": ("missed_by", "missed_by"),
}

_EDGE = timedelta(microseconds=1)


def calls_list(since: datetime | None = None, until: datetime | None = None, **filters: object) -> str:
    """Return the address of the list of the calls that started from ``since`` to just before ``until``.

    ``filters`` name account, agent (rows or ids; ``None``: calls without an agent), did, direction, disposition, state,
    cost_unit, campaign, hour (0 to 23) and weekday (1 is Monday), these two in the viewer's zone, and missed_by (an
    agent's id with ``:free`` or ``:busy``: see ``calls.agents``). A list, tuple or set
    stands for any of its values. Both times must be aware; they mean the same in every viewer's zone.
    """
    query: dict[str, str] = {}
    if since:
        query["started_at_from_0"] = since.isoformat()
    if until:
        query["started_at_to_0"] = (until - _EDGE).isoformat()
    for name, value in filters.items():
        one, several = _PARAMETERS[name]
        if value is None:
            query[f"{name}__isnull"] = "True"
        elif isinstance(value, Iterable) and not isinstance(value, str):
            query[several] = ",".join(_text(each) for each in value)
        else:
            query[one] = _text(value)
    address = reverse("admin:calls_conversation_changelist")
    return f"{address}?{urlencode(query)}" if query else address


def _text(value: object) -> str:
    return str(value.pk if isinstance(value, Model) else value)
