"""Query parameters: nothing is ignored and nothing is guessed; what is wrong is named, with what is allowed."""

import difflib
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django import forms
from django.db.models import QuerySet, TextChoices
from django.utils.dateparse import parse_datetime
from django_filters import BaseInFilter, Filter
from django_filters.fields import BaseCSVField
from django_filters.rest_framework import DjangoFilterBackend, FilterSet
from drf_spectacular.drainage import set_override
from rest_framework.request import Request
from rest_framework.views import APIView

from calls.api.problems import MOST_ERRORS, BadRequest, FieldError

LARGEST_INTEGER = 2**31 - 1
MOST_VALUES = 100
"""Values of one parameter."""
MONEY_PATTERN = r"^-?[0-9]{1,12}(\.[0-9]{1,6})?$"
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?([Zz]|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)


def check_names(request: Request, known: Iterable[str]) -> None:
    """Raise ``BadRequest`` for parameters that are unknown, blank, or given twice."""
    errors = []
    for name, values in request.query_params.lists():
        if name not in known:
            message = f"There is no such parameter.{suggestion(name, known)}"
        elif len(values) > 1:
            message = "Give it once; several values, where they are allowed, are written with commas."
        elif not values[0].strip():
            message = "It is blank. Give a value, or leave it out."
        else:
            continue
        errors.append(FieldError(name, values[-1], message))
    if errors:
        raise BadRequest(*errors[:MOST_ERRORS])


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return a sentence that names the known word nearest to ``word``, or ``""`` when none is near."""
    near = difflib.get_close_matches(word[:100], list(known), n=1)
    return f" Did you mean “{near[0]}”?" if near else ""


def one_of(request: Request, name: str, words: Sequence[str], default: str) -> str:
    """Return the value of a parameter that is one word of a few. Raises ``BadRequest`` for any other."""
    text = request.query_params.get(name, default)
    if text not in words:
        raise BadRequest(FieldError(name, text, f"Give one of: {', '.join(words)}.{suggestion(text, words)}"))
    return text


def whole_number(request: Request, name: str, most: int, default: int) -> int:
    """Return the value of a parameter that is a whole number from 1 on. Raises ``BadRequest`` for any other."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 1 <= int(text) <= most:
        return int(text)
    raise BadRequest(FieldError(name, text, f"Give a whole number from 1 to {most}."))


