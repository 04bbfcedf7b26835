"""Which rows a list shows: the filters of each table."""

from typing import Any

from django import forms
from django.db.models import Exists, OuterRef, Q, QuerySet
from django_filters.rest_framework import FilterSet

from calls.access import visible
from calls.api.parameters import (
    IdsParameter,
    MomentParameter,
    MoneyParameter,
    Parameter,
    SecondsParameter,
    TextsParameter,
    WordsParameter,
    YesNoParameter,
    suggestion,
)
from calls.api.problems import BadRequest, FieldError
from calls.choices import AlertKind, Direction, Disposition, EventKind, GapKind, State
from calls.models import Account, Agent, Conversation
from calls.numbers import normalize, search_digits
from calls.searching import with_part_of_number

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
        known = visible(self.request.auth, Account.objects.all())
        found = dict(known.filter(slug__in=slugs).values_list("slug", "pk"))
        for slug in slugs:
            if slug not in found:
                hint = suggestion(slug, known.values_list("slug", flat=True))
                raise BadRequest(FieldError(name, slug, f"There is no account with this slug.{hint}"))
        return queryset.filter(account__in=found.values())


class ProviderFilters(FilterSet):
    """Accounts of some providers."""

    provider = TextsParameter("Slug of the provider, or several.")


class ConversationFilters(AccountFilters):
    """Which conversations; the figures of ``stats/`` take the same."""

    provider = TextsParameter("Slug of the provider, or several.", "account__provider")
    direction = WordsParameter(Direction, "Direction, or several.")
    disposition = WordsParameter(Disposition, "How it ended, or several; a live conversation has none.")
    state = WordsParameter(State, "Whether it is going on, or either.")
    number = NumberParameter(
        f"Customer's number or DID in any usual spelling, or at least {FEWEST_DIGITS} digits of it in a row.",
        method="of_number",
    )
    customer_number = TextsParameter(
        "The customer's whole number, in any usual spelling, or several.", method="of_whole_numbers"
    )
    did = TextsParameter("Our whole number, in any usual spelling, or several.", method="of_whole_numbers")
    agent = TextsParameter("Agent, by our id or the provider's, or several.", method="of_agents")
    external_id = TextsParameter("The provider's id of the conversation, or several.")
    request_id = TextsParameter("The id that we gave the provider with a click-to-call request, or several.")
    started_after = MomentParameter("Started at this moment or later.", "started_at", lookup_expr="gte")
    started_before = MomentParameter("Started before this moment.", "started_at", lookup_expr="lt")
    min_talk_seconds = SecondsParameter("Talked at least this long.", "talk_seconds", lookup_expr="gte")
    max_talk_seconds = SecondsParameter("Talked at most this long.", "talk_seconds", lookup_expr="lte")
    has_recording = YesNoParameter("Whether there is a recording.", method="with_recording")
    min_cost = MoneyParameter("Cost at least this, each in its own unit.", "cost", lookup_expr="gte")
    tag = TextsParameter("Tag, or several; any of them will do.", method="with_tag")

    def of_number(self, queryset: QuerySet[Conversation], name: str, text: str) -> QuerySet[Conversation]:
        return with_part_of_number(queryset, {search_digits(spelling) for spelling in spellings([text])})

    def of_whole_numbers(self, queryset: QuerySet[Conversation], name: str, texts: list[str]) -> QuerySet[Conversation]:
        return queryset.filter((f"{name}__in", spellings(texts)))

    def of_agents(self, queryset: QuerySet[Conversation], name: str, texts: list[str]) -> QuerySet[Conversation]:
        ids = [int(text) for text in texts if text.isascii() and text.isdigit() and len(text) <= _LARGEST_ID_DIGITS]
        agents = Agent.objects.filter(Q(external_id__in=texts) | Q(pk__in=ids))
        return queryset.filter(agent__in=list(agents.values_list("pk", flat=True)))

    def with_recording(self, queryset: QuerySet[Conversation], name: str, wanted: bool) -> QuerySet[Conversation]:
        return queryset.exclude(recording="") if wanted else queryset.filter(recording="")

    def with_tag(self, queryset: QuerySet[Conversation], name: str, names: list[str]) -> QuerySet[Conversation]:
        tagged = Conversation.tags.through.objects.filter(conversation=OuterRef("pk"), tag__name__in=names)
        return queryset.filter(Exists(tagged))


class LegFilters(AccountFilters):
    """Which legs."""

    conversation = IdsParameter("Id of the conversation, or several.")
    external_id = TextsParameter("The provider's id of the leg, or several.")
    occurred_after = MomentParameter("Started at this moment or later.", "started_at", lookup_expr="gte")
    occurred_before = MomentParameter("Started before this moment.", "started_at", lookup_expr="lt")


class EventFilters(AccountFilters):
    """Which events."""

    conversation = IdsParameter("Id of the conversation, or several.")
    external_id = TextsParameter("The provider's id of the leg on which it happened, or several.", "leg_external_id")
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

    kind = WordsParameter(AlertKind, "What it is about, or several.")
    open = YesNoParameter("Whether its cause is still there.", "cleared_at", lookup_expr="isnull")
    acknowledged = YesNoParameter(
        "Whether somebody has seen it.", "acknowledged_at", lookup_expr="isnull", exclude=True
    )


def _digits(text: str) -> str:
    return "".join(char for char in text if char in "0123456789")


def spellings(texts: list[str]) -> set[str]:
    """Return typed numbers as they may be stored: E.164 as read in each account's country, else as typed."""
    regions = list(Account.objects.order_by().values_list("phone_region", flat=True).distinct())
    return {spelling for text in texts for spelling in (text.strip(), *(normalize(text, one) for one in regions))}
