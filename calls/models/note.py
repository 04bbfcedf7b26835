from django.conf import settings
from django.db import models


class CallNote(models.Model):
    """What a member of staff or a program has to say of a call. Its author may change it and take it back."""

    conversation = models.ForeignKey("calls.Conversation", models.CASCADE, related_name="notes")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    api_key = models.ForeignKey(
        "calls.ApiKey", models.SET_NULL, null=True, related_name="+", help_text="The key of the program that wrote it."
    )
    text = models.TextField(max_length=2000)
    created_at = models.DateTimeField(auto_now_add=True)
    edited_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["created_at", "id"]
        verbose_name = "note"

    def __str__(self) -> str:
        return self.text


class StaffOutcome(models.Model):
    """What came of a call, as staff see it; how it ended is the provider's disposition. None: nobody has said."""

    class Kind(models.TextChoices):
        """What came of it."""

        RESOLVED = "resolved", "Resolved"
        CALL_BACK = "call_back", "Call back"
        SALE = "sale", "Sale"
        NO_INTEREST = "no_interest", "No interest"
        WRONG_NUMBER = "wrong_number", "Wrong number"
        OTHER = "other", "Other"

    conversation = models.OneToOneField(
        "calls.Conversation", models.CASCADE, primary_key=True, related_name="staff_outcome"
    )
    kind = models.CharField("outcome set by staff", max_length=12, choices=Kind, db_index=True)
    text = models.CharField(max_length=200, blank=True)
    set_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    api_key = models.ForeignKey(
        "calls.ApiKey", models.SET_NULL, null=True, related_name="+", help_text="The key of the program that set it."
    )
    set_at = models.DateTimeField()

    class Meta:
        verbose_name = "outcome set by staff"

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.text}" if self.text else self.get_kind_display()
