from django.conf import settings
from django.db import models
from django.db.models import F, Q


class MissedCaller(models.Model):
    """Somebody who called us, was not reached and is owed a call: one entry of the worklist.

    Derived by ``calls.worklist`` from the account's calls with that number and from what staff did (``WorklistStep``);
    never edited. An entry lasts from the first missed call until somebody of the account talks to the caller, or staff
    close it; the next missed call opens a new one.
    """

    class Closing(models.TextChoices):
        """Why an entry is not open any more; the first two are found out, the others are said by staff."""

        CALLED_BACK = "called_back", "Called back"
        GOT_THROUGH = "got_through", "Got through"
        ELSEWHERE = "elsewhere", "Reached otherwise"
        WRONG_NUMBER = "wrong_number", "Wrong number"
        SPAM = "spam", "Spam"
        NO_ANSWER = "no_answer", "Does not answer"
        OTHER = "other", "Other"

    account = models.ForeignKey("calls.Account", models.PROTECT, db_index=False, related_name="missed_callers")
    customer_number = models.CharField("caller", max_length=64)
    did = models.CharField("DID", max_length=64, blank=True)
    misses = models.PositiveIntegerField("missed calls")
    first_missed_at = models.DateTimeField()
    last_missed_at = models.DateTimeField()
    due_at = models.DateTimeField(
        null=True, help_text="Until when a call back was promised: see Account.callback_minutes. Null: no promise."
    )
    attempts = models.PositiveIntegerField(help_text="Calls to the number that were not answered.")
    first_attempt_at = models.DateTimeField(null=True, help_text="Start of our first call to it, answered or not.")
    last_attempt_at = models.DateTimeField(null=True)
    reached_at = models.DateTimeField(null=True)
    reached_by = models.ForeignKey(
        "calls.Conversation", models.SET_NULL, null=True, related_name="+", help_text="The call that closed it."
    )
    closed_at = models.DateTimeField(null=True)
    closing = models.CharField(max_length=12, choices=Closing, blank=True, help_text="Why it is closed.")
    assigned_to = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="missed_callers")
    snoozed_until = models.DateTimeField(null=True, help_text="Until then it is out of sight, unless the caller rings.")

    class Meta:
        ordering = [F("due_at").asc(nulls_last=True), "first_missed_at", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "customer_number", "did"],
                name="missed_caller_open_once",
                condition=Q(closed_at=None),
            ),
            models.UniqueConstraint(
                fields=["account", "customer_number", "did", "first_missed_at"], name="missed_caller_identity"
            ),
        ]
        indexes = [
            models.Index(
                fields=["due_at", "first_missed_at", "id"], name="missed_caller_open", condition=Q(closed_at=None)
            ),
            models.Index(fields=["account", "first_missed_at"], name="missed_caller_account"),
            models.Index(
                fields=["-closed_at", "-id"], name="missed_caller_closed", condition=Q(closed_at__isnull=False)
            ),
        ]
        permissions = [
            ("work_missed", "Works the list of missed callers"),
            ("assign_missed", "Assigns missed callers to others"),
        ]

    def __str__(self) -> str:
        return f"Missed caller of {self.account}"


class WorklistStep(models.Model):
    """Something staff did about a missed caller: never changed, and the only place where it is kept.

    It is kept by caller and DID, not by entry, so that it outlives whatever late reports do to the entries: a step
    belongs to the entry that had begun when it was made.
    """

    class Kind(models.TextChoices):
        """What was done."""

        TAKE = "take", "Took it"
        ASSIGN = "assign", "Assigned it"
        GIVE_BACK = "give_back", "Gave it back"
        SNOOZE = "snooze", "Put it off"
        WAKE = "wake", "Took it up again"
        CLOSE = "close", "Closed it"
        REOPEN = "reopen", "Opened it again"
        COMMENT = "comment", "Commented"

    account = models.ForeignKey("calls.Account", models.PROTECT, db_index=False, related_name="+")
    customer_number = models.CharField(max_length=64)
    did = models.CharField(max_length=64, blank=True)
    at = models.DateTimeField()
    kind = models.CharField(max_length=9, choices=Kind)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    api_key = models.ForeignKey(
        "calls.ApiKey", models.SET_NULL, null=True, related_name="+", help_text="The key of the program that did it."
    )
    assigned_to = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    until = models.DateTimeField(null=True)
    closing = models.CharField(max_length=12, choices=MissedCaller.Closing, blank=True)
    text = models.TextField(max_length=2000, blank=True)

    class Meta:
        ordering = ["at", "id"]
        indexes = [models.Index(fields=["account", "customer_number", "did", "at"], name="worklist_step")]

    def __str__(self) -> str:
        return self.get_kind_display()
