from django.db import models


class Change(models.Model):
    """One change of one conversation, in the order of commits within an account: see ``calls.changes``."""

    class Kind(models.TextChoices):
        """What became of the conversation."""

        CREATED = "created", "Created"
        UPDATED = "updated", "Updated"
        CORRECTED = "corrected", "Corrected"
        MERGED = "merged", "Merged"
        ERASED = "erased", "Erased"

    # No index of its own: the one below begins with it.
    account = models.ForeignKey("calls.Account", models.PROTECT, db_index=False, related_name="+")
    conversation = models.UUIDField(help_text="No foreign key: it may be gone, and the change stays.")
    kind = models.CharField(max_length=9, choices=Kind)
    steps = models.CharField(
        max_length=22, blank=True, help_text="Which of started, answered and ended came with it; commas between them."
    )
    into = models.UUIDField(null=True, help_text="The conversation that it was merged into.")
    changed_at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(fields=["account", "id"], name="change_feed"),
            # For sweeping; new conversations have ids near each other, so that it grows at one end.
            models.Index(fields=["conversation", "id"], name="change_of_conversation"),
        ]

    def __str__(self) -> str:
        return f"{self.conversation} {self.kind}"
