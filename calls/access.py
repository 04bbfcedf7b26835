"""Who sees which rows, and whether in full: what lists, pages, totals, exports, search, the API and streams ask."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from django.db.models import Exists, Model, OuterRef, Q, QuerySet

from calls.masking import is_masking, masked, masking, shown
from calls.models import (
    Account,
    Agent,
    ApiKey,
    Attempt,
    BalanceReading,
    Contact,
    ContactNumber,
    Conversation,
    Leg,
    Message,
    MissedCaller,
    StaffAccess,
    Subscription,
)

__all__ = ["Reach", "is_masking", "masked", "may_see_numbers", "reach_of", "seen_by", "shown", "visible"]


@dataclass(frozen=True)
class Reach:
    """Whose calls somebody sees: everybody's, or those of some accounts and those in which some agents took part."""

    is_everything: bool = False
    accounts: frozenset[int] = frozenset()
    agents: frozenset[int] = frozenset()

    def holds(self, account: int, agents: Iterable[int]) -> bool:
        """Return whether a call of this account in which these agents took part is seen: as ``visible`` has it."""
        return self.is_everything or account in self.accounts or not self.agents.isdisjoint(agents)


def reach_of(user: Any) -> Reach:
    """Return the reach of a member of staff or of an API key; it is worked out once per object."""
    if not hasattr(user, "_reach"):
        user._reach = _reach_of_key(user) if isinstance(user, ApiKey) else _reach_of_person(user)
    return user._reach


def visible(user: Any, rows: QuerySet) -> QuerySet:
    """Return those of ``rows`` that ``user``, a member of staff or an API key, may see.

    Calls, and what belongs to a call, are seen by whom they concern: by account or by agent. Everything else that
    belongs to an account (its money, deliveries, alerts) is seen by account only. Rows that belong to no account at
    all, such as tags, are everybody's who may look at the table.
    """
    reach = reach_of(user)
    if reach.is_everything:
        return rows
    condition = _condition(reach, rows.model)
    return rows if condition is None else rows.filter(condition)


def may_see_numbers(user: Any) -> bool:
    """Return whether phone numbers are shown to ``user`` in full. Programs with a key need them to be of use."""
    return isinstance(user, ApiKey) or user.has_perm("calls.see_numbers")


def seen_by(user: Any) -> AbstractContextManager[None]:
    """Write numbers, in this context, as ``user`` may see them."""
    return masking(lambda: not may_see_numbers(user))


def _reach_of_key(key: ApiKey) -> Reach:
    accounts = frozenset(key.accounts.values_list("pk", flat=True))
    return Reach(accounts=accounts) if accounts else Reach(is_everything=True)


def _reach_of_person(user: Any) -> Reach:
    if user.has_perm("calls.see_all_calls"):
        return Reach(is_everything=True)
    access = StaffAccess.objects.filter(user=user.pk).first() if user.pk else None
    if access is None:
        return Reach()
    accounts = access.accounts.values_list("pk", flat=True) if user.has_perm("calls.see_account_calls") else ()
    agents = set(access.agents.values_list("pk", flat=True)) if user.has_perm("calls.see_own_calls") else set()
    if access.team and user.has_perm("calls.see_team_calls"):
        agents |= set(access.team.agents.values_list("pk", flat=True))
    return Reach(accounts=frozenset(accounts), agents=frozenset(agents))


def _condition(reach: Reach, model: type[Model], path: str = "") -> Q | None:
    """Return which rows of ``model`` are within reach, by its fields behind ``path``; ``None``: it has no owner."""
    if model is Conversation:
        return _of_calls(reach, path)
    if model is Account:
        return Q((f"{path}pk__in", reach.accounts))
    if model is Agent:
        return Q((f"{path}account__in", reach.accounts)) | Q((f"{path}pk__in", reach.agents))
    if model is MissedCaller:  # owed a call by everybody of the account, whoever takes it
        colleagues = Agent.objects.filter(pk__in=reach.agents).values("account")
        return Q((f"{path}account__in", reach.accounts)) | Q((f"{path}account__in", colleagues))
    if model is ContactNumber:
        return _of_numbers(reach, OuterRef(f"{path}number"))
    if model is Contact:
        numbers = ContactNumber.objects.filter(contact=OuterRef(f"{path}pk"))
        return Q(Exists(numbers.filter(_of_numbers(reach, OuterRef("number"))))) | ~Q(Exists(numbers))
    if model is Subscription:
        return _of_subscriptions(reach, path)
    if model is Message:  # an old one may be of an account that its subscription has given up
        of_account = Q((f"{path}account__in", reach.accounts)) | Q((f"{path}account", None))
        return _of_subscriptions(reach, f"{path}subscription__") & of_account
    if model is Attempt:
        return _condition(reach, Message, f"{path}message__")
    owners = {field.name for field in model._meta.fields if field.is_relation} & {"account", "conversation", "alert"}
    # What has both has those of the same account: who sees whole accounts needs no look at the call.
    if "conversation" in owners and model is not BalanceReading and (reach.agents or "account" not in owners):
        through_call = _of_calls(reach, f"{path}conversation__")
        return through_call | Q((f"{path}account__in", reach.accounts)) if "account" in owners else through_call
    if "account" in owners:
        return Q((f"{path}account__in", reach.accounts))
    if "alert" in owners:
        return Q((f"{path}alert__account__in", reach.accounts))
    return None


def _of_subscriptions(reach: Reach, path: str) -> Q:
    """Return which subscriptions are of accounts within reach alone: those they name, or else those of their key."""
    named = Subscription.accounts.through.objects.filter(subscription=OuterRef(f"{path}pk"))
    of_key = ApiKey.accounts.through.objects.filter(apikey=OuterRef(f"{path}api_key"))
    beyond = ~Q(account__in=reach.accounts)
    return (Q(Exists(named)) & ~Q(Exists(named.filter(beyond)))) | (
        ~Q(Exists(named)) & Q(Exists(of_key)) & ~Q(Exists(of_key.filter(beyond)))
    )


def _of_numbers(reach: Reach, number: OuterRef) -> Q:
    """Return which numbers may be known: of the calls within reach, and of those that nobody has had a call with."""
    calls = Conversation.objects.order_by().filter(customer_number=number)
    return Q(Exists(calls.filter(_of_calls(reach, "")))) | ~Q(Exists(calls))


def _of_calls(reach: Reach, path: str) -> Q:
    condition = Q((f"{path}account__in", reach.accounts))
    if reach.agents:
        # Two short index scans; a condition on the legs by a join would name a call once for each of its legs.
        took_part = Leg.objects.filter(agent__in=reach.agents).order_by().values("conversation")
        decided = Conversation.objects.filter(agent__in=reach.agents).order_by().values("pk")
        took_part = Q((f"{path}pk__in", decided.union(took_part)))
        condition = condition | took_part if reach.accounts else took_part
    return condition
