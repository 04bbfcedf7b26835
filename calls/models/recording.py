from django.db import models


class Recording(models.Model):
    """What is known of the recording, or voicemail, of a call: whether the provider serves it. Kept up by
    ``calls.recordings`` alone; the recording itself stays at the provider, and its address on the conversation.
    """

    class State(models.TextChoices):
        """Whether it can be played."""

        PENDING = "pending", "Pending"
        READY = "ready", "Ready"
        EXPIRED = "expired", "Expired"
        FAILED = "failed", "Failed"

    conversation = models.OneToOneField(
        "calls.Conversation", models.CASCADE, primary_key=True, related_name="recording_state"
    )
    state = models.CharField(max_length=7, choices=State, default=State.PENDING)
    words = models.CharField(max_length=300, blank=True, help_text="Why it cannot be played, and what to do.")
    content_type = models.CharField(max_length=100, blank=True)
    size_bytes = models.PositiveBigIntegerField("size", null=True, blank=True)
    checked_at = models.DateTimeField("checked", null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0, help_text="Times that the watch has asked for it.")
    due_at = models.DateTimeField(null=True, blank=True, help_text="When the watch asks for it next; null: no more.")

    class Meta:
        # By the time that the call came in: ids of conversations sort by it.
        ordering = ["-conversation"]
        default_permissions = ("view",)
        indexes = [
            models.Index(fields=["due_at"], name="recording_due", condition=models.Q(due_at__isnull=False)),
            models.Index(fields=["state", "-conversation"], name="recording_state"),
        ]

    def __str__(self) -> str:
        return f"{self.get_state_display()} recording"
