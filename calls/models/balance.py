from datetime import timedelta

from django.db import models
from django.utils import timezone

from calls.choices import GapKind


class BalanceReading(models.Model):
    """The account's balance after a leg, as its CDR states it, and its place in the chain (``calls.ledger``)."""

    # No index of its own: those below begin with it.
    account = models.ForeignKey("calls.Account", models.PROTECT, db_index=False, related_name="balance_readings")
    conversation = models.ForeignKey("calls.Conversation", models.CASCADE, related_name="balance_readings")
    leg = models.OneToOneField("calls.Leg", models.CASCADE, related_name="balance_reading")
    occurred_at = models.DateTimeField(help_text="When the leg ended, by the provider's clock.")
    received_at = models.DateTimeField()
    balance = models.DecimalField(max_digits=18, decimal_places=6)
    charge = models.DecimalField(max_digits=18, decimal_places=6)
    booked_at = models.DateTimeField(
        null=True,  # only until it is settled, in the transaction that writes it
        help_text="Its place in the chain as a time: when it occurred, or just after the reading before it where the "
        "provider booked a call that ended later first. No two of an account are equal.",
    )
    gap = models.DecimalField(
        max_digits=18,
        decimal_places=6,
        null=True,
        help_text="balance − (previous balance − charge); null for an account's first reading.",
    )
    gap_kind = models.CharField(max_length=8, choices=GapKind, db_default=GapKind.OPENING)
    gap_since = models.DateTimeField(
        null=True, help_text="The top-up or unexplained charge happened between this and the reading; null for none."
    )

    class Meta:
        ordering = ["-booked_at", "-id"]
        indexes = [
            models.Index(fields=["-booked_at", "-id"], name="balance_newest"),
            models.Index(fields=["account", "-booked_at", "-id"], name="balance_chain"),
            models.Index(fields=["account", "occurred_at"], name="balance_time"),
            # Gaps are few, and each page of them would be looked for in the whole chain.
            models.Index(
                fields=["account", "-booked_at", "-id"],
                name="balance_gaps",
                condition=models.Q(gap_kind__in=["top_up", "missing"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.balance} at {timezone.localtime(self.occurred_at):%Y-%m-%d %H:%M:%S}"

    @property
    def is_reordered(self) -> bool:
        """Whether a call that ended later was booked before it. Those of one moment differ by microseconds."""
        return self.booked_at is not None and self.booked_at - self.occurred_at >= timedelta(milliseconds=1)
