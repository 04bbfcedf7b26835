"""Whose calls, alerts and deliveries a subscription is told of."""

from django.db.models import Q, QuerySet
from django.utils import timezone

from calls.access import Reach, reach_of
from calls.choices import Scope
from calls.models import Subscription


def running() -> QuerySet[Subscription]:
    """Return the subscriptions whose key, if they were made with one, still has a say; also those that stand still."""
    is_valid = Q(api_key__expires_at=None) | Q(api_key__expires_at__gt=timezone.now())
    return Subscription.objects.filter(Q(api_key=None) | Q(is_valid, api_key__is_active=True))


def reach(subscription: Subscription) -> Reach:
    """Return the accounts that ``subscription`` is told of: its own, as far as its key may see them now."""
    key = subscription.api_key
    if key and Scope.MANAGE not in key.scopes:
        return Reach()
    allowed = reach_of(key) if key else Reach(is_everything=True)
    own = frozenset(subscription.accounts.values_list("pk", flat=True))
    if not own:
        return allowed
    return Reach(accounts=own if allowed.is_everything else own & allowed.accounts)
