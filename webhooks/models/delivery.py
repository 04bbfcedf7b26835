"""The inbox: every HTTP request from a provider, as it came."""

from django.db import models

from calls.ids import new_id


class Delivery(models.Model):
    """One HTTP request from a provider, byte for byte. Written before the answer; only its status changes later.

    Or one page of the provider's own list of calls, which we asked for: its method is ``PULL``, its query says what was
    asked, its body is the answer.
    """

    PULL = "PULL"

    class Status(models.TextChoices):
        PENDING = "pending", "Pending"
        PROCESSED = "processed", "Processed"
        IGNORED = "ignored", "Ignored"
        QUARANTINED = "quarantined", "Quarantined"
        REPEAT = "repeat", "Repeat"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    # No constraint in the database: it would lock the account's row for every delivery, and accounts are never
    # deleted while they have deliveries (PROTECT sees to that).
    # No index of its own either: two of those below begin with it.
    account = models.ForeignKey("calls.Account", models.PROTECT, db_constraint=False, db_index=False, related_name="+")
    status = models.CharField(max_length=11, choices=Status, default=Status.PENDING)
    received_at = models.DateTimeField()
    processed_at = models.DateTimeField(null=True, blank=True)
    method = models.CharField(max_length=8)
    content_type = models.CharField(max_length=255, blank=True)
    remote_address = models.CharField(max_length=45, blank=True)
    query = models.BinaryField(default=b"")
    body = models.BinaryField(default=b"")
    size = models.PositiveIntegerField(help_text="Bytes of the body as sent.")
    digest = models.CharField(max_length=64, help_text="SHA-256 of the body, or of the query when there is no body.")
    attempts = models.PositiveSmallIntegerField(default=0)
    lease_until = models.DateTimeField(null=True, blank=True)
    repeats = models.PositiveIntegerField(default=0, help_text="How often the same bytes came again.")
    repeat_of = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="+")
    error_class = models.CharField(max_length=64, blank=True)
    error_field = models.CharField(max_length=255, blank=True)
    error_value = models.CharField(max_length=255, blank=True)
    error_message = models.TextField(blank=True)

    class Meta:
        ordering = ["-received_at", "-id"]
        verbose_name_plural = "deliveries"
        indexes = [
            # With status and account, so that the figures of the inbox are counted without the rows themselves.
            models.Index(fields=["-received_at", "-id", "status", "account"], name="delivery_newest"),
            models.Index(fields=["account", "-received_at", "-id"], name="delivery_account"),
            models.Index(fields=["account", "digest"], name="delivery_digest"),
            models.Index(fields=["received_at", "id"], name="delivery_pending", condition=models.Q(status="pending")),
            # Any of these may be rare: the newest fifty would be looked for in the whole table.
            *(
                models.Index(
                    fields=["-received_at", "-id"], name=f"delivery_{status}", condition=models.Q(status=status)
                )
                for status in ("quarantined", "ignored", "repeat")
            ),
        ]

    def __str__(self) -> str:
        return f"delivery of {self.received_at:%Y-%m-%d %H:%M:%S} UTC"
