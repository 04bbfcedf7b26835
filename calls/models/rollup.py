from django.db import models


class Rollup(models.Model):
    """Figures of the calls that started in one slot of time. Derived from them by ``calls.rollups``, and only there."""

    class Kind(models.TextChoices):
        TOTAL = "total", "All calls"
        AGENT = "agent", "By agent"
        DID = "did", "By DID"
        CAMPAIGN = "campaign", "By campaign"

    account = models.ForeignKey("calls.Account", models.CASCADE, db_index=False, related_name="+")
    kind = models.CharField(max_length=8, choices=Kind)
    slot = models.BigIntegerField(help_text="The number of the slot, counted by calls.rollups.")
    key = models.CharField(max_length=255, blank=True, help_text="The agent's id, the DID or the campaign.")
    cost_unit = models.CharField(
        max_length=12, blank=True, help_text="Calls without a cost are counted under the account's unit."
    )
    calls = models.PositiveIntegerField()
    live = models.PositiveIntegerField()
    answered = models.PositiveIntegerField()
    missed = models.PositiveIntegerField()
    busy = models.PositiveIntegerField()
    failed = models.PositiveIntegerField()
    cancelled = models.PositiveIntegerField()
    voicemail = models.PositiveIntegerField()
    unknown = models.PositiveIntegerField()
    inbound_missed = models.PositiveIntegerField(help_text="Inbound calls missed or gone to voicemail.")
    talk_seconds = models.PositiveIntegerField()
    answered_talk_seconds = models.PositiveIntegerField(help_text="Of the answered calls only.")
    ring_seconds = models.PositiveIntegerField()
    rung = models.PositiveIntegerField(help_text="Calls whose ringing is known.")
    paid = models.PositiveIntegerField(help_text="Calls that had a cost.")
    cost = models.DecimalField(max_digits=18, decimal_places=6, null=True, help_text="Null: no call had one.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["kind", "account", "slot", "key", "cost_unit"], name="rollup_identity")
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of slot {self.slot}"


class RollupProgress(models.Model):
    """Up to when an account's slots are worked out; calls that started later are counted when figures are asked for."""

    account = models.OneToOneField("calls.Account", models.CASCADE, primary_key=True, related_name="+")
    until = models.DateTimeField()

    def __str__(self) -> str:
        return f"worked out until {self.until}"


class StaleSlot(models.Model):
    """A slot whose calls have changed since its figures were worked out: until that is done again, they are counted.

    Written in the transaction that changes the calls, so that nobody sees the one without the other.
    """

    account = models.ForeignKey("calls.Account", models.CASCADE, db_index=False, related_name="+")
    seconds = models.PositiveIntegerField(help_text="The length of its kind of slot.")
    slot = models.BigIntegerField(help_text="Its number, counted by calls.rollups.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "seconds", "slot"], name="stale_slot_identity")]

    def __str__(self) -> str:
        return f"slot {self.slot} of {self.seconds} s"
