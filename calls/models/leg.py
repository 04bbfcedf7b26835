from django.db import models
from django.db.models import F, Func

from calls.choices import Direction, Disposition, Label, Role

# The literal stands in the text of the query: an index on an expression is of use to the very same expression only.
START_OR_NEVER = Func(
    "started_at", template="COALESCE(%(expressions)s, '1970-01-01 00:00:00')", output_field=models.DateTimeField()
)
"""By what legs are sorted: of the newest first, those whose start is not known come last."""


class Leg(models.Model):
    """One party's connection within a conversation. Derived; see ``Conversation``."""

    # No index of its own: one of those below begins with it.
    account = models.ForeignKey("calls.Account", models.PROTECT, db_index=False, related_name="+")
    # No index of its own: the constraint below begins with it.
    conversation = models.ForeignKey("calls.Conversation", models.CASCADE, db_index=False, related_name="legs")
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
        indexes = [
            models.Index(fields=["agent", "answered_at"], name="leg_agent"),
            models.Index(START_OR_NEVER.desc(), F("id").desc(), name="leg_newest"),
            models.Index("account", START_OR_NEVER.desc(), F("id").desc(), name="leg_account"),
            models.Index(fields=["external_id"], name="leg_external_id"),
        ]

    def __str__(self) -> str:
        return f"{self.label.upper()}-leg, {self.get_role_display().lower()}"
