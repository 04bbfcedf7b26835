from django.db import models


class Contact(models.Model):
    """Somebody we talk to, with all their numbers."""

    name = models.CharField(max_length=120, blank=True)
    company = models.CharField(max_length=120, blank=True)
    note = models.TextField(max_length=4000, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name", "company", "id"]

    def __str__(self) -> str:
        return ", ".join(filter(None, [self.name, self.company])) or "Contact without a name"


class ContactNumber(models.Model):
    """A number of a party, as conversations have it. Its page is found by its id, so that no address holds a number."""

    number = models.CharField(max_length=64, unique=True)
    contact = models.ForeignKey(Contact, models.SET_NULL, null=True, blank=True, related_name="numbers")

    class Meta:
        ordering = ["number"]
        verbose_name = "number"

    def __str__(self) -> str:
        return f"Number {self.pk}"  # the audit log repeats it, and must hold no number
