from django.db import models


class BalanceReading(models.Model):
    """The account's balance after a leg, as its CDR states it."""

    account = models.ForeignKey("calls.Account", models.PROTECT, related_name="balance_readings")
    conversation = models.ForeignKey("calls.Conversation", models.CASCADE, related_name="balance_readings")
    leg = models.OneToOneField("calls.Leg", models.CASCADE, related_name="balance_reading")
    occurred_at = models.DateTimeField(help_text="When the leg ended, by the provider's clock.")
    received_at = models.DateTimeField()
    balance = models.DecimalField(max_digits=18, decimal_places=6)
    charge = models.DecimalField(max_digits=18, decimal_places=6)
    gap = models.DecimalField(
        max_digits=18,
        decimal_places=6,
        null=True,
        help_text="balance − (previous balance − charge); null for an account's first reading.",
    )

    class Meta:
        # The reverse of calls.ledger.ORDER, which says why.
        ordering = ["-occurred_at", "balance", "charge", "-received_at", "-id"]
        indexes = [
            models.Index(
                fields=["account", "-occurred_at", "balance", "charge", "-received_at", "-id"], name="balance_order"
            )
        ]

    def __str__(self) -> str:
        return f"{self.balance} at {self.occurred_at:%Y-%m-%d %H:%M:%S}"
