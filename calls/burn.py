"""What empties an account's balance, and when it is used up."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from django.db.models import Case, F, Sum, When
from django.db.models.functions import TruncHour
from django.utils import timezone

from calls.choices import GapKind
from calls.models import Account, BalanceReading
from calls.runway import WEEKS, Runway, runway


def hourly_burn(account: Account, since: datetime, until: datetime) -> dict[datetime, Decimal]:
    """Return what emptied the balance between the two, in the account's unit, by the hour of UTC it fell in.

    That is what calls were charged and what nobody can explain: a monthly fee empties a balance too. Money that was
    added is not in it. Hours without a reading are left out.
    """
    lost = Case(When(gap_kind=GapKind.MISSING, then=F("charge") - F("gap")), default=F("charge"))
    rows = (
        BalanceReading.objects.filter(account=account, booked_at__gte=since, booked_at__lt=until)
        .order_by()
        .values_list(TruncHour("booked_at", tzinfo=UTC))
        .annotate(lost=Sum(lost))
    )
    return dict(rows)


def runway_of(account: Account, at: datetime | None = None) -> Runway:
    """Return when the account's balance is used up, going by what was known ``at`` a moment; now by default.

    Without a balance, or with too little history, its ``reason`` says so.
    """
    at = at or timezone.now()
    newest = BalanceReading.objects.filter(account=account, booked_at__lte=at).first()
    if newest is None:
        return Runway(reason="No call of this account has told a balance.")
    burn = hourly_burn(account, at - timedelta(weeks=WEEKS), at)
    return runway(newest.balance, at, burn, ZoneInfo(account.time_zone))
