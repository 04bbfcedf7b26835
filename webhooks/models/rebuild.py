"""Rebuilds: which calls were derived again from which deliveries, what that changed, and what was there before."""

from django.conf import settings
from django.db import models
from django.utils import timezone

from webhooks.models.delivery import Delivery


class Rebuild(models.Model):
    """One run over stored deliveries: a dry run that only says what would change, or one that applies it.

    It is its own queue entry: whoever extends ``lease_until`` works on it, and ``cursor`` says how far that has come,
    so that another worker goes on from the last committed batch.
    """

    class State(models.TextChoices):
        QUEUED = "queued", "Waiting"
        RUNNING = "running", "Running"
        DONE = "done", "Done"
        CANCELLED = "cancelled", "Cancelled"
        FAILED = "failed", "Failed"

    # Null: all accounts.
    account = models.ForeignKey("calls.Account", models.CASCADE, null=True, blank=True, related_name="+")
    # No constraint: the rebuild itself may merge this call into another, and the record of it has to stay.
    conversation = models.ForeignKey(
        "calls.Conversation", models.DO_NOTHING, null=True, blank=True, db_constraint=False, related_name="+"
    )
    since = models.DateTimeField(
        "received from", null=True, blank=True, help_text="Only deliveries received at or after this. Empty: all."
    )
    until = models.DateTimeField(
        "received before", null=True, blank=True, help_text="Only deliveries received before this. Empty: until now."
    )
    is_dry_run = models.BooleanField("dry run", default=True)
    applies = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="applied_by")
    undoes = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="undone_by")
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="Empty: by the command.",
    )
    state = models.CharField(max_length=9, choices=State, default=State.QUEUED)
    reason = models.TextField(blank=True, help_text="Why it failed.")
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0, help_text="Turns since the last batch that was committed.")
    cursor = models.JSONField(
        null=True, blank=True, help_text="What was done last: account, time of arrival, id; of an undo, its row."
    )
    deliveries_total = models.PositiveBigIntegerField(null=True, blank=True)
    deliveries_done = models.PositiveBigIntegerField(default=0)
    calls_changed = models.PositiveBigIntegerField(default=0)

    class Meta:
        ordering = ["-pk"]
        indexes = [
            models.Index(fields=["id"], name="rebuild_open", condition=models.Q(state__in=["queued", "running"]))
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"

    @property
    def kind(self) -> str:
        """What it is, in a word or two."""
        return "Dry run" if self.is_dry_run else "Undo" if self.undoes_id else "Rebuild"

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen in it."""
        return self.state not in {self.State.QUEUED, self.State.RUNNING}


class RebuildChange(models.Model):
    """One call that a rebuild changed, made or removed, with every field that differs."""

    class Kind(models.TextChoices):
        CHANGED = "changed", "Changed"
        NEW = "new", "New call"
        GONE = "gone", "No longer a call of its own"

    rebuild = models.ForeignKey(Rebuild, models.CASCADE, related_name="changes")
    # After a dry run there may be no such call: one that would be new has an id that was never used.
    conversation = models.ForeignKey("calls.Conversation", models.DO_NOTHING, db_constraint=False, related_name="+")
    kind = models.CharField(max_length=7, choices=Kind)
    number = models.CharField(max_length=64, blank=True, help_text="The customer's, by which staff know the call.")
    started_at = models.DateTimeField()
    joined = models.UUIDField(null=True, blank=True, help_text="The call that one which is gone is now a part of.")
    fields = models.JSONField(help_text="[part, field, before, after] each; part is empty for the call itself.")

    class Meta:
        ordering = ["pk"]
        constraints = [models.UniqueConstraint(fields=["rebuild", "conversation"], name="rebuild_change_call")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.conversation_id}"


class RebuildSource(models.Model):
    """One delivery that a rebuild read differently, or had to leave as it was: what an undo goes by."""

    rebuild = models.ForeignKey(Rebuild, models.CASCADE, related_name="sources")
    delivery = models.ForeignKey(Delivery, models.CASCADE, db_constraint=False, related_name="+")
    status_before = models.CharField(max_length=11, choices=Delivery.Status)
    status_after = models.CharField(max_length=11, choices=Delivery.Status)
    before = models.JSONField(help_text="Its stored records and its error, as they were.")
    after = models.JSONField()
    problem = models.TextField(blank=True, help_text="Why it was left as it was.")
    is_notable = models.BooleanField(help_text="Whether its status or error changed, or it was left as it was.")

    class Meta:
        ordering = ["pk"]
        constraints = [models.UniqueConstraint(fields=["rebuild", "delivery"], name="rebuild_source_delivery")]
        indexes = [
            models.Index(fields=["rebuild", "id"], name="rebuild_source_notable", condition=models.Q(is_notable=True))
        ]

    def __str__(self) -> str:
        return f"{self.delivery_id}: {self.status_before} → {self.status_after}"


class RebuildAhead(models.Model):
    """A delivery beyond the cursor that was read together with an earlier one of its call."""

    rebuild = models.ForeignKey(Rebuild, models.CASCADE, related_name="+")
    delivery = models.ForeignKey(Delivery, models.CASCADE, db_constraint=False, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["rebuild", "delivery"], name="rebuild_ahead_delivery")]

    def __str__(self) -> str:
        return str(self.delivery_id)
