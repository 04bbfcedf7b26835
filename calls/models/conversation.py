from django.db import models

from calls.choices import Direction, Disposition, Reason, State
from calls.ids import new_id
from calls.masking import shown


class Tag(models.Model):
    """A word that staff put on conversations."""

    name = models.CharField(max_length=50, unique=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Conversation(models.Model):
    """The whole call, all its legs. Every column but ``tags`` is derived from its records by ``calls.summary``."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    # No index of its own: one of those below begins with it.
    account = models.ForeignKey("calls.Account", models.PROTECT, db_index=False, related_name="conversations")
    external_id = models.CharField("provider's id", max_length=255, blank=True)
    direction = models.CharField(max_length=8, choices=Direction, default=Direction.UNKNOWN)
    state = models.CharField(max_length=5, choices=State, default=State.LIVE)
    disposition = models.CharField(max_length=9, choices=Disposition, null=True, blank=True)  # noqa: DJ001 - null: live
    reason = models.CharField(max_length=20, choices=Reason, default=Reason.LIVE)
    customer_number = models.CharField(max_length=64, blank=True)
    did = models.CharField("DID", max_length=64, blank=True)
    agent = models.ForeignKey("calls.Agent", models.PROTECT, null=True, blank=True, related_name="conversations")
    started_at = models.DateTimeField()
    answered_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    ring_seconds = models.PositiveIntegerField(null=True, blank=True)
    talk_seconds = models.PositiveIntegerField(null=True, blank=True)
    duration_seconds = models.PositiveIntegerField(null=True, blank=True)
    cost = models.DecimalField(max_digits=18, decimal_places=6, null=True, blank=True)
    cost_unit = models.CharField(max_length=12, blank=True)
    recording = models.CharField(max_length=2000, blank=True)
    has_voicemail = models.BooleanField("voicemail", default=False)
    hangup_cause = models.CharField(max_length=255, blank=True)
    request_id = models.CharField(max_length=255, blank=True)
    extra_params = models.JSONField(default=dict, blank=True)
    flags = models.JSONField(default=list, blank=True)
    last_heard_at = models.DateTimeField(help_text="Arrival of the newest delivery that speaks of it.")
    tags = models.ManyToManyField(Tag, blank=True, related_name="conversations")

    class Meta:
        ordering = ["-started_at", "-id"]
        indexes = [
            models.Index(fields=["-started_at", "-id"], name="conversation_newest"),
            models.Index(fields=["account", "-started_at", "-id"], name="conversation_account"),
            models.Index(fields=["external_id"], name="conversation_external_id"),
            models.Index(fields=["customer_number"], name="conversation_customer"),
            models.Index(fields=["last_heard_at"], name="conversation_live", condition=models.Q(state="live")),
            models.Index(fields=["request_id"], name="conversation_request", condition=models.Q(request_id__gt="")),
        ]
        permissions = [
            ("see_all_calls", "Sees the calls of all accounts"),
            ("see_account_calls", "Sees the calls of the accounts assigned"),
            ("see_team_calls", "Sees the calls of the own team"),
            ("see_own_calls", "Sees the own calls"),
            ("see_numbers", "Sees phone numbers in full"),
            ("reveal_numbers", "Reveals masked numbers, one at a time"),
            ("play_recordings", "Plays recordings"),
            ("export_calls", "Exports calls"),
        ]

    def __str__(self) -> str:
        return f"{self.get_direction_display()} call, {shown(self.customer_number) or 'number withheld'}"


class ConversationAlias(models.Model):
    """An id by which the provider refers to a conversation."""

    account = models.ForeignKey("calls.Account", models.PROTECT, db_index=False, related_name="+")
    scheme = models.CharField(max_length=16)
    value = models.CharField(max_length=255)
    conversation = models.ForeignKey(Conversation, models.CASCADE, related_name="aliases")

    class Meta:
        # The value before the scheme: aliases are looked for by their values.
        constraints = [models.UniqueConstraint(fields=["account", "value", "scheme"], name="alias_unique")]

    def __str__(self) -> str:
        return f"{self.scheme} {self.value}"


class ConversationRedirect(models.Model):
    """The id of a conversation that turned out to be part of an older one; the API answers it with a redirect."""

    id = models.UUIDField(primary_key=True, editable=False)
    conversation = models.ForeignKey(Conversation, models.CASCADE, related_name="redirects")

    def __str__(self) -> str:
        return f"{self.id} → {self.conversation_id}"
