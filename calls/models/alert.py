from django.db import models

from calls.choices import AlertKind


class Alert(models.Model):
    """Something staff must know of. Open until its cause is gone; mailed once."""

    account = models.ForeignKey("calls.Account", models.PROTECT, related_name="alerts")
    kind = models.CharField(max_length=20, choices=AlertKind)
    message = models.CharField(max_length=500)
    reading = models.ForeignKey(
        "calls.BalanceReading",
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="The balance reading that opened it.",
    )
    opened_at = models.DateTimeField()
    cleared_at = models.DateTimeField(null=True, blank=True)
    notified_at = models.DateTimeField(null=True, blank=True, help_text="When its mail was handed to the mail server.")
    notify_lease_until = models.DateTimeField(null=True, blank=True, editable=False)
    notify_attempts = models.PositiveSmallIntegerField(default=0, editable=False)

    class Meta:
        ordering = ["-opened_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "kind"], name="alert_open_once", condition=models.Q(cleared_at__isnull=True)
            )
        ]

    def __str__(self) -> str:
        return self.message
