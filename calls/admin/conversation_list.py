"""The list of conversations: which columns it has, and what narrows it down."""

from collections.abc import Iterable
from typing import Any

from django.contrib.admin.utils import lookup_spawns_duplicates
from django.contrib.admin.views.main import ALL_VAR, ERROR_FLAG, PAGE_VAR
from django.db.models import QuerySet
from django.http import HttpRequest, QueryDict

from calls import contacts
from calls.admin.conversation_filters import Chip, chips
from calls.admin.keyset import POSITION, KeysetChangeList
from calls.models import ListChoice

COLUMNS_PARAMETER, VIEW = "cols", "view"
"""Parameters: names of columns in their order, with commas between them; the saved view that is open, or ``ALL``."""
ALL = "all"
"""In place of a saved view: none, not even the one that opens by itself."""

COLUMNS = {
    "customer": "customer",
    "direction": "direction_word",
    "disposition": "outcome_word",
    "agent": "agent_name",
    "did": "did_number",
    "account": "account_name",
    "started": "started",
    "ring": "ring",
    "talk": "talk",
    "cost": "cost_text",
    "ended": "ended",
    "duration": "duration",
    "tags": "tag_names",
    "hangup": "hangup_cause",
    "reason": "why",
    "id": "external_id",
}
"""What a column is called in addresses, and what it is called in the ModelAdmin."""
USUAL = ["customer", "direction", "disposition", "agent", "did", "account", "started", "ring", "talk", "cost"]

UNREAD = {"extra_params", "flags", "recording"}
"""Columns of the table that no column of the list shows."""
NAMES = ["account__name", "account__slug", "agent__name", "agent__external_id"]
"""What the list reads of accounts and agents."""


class ConversationList(KeysetChangeList):
    """The list, with what it is narrowed down by."""

    own_parameters = (*KeysetChangeList.own_parameters, COLUMNS_PARAMETER, VIEW)

    def get_filters(self, request: HttpRequest) -> tuple:
        specs, has_filters, self._others, _, is_active = super().get_filters(request)
        # None of the filters names a call twice, also not that of tags.
        is_repeating = any(lookup_spawns_duplicates(self.lookup_opts, name) for name in self._others)
        return specs, has_filters, self._others, is_repeating, is_active

    def get_queryset(self, request: HttpRequest, exclude_parameters: list | None = None) -> QuerySet:
        queryset = super().get_queryset(request, exclude_parameters)
        kept = {name: self.params[name] for name in ("order", COLUMNS_PARAMETER) if name in self.params}
        self.clear_all_filters_qs = "?" + _encoded(kept | {VIEW: ALL})
        return queryset

    def get_query_string(self, new_params: dict | None = None, remove: list[str] | None = None) -> str:
        # Nothing at all would open the viewer's first view.
        query = super().get_query_string(new_params, remove)
        return query if query != "?" else f"?{VIEW}={ALL}"

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        contacts.add_names(self.result_list)

    def page_rows(self, rows: QuerySet) -> QuerySet:
        own = [field.name for field in self.opts.concrete_fields if field.name not in UNREAD]
        rows = rows.only(*own, *NAMES)
        return rows.prefetch_related("tags") if COLUMNS["tags"] in self.list_display else rows

    @property
    def chips(self) -> list[Chip]:
        return chips(self, self._others)


def columns_of(request: HttpRequest) -> list[str]:
    """Return the columns to show: those that the address names, else those of the viewer's choice, else the usual."""
    named = known_columns(",".join(request.GET.getlist(COLUMNS_PARAMETER)).split(","))
    return named or known_columns(choice_of(request).columns) or USUAL


def known_columns(names: Iterable[str]) -> list[str]:
    """Return those of the names that are columns, each once; the customer, who leads to the call, is always there."""
    known = [name for name in dict.fromkeys(names) if name in COLUMNS]
    return known if "customer" in known or not known else ["customer", *known]


def choice_of(request: HttpRequest) -> ListChoice:
    """Return how the viewer wants the list; it is read once per request."""
    if not hasattr(request, "_list_choice"):
        choices = ListChoice.objects.select_related("first_view").filter(user=request.user.pk)
        request._list_choice = choices.first() or ListChoice(user_id=request.user.pk)
    return request._list_choice


def state_of(query: QueryDict) -> str:
    """Return what a query says of the list, whatever its page and the view it was opened by, as one text."""
    passing = {*POSITION, VIEW, PAGE_VAR, ALL_VAR, ERROR_FLAG, "o", "_changelist_filters"}
    kept = {name: [value for value in values if value] for name, values in query.lists() if name not in passing}
    return _encoded({name: kept[name] for name in sorted(kept)})


def _encoded(parameters: dict[str, Any]) -> str:
    query = QueryDict(mutable=True)
    for name, value in parameters.items():
        query.setlist(name, value if isinstance(value, list) else [value])
    return query.urlencode()
