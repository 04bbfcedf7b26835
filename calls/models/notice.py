from django.db import models


class Notice(models.Model):
    """What one channel is told of one transition of an alert; written with the transition, sent afterwards."""

    class Transition(models.TextChoices):
        OPENED = "opened", "Opened"
        CLEARED = "cleared", "Cleared"

    class State(models.TextChoices):
        DUE = "due", "Due"
        SENT = "sent", "Sent"
        GIVEN_UP = "given_up", "Given up"

    alert = models.ForeignKey("calls.Alert", models.CASCADE, related_name="notices")
    channel = models.ForeignKey("calls.Channel", models.CASCADE, related_name="notices")
    transition = models.CharField(max_length=8, choices=Transition)
    state = models.CharField(max_length=8, choices=State, default=State.DUE)
    created_at = models.DateTimeField(auto_now_add=True)
    due_at = models.DateTimeField(help_text="When it is to be tried next.")
    message_id = models.UUIDField(
        null=True,
        help_text="Of the message that it goes out in, given at the first try. Notices of one message share it, and "
        "every later try bears it again, so that a receiver can drop a copy.",
    )
    attempts = models.PositiveSmallIntegerField(default=0)
    sent_at = models.DateTimeField(null=True, blank=True)
    last_error = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [models.UniqueConstraint(fields=["alert", "channel", "transition"], name="notice_once")]
        indexes = [
            models.Index(fields=["channel", "due_at"], name="notice_due", condition=models.Q(state="due")),
        ]

    def __str__(self) -> str:
        return f"{self.get_transition_display()}: {self.alert}"
