from django.db import models

from calls.masking import shown
from calls.numbers import display


class Agent(models.Model):
    """One of our people, as an account's provider knows them. Made on first sight; staff add name and phone."""

    account = models.ForeignKey("calls.Account", models.PROTECT, related_name="agents")
    external_id = models.CharField(max_length=255, help_text="The provider's id: a user, an extension, or a number.")
    name = models.CharField(max_length=120, blank=True)
    extension = models.CharField(max_length=32, blank=True)
    phone = models.CharField(
        max_length=64, blank=True, help_text="E.164, such as +919000000001; calls to it are counted as this agent's."
    )

    class Meta:
        ordering = ["account_id", "external_id"]
        constraints = [models.UniqueConstraint(fields=["account", "external_id"], name="agent_external_id")]

    def __str__(self) -> str:
        return self.name or shown(display(self.external_id))
