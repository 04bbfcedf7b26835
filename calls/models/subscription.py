from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone

from calls.choices import EventType
from calls.ids import new_id
from calls.models.channel import new_secret
from calls.sealing import seal, unseal

_NOTED = {
    *("cursor", "read_at", "failing_since", "failures", "last_error", "last_success_at", "resume_at", "lease_until"),
    *("last_milliseconds", "is_disabling_told"),
}


class Subscription(models.Model):
    """Where a program wants to be told of what happens, by signed webhooks."""

    class State(models.TextChoices):
        ACTIVE = "active", "Active"
        PAUSED = "paused", "Paused"
        DISABLED = "disabled", "Disabled"

    name = models.CharField(max_length=120)
    url = models.CharField("address", max_length=2000, help_text="Its https address, such as https://example.com/hook.")
    event_types = models.JSONField(default=list, help_text="What it is told of: see calls.choices.EventType.")
    accounts = models.ManyToManyField(
        "calls.Account", blank=True, related_name="+", help_text="Of these accounts. None: of all that its key may see."
    )
    filters = models.JSONField(
        default=dict,
        blank=True,
        help_text="Which conversations it is told of: lists of values by field; see calls.subscriptions.filters.",
    )
    sealed_secret = models.TextField(editable=False, help_text="See calls.sealing.")
    sealed_previous_secret = models.TextField(blank=True, editable=False)
    previous_until = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="Until then the previous secret signs along."
    )
    state = models.CharField(max_length=8, choices=State, default=State.ACTIVE)
    state_reason = models.CharField(max_length=500, blank=True, help_text="Why it is paused or disabled.")
    state_changed_at = models.DateTimeField(default=timezone.now, editable=False)
    is_disabling_told = models.BooleanField(
        default=True, editable=False, help_text="Whether the administrators were told that it was disabled."
    )
    api_key = models.ForeignKey(
        "calls.ApiKey",
        models.CASCADE,
        null=True,
        blank=True,
        related_name="subscriptions",
        help_text="Made with this key: it is told of what the key may see, and of nothing once the key is revoked.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    cursor = models.TextField(editable=False, help_text="Up to where it read the feed of changes: see calls.changes.")
    read_at = models.DateTimeField(
        default=timezone.now, editable=False, help_text="When it was last looked at what the feed has for it."
    )
    failing_since = models.DateTimeField(null=True, blank=True, editable=False)
    failures = models.PositiveIntegerField(default=0, editable=False, help_text="Attempts in a row that failed.")
    last_error = models.CharField(max_length=500, blank=True, editable=False)
    last_success_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_milliseconds = models.PositiveIntegerField(
        null=True, blank=True, editable=False, help_text="How long the last attempt took."
    )
    resume_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="Nothing is sent before: the receiver is failing."
    )
    lease_until = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="Until then one worker is sending to it."
    )

    class Meta:
        ordering = ["name", "id"]
        permissions = [("resend_message", "Sends messages of subscriptions again")]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **options: Any) -> None:
        """Save it; of a row that is there already, what its senders note is left alone: they may be at it."""
        if not self._state.adding and options.get("update_fields") is None:
            options["update_fields"] = [
                field.name for field in self._meta.concrete_fields if field.name not in _NOTED and not field.primary_key
            ]
        super().save(*args, **options)

    @property
    def secrets(self) -> list[str]:
        """The secrets that sign now, the newest first. Raises ``SealBroken`` under another SECRET_KEY."""
        sealed = [self.sealed_secret]
        if self.previous_until and timezone.now() < self.previous_until:
            sealed.append(self.sealed_previous_secret)
        return [unseal(one, settings.SECRET_KEY) for one in sealed]

    def renew_secret(self, overlap: timedelta = timedelta(0)) -> str:
        """Give it a new secret, return that, and save nothing; the present one signs along for ``overlap``."""
        secret = new_secret()
        self.sealed_previous_secret = self.sealed_secret if overlap else ""
        self.previous_until = timezone.now() + overlap if overlap else None
        self.sealed_secret = seal(secret, settings.SECRET_KEY)
        return secret


class Message(models.Model):
    """One webhook to one subscription, with its bytes; written with its cause, sent afterwards."""

    class State(models.TextChoices):
        PENDING = "pending", "Waiting"
        DELIVERED = "delivered", "Delivered"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"

    id = models.BigAutoField(primary_key=True, help_text="Messages of a subscription are sent in this order.")
    message_id = models.UUIDField(
        default=new_id,
        unique=True,
        editable=False,
        help_text="The webhook-id: the same at every attempt, so that a receiver can drop a copy.",
    )
    # No index of its own: those below begin with it.
    subscription = models.ForeignKey(Subscription, models.CASCADE, db_index=False, related_name="messages")
    account = models.ForeignKey("calls.Account", models.PROTECT, null=True, db_index=False, related_name="+")
    type = models.CharField(max_length=24, choices=EventType)
    about = models.CharField(
        max_length=48,
        blank=True,
        help_text="What it speaks of: the id of a conversation, “alert 7”. Of messages about the same thing one waits "
        "for the one before.",
    )
    body = models.BinaryField(help_text="What is signed and sent.")
    created_at = models.DateTimeField(default=timezone.now)
    state = models.CharField(max_length=9, choices=State, default=State.PENDING)
    attempts_made = models.PositiveIntegerField(default=0)
    first_attempt_at = models.DateTimeField(null=True, help_text="Of this round of attempts; a resend begins another.")
    next_attempt_at = models.DateTimeField(default=timezone.now)
    delivered_at = models.DateTimeField(null=True, blank=True)
    last_error = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["subscription", "-id"], name="message_newest"),
            models.Index(
                fields=["subscription", "next_attempt_at", "id"],
                name="message_due",
                condition=models.Q(state="pending"),
            ),
            models.Index(
                fields=["subscription", "about", "id"], name="message_turn", condition=models.Q(state="pending")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_type_display()}, {self.message_id}"


class Attempt(models.Model):
    """One try to deliver a message: what was sent, and what came back."""

    message = models.ForeignKey(Message, models.CASCADE, related_name="attempts")
    started_at = models.DateTimeField()
    milliseconds = models.PositiveIntegerField()
    request_headers = models.JSONField(help_text="As sent. The signature tells nothing of the secret.")
    status = models.PositiveSmallIntegerField(null=True, help_text="Of the answer; null: there was none.")
    error = models.CharField(max_length=500, blank=True, help_text="Why it failed; empty: it was delivered.")
    answer = models.TextField(blank=True, help_text="How the answer’s body begins.")

    class Meta:
        ordering = ["-started_at", "-id"]

    def __str__(self) -> str:
        return f"{self.message_id}: {self.status or self.error}"
