from django.db import models

from calls.choices import Direction, Disposition, Label, Role


class Leg(models.Model):
    """One party's connection within a conversation. Derived; see ``Conversation``."""

    account = models.ForeignKey("calls.Account", models.PROTECT, related_name="+")
    conversation = models.ForeignKey("calls.Conversation", models.CASCADE, related_name="legs")
    external_id = models.CharField("provider's id", max_length=255)
    label = models.CharField(max_length=1, choices=Label)
    role = models.CharField(max_length=8, choices=Role)
    direction = models.CharField(max_length=8, choices=Direction)
    from_number = models.CharField(max_length=64, blank=True)
    to_number = models.CharField(max_length=64, blank=True)
    # No index of its own: the one below begins with it.
    agent = models.ForeignKey("calls.Agent", models.PROTECT, null=True, blank=True, db_index=False, related_name="legs")
    disposition = models.CharField(max_length=9, choices=Disposition, null=True, blank=True)  # noqa: DJ001 - null: live
    started_at = models.DateTimeField(null=True, blank=True)
    answered_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    ring_seconds = models.PositiveIntegerField(null=True, blank=True)
    talk_seconds = models.PositiveIntegerField(null=True, blank=True)
    duration_seconds = models.PositiveIntegerField(null=True, blank=True)
    hangup_cause = models.CharField(max_length=255, blank=True)
    cost = models.DecimalField(max_digits=18, decimal_places=6, null=True, blank=True)
    balance_after = models.DecimalField(max_digits=18, decimal_places=6, null=True, blank=True)
    recording = models.CharField(max_length=2000, blank=True)
    has_cdr = models.BooleanField("final report", default=False)

    class Meta:
        ordering = ["conversation_id", "label", "external_id"]
        constraints = [models.UniqueConstraint(fields=["conversation", "external_id", "label"], name="leg_identity")]
        indexes = [models.Index(fields=["agent", "answered_at"], name="leg_agent")]

    def __str__(self) -> str:
        return f"{self.label.upper()}-leg, {self.get_role_display().lower()}"
