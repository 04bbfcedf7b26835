from django.conf import settings
from django.db import models


class AuditEntry(models.Model):
    """Something a member of staff or a program did that others must be able to trace.

    Written by ``calls.audit``, never changed.
    """

    class Action(models.TextChoices):
        """What was done."""

        REVEAL = "reveal", "Revealed a number"
        PLAY = "play", "Played a recording"
        EXPORT = "export", "Exported"
        DOWNLOAD = "download", "Downloaded an export"
        ADD = "add", "Added"
        CHANGE = "change", "Changed"
        DELETE = "delete", "Deleted"
        LOGIN = "login", "Logged in"
        LOGIN_FAILED = "login_failed", "Failed to log in"
        LOCKED_OUT = "locked_out", "Locked out"
        LOGOUT = "logout", "Logged out"

    at = models.DateTimeField(auto_now_add=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    api_key = models.ForeignKey(
        "calls.ApiKey", models.SET_NULL, null=True, blank=True, related_name="+", verbose_name="API key"
    )
    action = models.CharField(max_length=12, choices=Action)
    target_type = models.CharField(max_length=100, blank=True, help_text="The table of what it was done to.")
    target_id = models.CharField(max_length=64, blank=True)
    target_name = models.CharField(max_length=200, blank=True, help_text="Never a full phone number or a secret.")
    details = models.JSONField(default=dict, blank=True)
    address = models.GenericIPAddressField(null=True, blank=True)

    class Meta:
        ordering = ["-at", "-id"]
        verbose_name_plural = "audit log"
        indexes = [
            models.Index(fields=["-at", "-id"], name="audit_newest"),
            models.Index(fields=["target_type", "target_id"], name="audit_target"),
        ]

    def __str__(self) -> str:
        return f"{self.get_action_display()}: {self.target_name}"
