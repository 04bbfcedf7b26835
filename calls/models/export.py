from django.conf import settings
from django.db import models
from django.utils import timezone

from calls.choices import ExportFormat
from calls.ids import new_id


class Export(models.Model):
    """The rows of a list as a file, made in the background and kept for a while.

    It is its own queue entry: whoever extends ``lease_until`` works on it. ``attempts`` counts the turns; each begins
    from nothing, with a directory of its own, and only the newest may finish.
    """

    class State(models.TextChoices):
        QUEUED = "queued", "Waiting"
        RUNNING = "running", "Running"
        DONE = "done", "Ready"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"
        EXPIRED = "expired", "Expired"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    table = models.CharField(max_length=100, help_text="What the list is of, such as calls.conversation.")
    query = models.TextField(blank=True, help_text="The list's filters, as they stand in its address.")
    filters = models.TextField(blank=True, help_text="The same in words; may hold phone numbers.")
    format = models.CharField(max_length=6, choices=ExportFormat)
    zone = models.CharField(max_length=64, help_text="In which its times are written.")
    state = models.CharField(max_length=9, choices=State, default=State.QUEUED)
    problem = models.CharField(max_length=500, blank=True, help_text="Why it failed, and what to do.")
    rows_expected = models.PositiveBigIntegerField(null=True, blank=True)
    has_numbers = models.BooleanField(default=False, help_text="Whether phone numbers stand in it in full.")
    rows_done = models.PositiveBigIntegerField(default=0)
    size = models.PositiveBigIntegerField("bytes", null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    lease_until = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="When its file is removed.")

    class Meta:
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["user", "-created_at"], name="export_of_user"),
            models.Index(fields=["id"], name="export_open", condition=models.Q(state__in=["queued", "running"])),
        ]
        permissions = [("see_all_exports", "Sees and downloads the exports of everybody")]

    def __str__(self) -> str:
        return f"{self.table} as {self.get_format_display()}"

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will be written."""
        return self.state not in {self.State.QUEUED, self.State.RUNNING}
