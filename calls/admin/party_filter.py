"""What staff make of calls, and whom they were with, as filters of the list of conversations."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import DropdownFilter

from calls import contacts
from calls.models import Conversation, StaffOutcome
from calls.templatetags import words

NOT_SAID = "none"


class StaffOutcomeFilter(DropdownFilter):
    """What came of the call, as staff see it."""

    title = "outcome set by staff"
    parameter_name = "staff_outcome"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        return [*StaffOutcome.Kind.choices, (NOT_SAID, "Not said")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Conversation]) -> QuerySet[Conversation]:
        if self.value() == NOT_SAID:
            return queryset.filter(staff_outcome=None)
        said = StaffOutcome.objects.filter(kind=self.value())
        return queryset.filter(pk__in=said.values("conversation")) if self.value() else queryset


class PartyFilter(admin.SimpleListFilter):
    """All calls with a party, whichever of its numbers; only links ask for them, by the id of one of the numbers."""

    title = "party"
    parameter_name = "party"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        pk = self.value() or ""
        is_sound = pk.isascii() and pk.isdecimal() and len(pk) < 19
        self._number = contacts.known_to(request.user, int(pk)) if is_sound else None
        if not pk:
            return []
        return [(pk, str(self._number.contact or words.phone(self._number.number)) if self._number else "nobody")]

    def has_output(self) -> bool:
        return True  # or else the value would not be taken

    def queryset(self, request: HttpRequest, queryset: QuerySet[Conversation]) -> QuerySet[Conversation]:
        if not self.value():
            return queryset
        if self._number is None:
            return queryset.none()
        return queryset.filter(customer_number__in=contacts.numbers_of(self._number))
