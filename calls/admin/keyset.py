"""Paging of long lists: next, previous and a jump to a day, each at the cost of the first page."""

from collections.abc import Sequence
from datetime import datetime, time, timedelta
from typing import Any

from django import forms
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import ValidationError
from django.db.models import DateTimeField, Model, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.views import ChangeList

from calls.admin.base import FIRST_YEAR, LAST_YEAR, aware_moment
from calls.counting import BEYOND_DOUBT, CAP, Size, size
from calls.keyset import after, reversed_order, values_of

AFTER, BEFORE, DAY = "after", "before", "day"
"""Parameters that say where the page starts: after or before the row of a token, or at a day in the viewer's zone."""
ORDER = "order"
"""``oldest``: the oldest rows first."""

POSITION = (AFTER, BEFORE, DAY)
_SEPARATOR = "~"


class KeysetChangeList(ChangeList):
    """A list in the order of its model, newest first, or the other way round.

    The model's order begins with a time, ends with the primary key, and has an index.
    """

    own_parameters: tuple[str, ...] = (ORDER,)
    """Parameters of the address that are no filters."""

    template_name = "admin/pagination_keyset.html"

    def get_filters_params(self, params: dict | None = None) -> dict:
        found = super().get_filters_params(params)
        return {name: value for name, value in found.items() if name not in self.own_parameters}

    def get_queryset(self, request: HttpRequest, exclude_parameters: list | None = None) -> QuerySet:
        # Links and forms made from the parameters lead to a first page.
        for name in POSITION:
            self.params.pop(name, None)
            self.filter_params.pop(name, None)
        return super().get_queryset(request, exclude_parameters)

    @property
    def is_oldest_first(self) -> bool:
        return self.params.get(ORDER) == "oldest"

    def get_ordering(self, request: HttpRequest, queryset: QuerySet) -> list[str]:
        order = list(self.lookup_opts.ordering)
        return reversed_order(order) if self.is_oldest_first else order

    def get_results(self, request: HttpRequest) -> None:
        order = self.get_ordering(request, self.queryset)
        self.position = {name: request.GET[name] for name in POSITION if request.GET.get(name)}
        is_backward = BEFORE in self.position and AFTER not in self.position
        walked = reversed_order(order) if is_backward else order
        edge = self._edge(order, walked)
        rows = self.queryset if edge is None else self.queryset.filter(edge)
        found = list(self.page_rows(rows).order_by(*walked)[: self.list_per_page + 1])
        page, is_more = found[: self.list_per_page], len(found) > self.list_per_page
        if is_backward:
            page.reverse()
        self.result_list = page
        has_next = is_more or is_backward
        has_previous = is_more if is_backward else AFTER in self.position or self._has_earlier(order, edge)
        self.next_page = self._link(AFTER, page[-1], order) if page and has_next else ""
        self.previous_page = self._link(BEFORE, page[0], order) if page and has_previous else ""

        self.is_first = not has_previous
        is_whole = not (self.next_page or self.previous_page or (edge is not None and not page))
        self.size = Size(len(page), "exact") if is_whole else size(self.queryset)
        # What the theme and Django's own templates read.
        self.result_count = self.full_result_count = self.size.rows
        self.show_full_result_count = False
        self.show_admin_actions = True
        self.can_show_all = self.multi_page = False
        self.paginator = self

    def page_rows(self, rows: QuerySet) -> QuerySet:
        """Return the rows with what a page needs of them."""
        return rows

    @property
    def first_page(self) -> str:
        return self.get_query_string()

    @property
    def other_order(self) -> str:
        return self.get_query_string({ORDER: None if self.is_oldest_first else "oldest"})

    @property
    def can_select_all(self) -> bool:
        """Whether an action may be asked to take all rows that match, as far as it is known how many they are."""
        most = CAP if self.size.kind == "exact" else BEYOND_DOUBT
        return self.size.kind != "more" and len(self.result_list) < self.size.rows <= most

    def _link(self, parameter: str, row: Model, order: Sequence[str]) -> str:
        return self.get_query_string({parameter: _SEPARATOR.join(values_of(row, order))})

    def _edge(self, order: Sequence[str], walked: Sequence[str]) -> Q | None:
        """Return the condition for the rows from where the page starts; ``None``: from the first."""
        token = self.position.get(AFTER) or self.position.get(BEFORE)
        if token:
            return after(walked, self._values(token, order))
        if day := self.position.get(DAY):
            column = order[0].removeprefix("-")
            if order[0].startswith("-"):
                return Q((f"{column}__lt", _start_of(day, days=1)))
            return Q((f"{column}__gte", _start_of(day)))
        return None

    def _has_earlier(self, order: Sequence[str], edge: Q | None) -> bool:
        return edge is not None and self.queryset.filter(~edge).order_by(*order)[:1].exists()

    def _values(self, token: str, order: Sequence[str]) -> list[object]:
        """Return the values that a token of ``_link`` holds."""
        texts = token.split(_SEPARATOR)
        if len(texts) != len(order):
            raise IncorrectLookupParameters(f"{token} is no place in this list.")
        return [self._value(name.removeprefix("-"), text) for name, text in zip(order, texts, strict=True)]

    def _value(self, name: str, text: str) -> Any:
        field = self.lookup_opts.get_field(name)
        try:
            value = aware_moment(text) if isinstance(field, DateTimeField) else field.to_python(text)
        except ValidationError as error:
            raise IncorrectLookupParameters(str(error)) from error
        if value is None:
            raise IncorrectLookupParameters(f"{text} is no moment with an offset.")
        return value


def _start_of(text: str, days: int = 0) -> datetime:
    """Return the start of a day, or of one so many days later, in the viewer's zone."""
    try:
        day = forms.DateField().to_python(text)
    except ValidationError as error:
        raise IncorrectLookupParameters(str(error)) from error
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise IncorrectLookupParameters(f"The year {day.year} is out of range.")
    return timezone.make_aware(datetime.combine(day + timedelta(days=days), time.min))
