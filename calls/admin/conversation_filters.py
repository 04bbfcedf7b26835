"""What the list of conversations can be narrowed down by, and the words that say by what it is."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from django.contrib.admin import FieldListFilter, ModelAdmin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.db.models import Model, Q, QuerySet, TextField
from django.db.models.fields.json import KT
from django.db.models.functions import Cast, Substr
from django.http import HttpRequest
from unfold.contrib.filters.admin import (
    AutocompleteSelectMultipleFilter,
    DropdownFilter,
    TextFilter,
)
from unfold.contrib.filters.admin.mixins import DropdownMixin

from calls.access import is_masking, shown, visible
from calls.models import Tag
from calls.numbers import search_digits
from calls.searching import with_did, with_part_of_did
from calls.templatetags import words

WHOLE_DAY = {"from": "00:00", "to": "23:59"}
"""Times that need not be said with a day."""
_SECONDS = re.compile(r"(?<=\d\d:\d\d):\d\d(\.\d+)?$")

LONGEST_CAMPAIGN = 255
"""Characters of a campaign that tell it from others; the figures per campaign go by as many."""
LONGEST_ID = 18
"""Digits of an id; a longer one is beyond what a database counts to."""


class ValuesFilter(DropdownMixin, FieldListFilter):
    """Any of several values of a column: ``…__exact`` once or repeated, as the form sends it, or ``…__in=a,b``.

    ``…__isnull=True`` adds the calls that have none.
    """

    multiple = True

    def __init__(
        self,
        field: Any,
        request: HttpRequest,
        params: dict[str, Any],
        model: type[Model],
        model_admin: ModelAdmin,
        field_path: str,
    ) -> None:
        self.request, self.model_admin = request, model_admin
        self.field_path = field_path
        self.exact = f"{field_path}__id__exact" if field.is_relation else f"{field_path}__exact"
        self.several, self.isnull = f"{field_path}__in", f"{field_path}__isnull"
        texts = [*params.get(self.exact, []), *",".join(params.get(self.several, [])).split(",")]
        self.values = list(dict.fromkeys(text for text in texts if text))
        self.is_none_asked = "True" in params.get(self.isnull, [])
        super().__init__(field, request, params, model, model_admin, field_path)
        self.used_parameters.pop(self.isnull, None)  # the form has no place for it, and hands on what it does not use

    def expected_parameters(self) -> list[str]:
        return [self.exact, self.several, self.isnull]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        self.check()
        condition = Q((self.several, self.values)) if self.values else Q()
        if self.is_none_asked:
            condition |= Q((self.isnull, True))
        return queryset.filter(condition)

    def check(self) -> None:
        """Refuse what is no id of a row."""
        if self.field.is_relation and not all(value.isdecimal() and len(value) <= LONGEST_ID for value in self.values):
            raise IncorrectLookupParameters(f"{', '.join(self.values)} is no list of ids.")

    def options(self) -> list[tuple[Any, str]]:
        """Return what can be chosen: each value with its word."""
        if not self.field.is_relation:
            return self.field.flatchoices
        if not hasattr(self, "_options"):
            rows = visible(self.request.user, self.field.related_model._default_manager.all())
            self._options = [(row.pk, str(row)) for row in rows]
        return self._options

    def word(self, value: str) -> str:
        """Return the word of a chosen value."""
        return {str(key): word for key, word in self.options()}.get(value, value)

    def choices(self, changelist: ChangeList) -> list[dict[str, Any]]:
        form = self.form_class(
            label=f" By {self.title} ",
            name=self.exact,
            choices=self.options(),
            data={self.exact: self.values},
            multiple=True,
        )
        return [{"form": form}]


class RowsFilter(ValuesFilter):
    """Rows of a table that may be long: the form looks them up as one types."""

    form_class = AutocompleteSelectMultipleFilter.form_class

    def options(self) -> list[tuple[Any, str]]:
        """Return the chosen ones only."""
        if not hasattr(self, "_options"):
            rows = self.field.related_model.objects.filter(pk__in=self.values)
            self._options = [(row.pk, str(row)) for row in visible(self.request.user, rows)]
        return self._options

    def choices(self, changelist: ChangeList) -> list[dict[str, Any]]:
        form = self.form_class(
            request=self.request,
            label=f" By {self.title} ",
            name=self.exact,
            choices=(),
            field=self.field,
            model_admin=self.model_admin,
            data={self.exact: self.values},
            multiple=True,
        )
        return [{"form": form}]


class TagsFilter(RowsFilter):
    """Calls with any of several tags, each call once."""

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        self.check()
        if self.values:
            tagged = Tag.conversations.through.objects.filter(tag__in=self.values)
            return queryset.filter(pk__in=tagged.values("conversation"))
        return queryset.filter(tags=None) if self.is_none_asked else queryset


class DidFilter(TextFilter):
    """The number of ours that was called or shown, in any spelling or in part; several with commas between them.

    Links give it as it is stored, by ``did__exact`` or ``did__in``; ``did__isnull=True`` are the calls without one.
    """

    title = "DID"
    parameter_name = "did"

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: type[Model], admin: ModelAdmin) -> None:
        stored = [*params.pop("did__exact", []), *",".join(params.pop("did__in", [])).split(",")]
        self.stored = [text for text in stored if text]
        if "True" in params.pop("did__isnull", []):
            self.stored.append("")
        super().__init__(request, params, model, admin)

    def expected_parameters(self) -> list[str]:
        return ["did", "did__exact", "did__in", "did__isnull"]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if self.stored:
            queryset = with_did(queryset, self.stored)
        parts = list(filter(None, map(search_digits, (self.value() or "").split(","))))
        return with_part_of_did(queryset, parts) if parts else queryset


LONGEST_HEAD = 6
"""Digits of a number's head, its country's code included, by which those may ask who see numbers masked."""


class DestinationFilter(TextFilter):
    """The head of the customer's number, such as +9190; “none” for numbers that are not in full."""

    title = "number’s head"
    parameter_name = "destination"

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        text = (self.value() or "").strip()
        if text == "none":
            return queryset.exclude(customer_number__startswith="+")
        digits = search_digits(text)
        if is_masking() and len(digits) > LONGEST_HEAD:  # by which a hidden number could be tried out
            raise IncorrectLookupParameters(f"You see numbers masked: give at most {LONGEST_HEAD} digits.")
        return queryset.filter(customer_number__startswith=f"+{digits}") if digits else queryset


