"""What an account's payloads look like, so that a change is noticed (``webhooks.drift``)."""

from django.db import models


class PayloadField(models.Model):
    """A field that payloads of one shape have held, with one sort of value; or, without a name, the shape itself.

    The payloads of a shape are numbered as they are processed, each once: how many came since a field was last seen is
    a difference of two numbers.
    """

    account = models.ForeignKey("calls.Account", models.CASCADE, related_name="+")
    shape = models.CharField(max_length=100, help_text="The words that tell what kind of payload it is.")
    name = models.CharField(max_length=100, blank=True, help_text="Empty: any payload of the shape.")
    sort = models.CharField(max_length=40, blank=True, help_text="Such as text, or time in seconds.")
    times = models.PositiveBigIntegerField(help_text="How many payloads of the shape held it.")
    first_number = models.PositiveBigIntegerField(help_text="Number, within the shape, of the first that held it.")
    last_number = models.PositiveBigIntegerField()
    first_seen_at = models.DateTimeField(help_text="Arrival of the first delivery that held it.")
    last_seen_at = models.DateTimeField()
    first_delivery = models.UUIDField()
    last_delivery = models.UUIDField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "shape", "name", "sort"], name="payload_field_once")]

    def __str__(self) -> str:
        return f"{self.shape}: {self.name} {self.sort}".rstrip(": ")
