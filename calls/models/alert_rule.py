from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils import timezone

from calls.choices import AlertKind


class AlertRule(models.Model):
    """When staff are to be told of something, and by which channels.

    What ``opens_at`` and ``clears_at`` count, and which of the other fields matter, is said by the kind
    (``calls.alerting.kinds``).
    """

    name = models.CharField(max_length=120)
    kind = models.CharField(max_length=20, choices=AlertKind)
    account = models.ForeignKey(
        "calls.Account",
        models.CASCADE,
        null=True,
        blank=True,
        related_name="alert_rules",
        help_text="Empty: each account by itself.",
    )
    did = models.CharField("DID", max_length=64, blank=True, help_text="Only calls of this number of ours.")
    agent = models.ForeignKey(
        "calls.Agent", models.CASCADE, null=True, blank=True, related_name="+", help_text="Only calls of this agent."
    )
    opens_at = models.DecimalField(
        max_digits=18, decimal_places=6, null=True, blank=True, help_text="The mark at which an alert opens."
    )
    clears_at = models.DecimalField(
        max_digits=18,
        decimal_places=6,
        null=True,
        blank=True,
        help_text="An alert that is open stays open until this is reached, so that a value that sways round the mark "
        "does not open one alert after the other. Empty: the mark at which it opens.",
    )
    window_minutes = models.PositiveIntegerField(
        default=60, validators=[MinValueValidator(5), MaxValueValidator(7 * 24 * 60)]
    )
    minimum_calls = models.PositiveIntegerField(
        default=10, help_text="With fewer calls in the window a share says nothing."
    )
    channels = models.ManyToManyField(
        "calls.Channel", blank=True, related_name="rules", help_text="Who is told. None: it is shown here only."
    )
    is_active = models.BooleanField("active", default=True)
    muted_until = models.DateTimeField(null=True, blank=True, help_text="Until then alerts open, and nobody is told.")
    quiet_from = models.TimeField(
        null=True, blank=True, help_text="From this time of day (in the account's zone) notices wait …"
    )
    quiet_until = models.TimeField(null=True, blank=True, help_text="… until this one.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_muted(self) -> bool:
        """Whether nobody is told at present."""
        return self.muted_until is not None and timezone.now() < self.muted_until

    def clean(self) -> None:
        """Raise ``ValidationError`` for a rule that makes no sense, naming the field, the value and the remedy."""
        from calls.alerting.kinds import KINDS  # kinds read models

        problems = KINDS[self.kind].problems(self) if self.kind in KINDS else {}
        if (self.quiet_from is None) != (self.quiet_until is None):
            problems["quiet_until"] = "Quiet hours need both a beginning and an end, or neither."
        elif self.quiet_from is not None and self.quiet_from == self.quiet_until:
            problems["quiet_until"] = f"Quiet hours that end at {self.quiet_until:%H:%M}, when they begin, are none."
        if self.agent and self.account and self.agent.account_id != self.account_id:
            problems["agent"] = f"{self.agent} belongs to {self.agent.account}. Choose an agent of {self.account}."
        if problems:
            raise ValidationError(problems)
