"""What a kind of alert is made of: how it is described, how its rules are checked, and what it finds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from calls.models import Account, AlertRule


@dataclass(frozen=True, slots=True)
class Evidence:
    """A link to exactly the rows that were looked at: a list or a row of the admin."""

    label: str
    page: str
    """Name of the admin's URL, such as ``admin:calls_conversation_changelist``."""
    query: Mapping[str, str] = field(default_factory=dict)
    """Parameters of a list."""
    args: tuple[str, ...] = ()
    """Id of a row."""


@dataclass(frozen=True, slots=True)
class Finding:
    """That a rule's subject is beyond the mark at which an alert opens or, when not ``is_over``, not yet back at the
    one at which it clears. What is not found is cleared."""

    message: str
    """A sentence for staff with the figure, its unit and the mark."""
    at: datetime
    """When it began, by the data's clock."""
    value: Decimal | None = None
    subject: str = ""
    is_over: bool = True
    evidence: tuple[Evidence, ...] = ()


class Clock(StrEnum):
    """Which time a kind goes by."""

    DATA = "data"
    """Up to the account's newest call or reading: last month's calls, read again or late, are not news."""
    WALL = "wall"
    """Our own: what is watched is that nothing comes, or our own work."""


Evaluate = Callable[[AlertRule, Account, datetime], list[Finding]]
"""Looks at what was known of an account at a moment, going by nothing later, so that the past can be asked too."""


def _none(_: AlertRule) -> dict[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of alert."""

    help: str
    """What it watches and when it opens, in a sentence or two."""
    evaluate: Evaluate
    clock: Clock
    mark: str
    """What ``opens_at`` counts, with its unit: the field's label. Empty: the kind has no mark."""
    fields: frozenset[str] = frozenset()
    """Which of ``clears_at``, ``window_minutes``, ``minimum_calls``, ``did`` and ``agent`` it goes by."""
    clears_above: bool = False
    """Whether ``clears_at`` lies above ``opens_at`` (a balance), not below it (a share)."""
    highest: Decimal | None = None
    """The largest mark that makes sense; 100 for a share in per cent."""
    objections: Callable[[AlertRule], dict[str, str]] = _none
    """What else is wrong with a rule of this kind, as ``problems`` returns it."""

    def problems(self, rule: AlertRule) -> dict[str, str]:
        """Return what is wrong with ``rule``: a sentence with value and remedy by field."""
        return self.objections(rule) | self._wrong_marks(rule)

    def _wrong_marks(self, rule: AlertRule) -> dict[str, str]:
        if not self.mark:
            return {}
        if rule.opens_at is None:
            return {"opens_at": f"Give the mark at which an alert opens: {self.mark}."}
        problems: dict[str, str] = {}
        for name in ("opens_at", "clears_at"):
            value = getattr(rule, name)
            if value is not None and value < 0:
                problems[name] = f"{value:f} is negative. Give 0 or more."
            elif value is not None and self.highest is not None and value > self.highest:
                problems[name] = f"{value:f} can never be reached. Give at most {self.highest:f}."
        if not problems and "clears_at" in self.fields and rule.clears_at is not None:
            if self.clears_above and rule.clears_at < rule.opens_at:
                problems["clears_at"] = f"{rule.clears_at:f} is below the mark of {rule.opens_at:f}. Give that or more."
            elif not self.clears_above and rule.clears_at > rule.opens_at:
                problems["clears_at"] = f"{rule.clears_at:f} is above the mark of {rule.opens_at:f}. Give that or less."
        return problems
