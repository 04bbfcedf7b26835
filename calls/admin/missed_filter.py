"""The calls that an agent missed, as the agents report counts them."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from calls.access import visible
from calls.agents import missed_by
from calls.models import Agent, Conversation


class MissedByFilter(admin.SimpleListFilter):
    """The calls that an agent missed while free or busy; only links ask for them, by ``12:free`` or ``12:busy``."""

    title = "missed by"
    parameter_name = "missed_by"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        self._agent, self._state = self._read(request, self.value() or "")
        if not self.value():
            return []
        return [(self.value(), f"{self._agent}, while {self._state}" if self._agent else "nobody you may see")]

    def has_output(self) -> bool:
        return True  # or else the value would not be taken

    def queryset(self, request: HttpRequest, queryset: QuerySet[Conversation]) -> QuerySet[Conversation]:
        if not self.value():
            return queryset
        if self._agent is None:
            return queryset.none()
        return queryset.filter(missed_by(self._agent.pk, was_busy=self._state == "busy"))

    def _read(self, request: HttpRequest, text: str) -> tuple[Agent | None, str]:
        pk, _, state = text.partition(":")
        is_sound = pk.isascii() and pk.isdecimal() and len(pk) < 19 and state in {"free", "busy"}
        return (visible(request.user, Agent.objects.all()).filter(pk=int(pk)).first() if is_sound else None), state
