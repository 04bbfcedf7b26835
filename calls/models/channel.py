import base64
import secrets

from django.db import models


def new_secret() -> str:
    """Return a signing secret as the Standard Webhooks scheme spells it (standardwebhooks.com)."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}"


class Channel(models.Model):
    """Where notices of alerts go."""

    class Kind(models.TextChoices):
        EMAIL = "email", "E-mail"
        WEBHOOK = "webhook", "Webhook, signed"
        APPRISE = "apprise", "Apprise (Slack, Teams, Telegram …)"

    name = models.CharField(max_length=120, unique=True)
    kind = models.CharField(max_length=8, choices=Kind)
    target = models.TextField(
        blank=True,
        help_text="E-mail: addresses, one a line; empty for every administrator who has one. Webhook: its https "
        "address. Apprise: its URL.",
    )
    secret = models.CharField(max_length=64, default=new_secret, editable=False)
    is_active = models.BooleanField("active", default=True)
    failing_since = models.DateTimeField(null=True, blank=True, editable=False)
    last_error = models.CharField(max_length=500, blank=True, editable=False)
    lease_until = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="Until then one worker is sending to it."
    )

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Raise ``ValidationError`` for a target that cannot or must not be sent to."""
        from calls.alerting.channels import check_target  # it reads models

        check_target(self)
