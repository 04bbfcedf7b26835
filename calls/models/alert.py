from django.conf import settings
from django.db import models

from calls.choices import AlertKind
from calls.masking import shown


class Alert(models.Model):
    """Something staff must know of: opened once, kept up to date while it lasts, cleared when its cause is gone."""

    rule = models.ForeignKey("calls.AlertRule", models.PROTECT, related_name="alerts")
    # No index of its own: one of those below begins with it.
    account = models.ForeignKey("calls.Account", models.PROTECT, db_index=False, related_name="alerts")
    subject = models.CharField(
        max_length=200,
        blank=True,
        help_text="What of the account it is about, such as a DID or a prefix; empty for the account as a whole.",
    )
    kind = models.CharField(max_length=20, choices=AlertKind)
    message = models.CharField(max_length=500)
    value = models.DecimalField(
        max_digits=18, decimal_places=6, null=True, help_text="The figure that the rule's threshold is compared with."
    )
    evidence = models.JSONField(default=list, help_text="What was looked at: see calls.alerting.findings.Evidence.")
    opened_at = models.DateTimeField(help_text="By the data's clock.")
    updated_at = models.DateTimeField(help_text="When message or value last changed.")
    cleared_at = models.DateTimeField(null=True, blank=True)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    assigned_to = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="assigned_alerts"
    )

    class Meta:
        ordering = ["-opened_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "account", "subject"],
                name="alert_open_once",
                condition=models.Q(cleared_at__isnull=True),
            )
        ]
        indexes = [
            models.Index(fields=["-opened_at", "-id"], name="alert_newest"),
            models.Index(fields=["account", "-opened_at", "-id"], name="alert_account"),
        ]

    def __str__(self) -> str:
        return shown(self.message)


class AlertComment(models.Model):
    """What somebody has to say of an alert."""

    alert = models.ForeignKey(Alert, models.CASCADE, related_name="comments")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    text = models.TextField(max_length=2000)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["created_at", "id"]

    def __str__(self) -> str:
        return self.text
