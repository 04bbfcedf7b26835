from django.conf import settings
from django.db import models


class Team(models.Model):
    """Agents who work together under a supervisor, of one account or of several."""

    name = models.CharField(max_length=100, unique=True)
    agents = models.ManyToManyField("calls.Agent", blank=True, related_name="teams")

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class StaffAccess(models.Model):
    """Which accounts, team and agents a member of staff is concerned with; the groups say what that lets them see."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, related_name="access")
    accounts = models.ManyToManyField(
        "calls.Account",
        blank=True,
        related_name="+",
        help_text="A viewer or manager sees the calls of these accounts, and of no other.",
    )
    team = models.ForeignKey(
        Team,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="staff",
        help_text="A supervisor sees the calls in which an agent of this team took part.",
    )
    agents = models.ManyToManyField(
        "calls.Agent",
        blank=True,
        related_name="+",
        help_text="Who this person is in the calls. An agent sees the calls in which one of these took part.",
    )
    is_code_required = models.BooleanField(
        "code from an app required",
        default=False,
        help_text="At the next log-in this person must set up an app that shows codes, and use it from then on.",
    )

    class Meta:
        verbose_name = verbose_name_plural = "access"

    def __str__(self) -> str:
        return f"access of {self.user}"


class StaffSession(models.Model):
    """One place at which a member of staff is logged in. Without its row the session counts no more."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    token = models.CharField(max_length=43, unique=True, editable=False)
    began_at = models.DateTimeField()
    seen_at = models.DateTimeField(help_text="To within some minutes.")

    class Meta:
        ordering = ["-began_at", "-id"]

    def __str__(self) -> str:
        return f"session of {self.user}"
