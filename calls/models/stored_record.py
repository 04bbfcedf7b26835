from django.db import models


class StoredRecord(models.Model):
    """A record as ``calls.intake`` keeps it. A conversation is a pure function of the set of its stored records.

    That one table makes the merge independent of order, repetition and batches by construction; it says where each
    value of a call came from; and it lets a delivery be read again without touching its neighbours.
    """

    account = models.ForeignKey("calls.Account", models.PROTECT, related_name="+")
    conversation = models.ForeignKey(
        "calls.Conversation",
        models.CASCADE,
        null=True,
        related_name="records",
        help_text="Null while it is parked: it names a leg that nothing else has spoken of yet.",
    )
    parked_under = models.CharField(max_length=300, blank=True, help_text="The alias it waits for while parked.")
    source = models.UUIDField(null=True, help_text="The delivery it came from; null for our own inferences.")
    position = models.PositiveSmallIntegerField(default=0, help_text="Its place among the records of the delivery.")
    received_at = models.DateTimeField()
    body = models.TextField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["source", "position"], name="record_source")]
        indexes = [
            models.Index(
                fields=["account", "parked_under"], name="record_parked", condition=models.Q(conversation__isnull=True)
            )
        ]

    def __str__(self) -> str:
        return f"record {self.position} of {self.source}"