class StrictFilters(DjangoFilterBackend):
    """django-filter, with errors that name the field, the value and what is allowed."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: APIView) -> QuerySet[Any]:
        known = self.get_filterset_class(view, queryset)
        # To make a form of twenty fields takes longer than the database does for a page.
        if known is None or (
            known.filter_queryset is FilterSet.filter_queryset
            and request.query_params.keys().isdisjoint(known.base_filters)
        ):
            return queryset
        return self.checked(request, queryset, view).qs

    def checked(self, request: Request, queryset: QuerySet[Any], view: APIView) -> FilterSet:
        """Return the view's filters with the parameters' values. Raises ``BadRequest`` for a wrong one."""
        filters = self.get_filterset(request, queryset, view)
        if not filters.is_valid():
            raise BadRequest(
                *(
                    FieldError(name, request.query_params.get(name, ""), " ".join(messages))
                    for name, messages in filters.errors.items()
                )
            )
        return filters


class Parameter(Filter):
    """A filter that tells the schema its type and what it means; ``field_class`` reads and checks the text."""

    schema: dict[str, Any] = {"type": "string", "maxLength": 255, "pattern": r"^[^\u0000]*[^\s\u0000][^\u0000]*$"}

    def __init__(self, description: str, field_name: str | None = None, **options: Any) -> None:
        super().__init__(field_name, **options)
        set_override(self, "field", {**self.schema, "description": description})


class TextField(forms.CharField):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options, max_length=255, strip=False)


class TextParameter(Parameter):
    """Any text of up to 255 characters, compared as it is."""

    field_class = TextField


class MomentField(forms.CharField):
    def to_python(self, value: Any) -> datetime | None:
        text = super().to_python(value)
        if not text:
            return None
        if _MOMENT.fullmatch(text):
            try:
                moment = parse_datetime(text.upper())
            except ValueError:
                moment = None
            if moment:
                return _in_utc(moment)
        raise forms.ValidationError(
            "Give a date and a time with their offset from UTC, such as 2021-09-22T13:48:30Z or "
            "2021-09-22T19:18:30%2B05:30 (in an address the plus sign is written %2B)."
        )


class MomentParameter(Parameter):
    """A moment in RFC 3339, offset and all: a time without one would have to be guessed at."""

    field_class = MomentField
    schema = {"type": "string", "format": "date-time"}


class SecondsField(forms.CharField):
    def to_python(self, value: Any) -> int | None:
        text = super().to_python(value)
        if not text:
            return None
        if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= LARGEST_INTEGER:
            return int(text)
        raise forms.ValidationError(f"Give whole seconds from 0 to {LARGEST_INTEGER}.")


class SecondsParameter(Parameter):
    """A length of time in whole seconds."""

    field_class = SecondsField
    schema = {"type": "integer", "minimum": 0, "maximum": LARGEST_INTEGER}


class MoneyField(forms.CharField):
    def to_python(self, value: Any) -> Decimal | None:
        text = super().to_python(value)
        if not text:
            return None
        if re.fullmatch(MONEY_PATTERN, text, re.ASCII):
            return Decimal(text)
        raise forms.ValidationError("Give a decimal amount such as 0.45, with at most 6 decimals.")


class MoneyParameter(Parameter):
    """An amount of money or credits."""

    field_class = MoneyField
    schema = {"type": "string", "pattern": MONEY_PATTERN}


class YesNoField(forms.CharField):
    def to_python(self, value: Any) -> bool | None:
        text = super().to_python(value)
        if not text:
            return None
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise forms.ValidationError("Give true or false.")


class YesNoParameter(Parameter):
    """true or false."""

    field_class = YesNoField
    schema = {"type": "boolean"}


class IdField(forms.UUIDField):
    default_error_messages = {"invalid": "Give an id such as 01997d5e-8a4c-7c3a-9d0a-3f2b1c4d5e6f."}


class IdParameter(Parameter):
    """The id of a conversation or a delivery."""

    field_class = IdField
    schema = {"type": "string", "format": "uuid"}


class ValuesField(BaseCSVField):
    """Up to ``MOST_VALUES`` values with commas between them, none of them blank."""

    def clean(self, value: list[str] | None) -> Any:
        if value and len(value) > MOST_VALUES:
            raise forms.ValidationError(f"Give at most {MOST_VALUES} values.")
        if value and not all(item.strip() for item in value):
            raise forms.ValidationError("A value between the commas is blank.")
        return super().clean(value)


class TextsParameter(BaseInFilter, Parameter):
    """One text or several, with commas; a row matches when it has any of them."""

    base_field_class = ValuesField
    schema = {"type": "string", "maxLength": 255, "pattern": r"^[^\u0000,]*[^\s\u0000,][^\u0000,]*$"}
    field_class = TextField


class IdsParameter(BaseInFilter, Parameter):
    """One id or several, with commas; a row matches when it has any of them."""

    base_field_class = ValuesField
    schema = IdParameter.schema
    field_class = IdField


class WordsParameter(BaseInFilter, Parameter):
    """One word or several of a fixed set, with commas; a row matches when it has any of them."""

    def __init__(self, choices: type[TextChoices], description: str, **options: Any) -> None:
        self.schema = {"type": "string", "enum": choices.values}
        self.field_class = _word_field(choices)
        super().__init__(description, **options)


def _word_field(choices: type[TextChoices]) -> type[forms.CharField]:
    class WordField(forms.CharField):
        def to_python(self, value: Any) -> str:
            text = super().to_python(value)
            if text not in choices.values:
                hint = suggestion(text, choices.values)
                raise forms.ValidationError(f"Give one or more of: {', '.join(choices.values)}.{hint}")
            return text

    return WordField


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # within a day of year 1 or year 9999: no call is anywhere near
        return datetime.max.replace(tzinfo=UTC) if moment.year > 1 else datetime.min.replace(tzinfo=UTC)
