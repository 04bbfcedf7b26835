"""Which rows a list shows: the filters of each table."""

from typing import Any

from django import forms
from django.db.models import Exists, OuterRef, Q, QuerySet
from django_filters.rest_framework import FilterSet

from calls.api.parameters import (
    IdParameter,
    MomentParameter,
    MoneyParameter,
    Parameter,
    SecondsParameter,
    TextParameter,
    TextsParameter,
    WordsParameter,
    YesNoParameter,
    suggestion,
)
from calls.api.problems import BadRequest, FieldError
from calls.choices import AlertKind, Direction, Disposition, EventKind, GapKind, State
from calls.models import Account, Conversation
from calls.numbers import normalize, search_digits

FEWEST_DIGITS = 4
_LARGEST_ID_DIGITS = 18


class NumberField(forms.CharField):
    """A phone number in any spelling, or part of one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, max_length=64)

    def clean(self, value: Any) -> str:
        text = super().clean(value)
        if text and len(_digits(text)) < FEWEST_DIGITS:
            raise forms.ValidationError(f"Give at least {FEWEST_DIGITS} digits.")
        return text


class NumberParameter(Parameter):
    """A phone number in any spelling, or part of one."""

    field_class = NumberField
    schema = {"type": "string", "maxLength": 64, "pattern": r"^([^0-9\u0000]*[0-9]){4}[^\u0000]*$"}


class AccountFilters(FilterSet):
    """Rows of some accounts."""

    account = TextsParameter("Slug of the account, or several.", method="of_accounts")

    def of_accounts(self, queryset: QuerySet[Any], name: str, slugs: list[str]) -> QuerySet[Any]:
        found = dict(Account.objects.filter(slug__in=slugs).values_list("slug", "pk"))
        for slug in slugs:
            if slug not in found:
                known = Account.objects.values_list("slug", flat=True)
                raise BadRequest(
                    FieldError(name, slug, f"There is no account with this slug.{suggestion(slug, known)}")
                )
        return queryset.filter(account__in=found.values())


class ProviderFilters(FilterSet):
    """Accounts of some providers."""

    provider = TextsParameter("Slug of the provider, or several.")


class ConversationFilters(AccountFilters):
    """Which conversations; the figures of ``stats/`` take the same."""

    provider = TextsParameter("Slug of the provider, or several.", "account__provider")
    direction = WordsParameter(Direction, "Direction, or several.")
    disposition = WordsParameter(Disposition, "How it ended, or several; a live conversation has none.")
    state = WordsParameter(State, "Whether it is going on.")
    number = NumberParameter(
        f"Customer's number or DID in any usual spelling, or at least {FEWEST_DIGITS} digits of it in a row.",
        method="of_number",
    )
    customer_number = TextParameter("The customer's whole number, in any usual spelling.", method="of_whole_number")
    did = TextParameter("Our whole number, in any usual spelling.", method="of_whole_number")
    agent = TextParameter("Agent, by our id or the provider's.", method="of_agent")
    external_id = TextParameter("The provider's id of the conversation.")
    request_id = TextParameter("The id that we gave the provider with a click-to-call request.")
    started_after = MomentParameter("Started at this moment or later.", "started_at", lookup_expr="gte")
    started_before = MomentParameter("Started before this moment.", "started_at", lookup_expr="lt")
    min_talk_seconds = SecondsParameter("Talked at least this long.", "talk_seconds", lookup_expr="gte")
    max_talk_seconds = SecondsParameter("Talked at most this long.", "talk_seconds", lookup_expr="lte")
    has_recording = YesNoParameter("Whether there is a recording.", method="with_recording")
    min_cost = MoneyParameter("Cost at least this, each in its own unit.", "cost", lookup_expr="gte")
    tag = TextsParameter("Tag, or several; any of them will do.", method="with_tag")

    def of_number(self, queryset: QuerySet[Conversation], name: str, text: str) -> QuerySet[Conversation]:
        condition = Q()
        for spelling in _spellings(text):
            digits = search_digits(spelling)
            condition |= Q(customer_number__contains=digits) | Q(did__contains=digits)
        return queryset.filter(condition)

    def of_whole_number(self, queryset: QuerySet[Conversation], name: str, text: str) -> QuerySet[Conversation]:
        return queryset.filter((f"{name}__in", _spellings(text)))

    def of_agent(self, queryset: QuerySet[Conversation], name: str, text: str) -> QuerySet[Conversation]:
        condition = Q(agent__external_id=text)
        if text.isascii() and text.isdigit() and len(text) <= _LARGEST_ID_DIGITS:
            condition |= Q(agent=int(text))
        return queryset.filter(condition)

    def with_recording(self, queryset: QuerySet[Conversation], name: str, wanted: bool) -> QuerySet[Conversation]:
        return queryset.exclude(recording="") if wanted else queryset.filter(recording="")

    def with_tag(self, queryset: QuerySet[Conversation], name: str, names: list[str]) -> QuerySet[Conversation]:
        tagged = Conversation.tags.through.objects.filter(conversation=OuterRef("pk"), tag__name__in=names)
        return queryset.filter(Exists(tagged))


class LegFilters(AccountFilters):
    """Which legs."""

    conversation = IdParameter("Id of the conversation.")
    external_id = TextParameter("The provider's id of the leg.")
    occurred_after = MomentParameter("Started at this moment or later.", "started_at", lookup_expr="gte")
    occurred_before = MomentParameter("Started before this moment.", "started_at", lookup_expr="lt")


class EventFilters(AccountFilters):
    """Which events."""

    conversation = IdParameter("Id of the conversation.")
    external_id = TextParameter("The provider's id of the leg on which it happened.", "leg_external_id")
    kind = WordsParameter(EventKind, "What happened, or several.")
    occurred_after = MomentParameter("Happened at this moment or later.", "occurred_at", lookup_expr="gte")
    occurred_before = MomentParameter("Happened before this moment.", "occurred_at", lookup_expr="lt")


class BalanceFilters(AccountFilters):
    """Which balance readings."""

    after = MomentParameter("Booked at this moment or later.", "booked_at", lookup_expr="gte")
    before = MomentParameter("Booked before this moment.", "booked_at", lookup_expr="lt")
    gap_kind = WordsParameter(GapKind, "Why there is a gap or none, one reason or several.")


class StatementFilters(FilterSet):
    """Which time a statement is over."""

    after = MomentParameter("From this moment on; left out: from the first reading on.")
    before = MomentParameter("Up to just before this moment; left out: up to the newest reading.")


class AlertFilters(AccountFilters):
    """Which alerts."""

    kind = WordsParameter(AlertKind, "What it is about.")
    open = YesNoParameter("Whether its cause is still there.", "cleared_at", lookup_expr="isnull")
    acknowledged = YesNoParameter(
        "Whether somebody has seen it.", "acknowledged_at", lookup_expr="isnull", exclude=True
    )


def _digits(text: str) -> str:
    return "".join(char for char in text if char in "0123456789")


def _spellings(text: str) -> set[str]:
    """Return a typed number as it may be stored: E.164 as read in each account's country, else as typed."""
    regions = Account.objects.order_by().values_list("phone_region", flat=True).distinct()
    return {text.strip()} | {normalize(text, region) for region in regions}