class CampaignFilter(TextFilter):
    """The parameter “campaign” that the call was started with; several with commas between them.

    Links give one by ``campaign__exact``, which may hold commas.
    """

    title = "campaign"
    parameter_name = "campaign"

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: type[Model], admin: ModelAdmin) -> None:
        self.stored = [text for text in params.pop("campaign__exact", []) if text]
        super().__init__(request, params, model, admin)

    def expected_parameters(self) -> list[str]:
        return ["campaign", "campaign__exact"]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        typed = [text.strip() for text in (self.value() or "").split(",") if text.strip()]
        if values := self.stored + typed:
            said = Substr(Cast(KT("extra_params__campaign"), TextField()), 1, LONGEST_CAMPAIGN)
            queryset = queryset.alias(campaign=said).filter(campaign__in=values)
        return queryset


class HourFilter(DropdownFilter):
    """The hour of the day of a row's ``moment``, when a call started, in the viewer's zone."""

    moment = "started_at"
    title = "hour"
    parameter_name = "hour"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> list[tuple[str, str]]:
        return [(str(hour), f"{hour:02}:00 to {hour:02}:59") for hour in range(24)]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter((f"{self.moment}__hour", _whole(self.value(), 23))) if self.value() else queryset


class WeekdayFilter(DropdownFilter):
    """The day of the week of a row's ``moment``, in the viewer's zone; 1 is Monday."""

    moment = "started_at"
    title = "weekday"
    parameter_name = "weekday"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> list[tuple[str, str]]:
        days = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
        return [(str(number), day) for number, day in enumerate(days, 1)]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter((f"{self.moment}__iso_week_day", _whole(self.value(), 7))) if self.value() else queryset


class Chip(NamedTuple):
    """One thing that the list is narrowed down by, and the address of the list without it."""

    title: str
    text: str
    without: str


def chips(changelist: ChangeList, others: dict[str, list]) -> list[Chip]:
    """Return all that narrows ``changelist`` down; ``others`` are the parameters that no filter of its own knows."""
    found = []
    if changelist.query:
        found.append(Chip("Search", shown(changelist.query), changelist.get_query_string({"q": None})))
    for spec in changelist.filter_specs:
        if isinstance(spec, ValuesFilter):
            found += _value_chips(changelist, spec)
            continue
        if stored := getattr(spec, "stored", ()):
            without = changelist.get_query_string(dict.fromkeys(spec.expected_parameters()[1:]))
            names = (words.phone(text) if text else "none" for text in stored)
            found.append(Chip(spec.title, " or ".join(names), without))
        if text := _text(spec):
            without = changelist.get_query_string(dict.fromkeys(spec.used_parameters))
            found.append(Chip(str(spec.title).removesuffix(" at"), text, without))
    for name, values in others.items():
        text = shown(" or ".join(map(str, _flat(values))))
        found.append(Chip(name.partition("__")[0].replace("_", " "), text, changelist.get_query_string({name: None})))
    return found


def _value_chips(changelist: ChangeList, spec: ValuesFilter) -> list[Chip]:
    nothing = dict.fromkeys(spec.expected_parameters())
    none = {spec.isnull: "True"} if spec.is_none_asked else {}
    found = []
    for value in spec.values:
        rest = [other for other in spec.values if other != value]
        without = changelist.get_query_string(nothing | none | ({spec.exact: rest} if rest else {}))
        found.append(Chip(str(spec.title), str(spec.word(value)), without))
    if none:
        without = changelist.get_query_string(nothing | ({spec.exact: spec.values} if spec.values else {}))
        found.append(Chip(str(spec.title), "none", without))
    return found


def _text(spec: Any) -> str:
    """Return what a filter of one value, or of a range, is set to."""
    used = {name: value for name, value in spec.used_parameters.items() if value}
    if not used:
        return ""
    edges = []
    for edge in ("from", "to"):
        parts = [_SECONDS.sub("", str(value)) for name, value in used.items() if f"_{edge}" in name]
        if parts:
            edges.append(f"{edge} {' '.join(part for part in parts if part != WHOLE_DAY[edge])}")
    if edges:
        return " ".join(edges)
    value = next(iter(used.values()))
    return str(dict(getattr(spec, "lookup_choices", ())).get(value, value))


def _flat(values: Iterable) -> Iterator:
    """Yield the values of a parameter, which Django gives as lists in a list where there are commas."""
    for value in values:
        if isinstance(value, list):
            yield from value
        else:
            yield value


def _whole(text: str, largest: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 2 and int(text) <= largest):
        raise IncorrectLookupParameters(f"{text} is no whole number up to {largest}.")
    return int(text)
