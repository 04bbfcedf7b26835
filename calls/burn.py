"""What empties an account's balance, and when it is used up."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from django.db.models import Case, F, OuterRef, Subquery, Sum, When
from django.db.models.functions import TruncHour
from django.utils import timezone

from calls.choices import GapKind
from calls.models import Account, BalanceReading
from calls.runway import WEEKS, Runway, runway

NO_BALANCE = "No call of this account has told a balance."


def runway_of(account: Account, at: datetime | None = None) -> Runway:
    """Return when the account's balance is used up, going by what was known ``at`` a moment; now by default.

    Without a balance, or with too little history, its ``reason`` says so.
    """
    _, found = runways([account], at or timezone.now()).get(account, (None, Runway(reason=NO_BALANCE)))
    return found


def runways(accounts: Iterable[Account], at: datetime) -> dict[Account, tuple[BalanceReading, Runway]]:
    """Return the newest balance and what ``runway_of`` says of each account that has told one, in two queries."""
    newest = BalanceReading.objects.filter(account=OuterRef("pk"), booked_at__lte=at).values("pk")[:1]
    by_id = {account.pk: account for account in accounts}
    picked = Account.objects.filter(pk__in=by_id).values_list(Subquery(newest))
    readings = {reading.account_id: reading for reading in BalanceReading.objects.filter(pk__in=picked)}
    burns = hourly_burns(readings, at - timedelta(weeks=WEEKS), at)
    return {
        account: (reading, runway(reading.balance, at, burns.get(pk, {}), ZoneInfo(account.time_zone)))
        for pk, account in by_id.items()
        if (reading := readings.get(pk))
    }


def hourly_burns(account_ids: Iterable[int], since: datetime, until: datetime) -> dict[int, dict[datetime, Decimal]]:
    """Return what was burnt between the two, by account and by the hour of UTC it began in, in the account's unit.

    That is what calls were charged and what nobody has explained: a monthly fee empties a balance too. Money that was
    added is not in it. Hours without a reading are left out.
    """
    lost = Case(When(gap_kind=GapKind.MISSING, then=F("charge") - F("gap")), default=F("charge"))
    rows = (
        BalanceReading.objects.filter(account__in=list(account_ids), booked_at__gte=since, booked_at__lt=until)
        .order_by()
        .values_list("account", TruncHour("booked_at", tzinfo=UTC))
        .annotate(burnt=Sum(lost))
    )
    burns: dict[int, dict[datetime, Decimal]] = defaultdict(dict)
    for account, hour, burnt in rows:
        burns[account][hour] = burnt
    return burns
