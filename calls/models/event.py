from django.db import models

from calls.choices import EventKind


class Event(models.Model):
    """Something that happened on a leg while it was up. Derived; see ``Conversation``."""

    # No index of its own: the one below begins with it.
    account = models.ForeignKey("calls.Account", models.PROTECT, db_index=False, related_name="+")
    # No index of its own: the constraint below begins with it.
    conversation = models.ForeignKey("calls.Conversation", models.CASCADE, db_index=False, related_name="events")
    leg = models.ForeignKey("calls.Leg", models.CASCADE, null=True, blank=True, related_name="events")
    kind = models.CharField(max_length=19, choices=EventKind)
    leg_external_id = models.CharField(max_length=255)
    leg_label = models.CharField(max_length=1)
    provider_status = models.CharField(max_length=64)
    occurred_at = models.DateTimeField(help_text="The provider's clock where it tells this moment, else our arrival.")
    received_at = models.DateTimeField(help_text="Our clock, at the first delivery that told of it.")
    details = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["-occurred_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["conversation", "kind", "leg_external_id", "leg_label", "provider_status"],
                name="event_identity",
            )
        ]
        indexes = [
            models.Index(fields=["-occurred_at", "-id"], name="event_newest"),
            models.Index(fields=["account", "-occurred_at", "-id"], name="event_account"),
            models.Index(fields=["leg_external_id"], name="event_leg_external_id"),
        ]

    def __str__(self) -> str:
        return self.get_kind_display()
