from django.db import models


class IdempotentRequest(models.Model):
    """A write of a program that carried an ``Idempotency-Key``, with its answer: a repeat gets that, and does nothing.

    It is stored with what the write did, in one transaction; of a write that was refused nothing is kept.
    """

    api_key = models.ForeignKey("calls.ApiKey", models.CASCADE, db_index=False, related_name="+")
    key = models.CharField(max_length=255)
    digest = models.CharField(max_length=64, help_text="SHA-256 of method, address and body.")
    status = models.PositiveSmallIntegerField(default=0)
    headers = models.JSONField(default=dict)
    answer = models.TextField(blank=True, help_text="Its body, sealed: it may hold a secret that is shown once.")
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["api_key", "key"], name="idempotent_request_once")]

    def __str__(self) -> str:
        return f"{self.key} of {self.api_key}"
