import unicodedata

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Lower


def refuse_odd_name(name: str) -> None:
    """Refuse a name that a menu cannot show as it is: with control characters, or with nothing to be seen."""
    if odd := [char for char in name if unicodedata.category(char)[0] == "C"]:
        raise ValidationError(f"The name holds a character that cannot be seen ({odd[0]!r}); type it anew.")
    if not any(char.isalnum() for char in name):
        raise ValidationError(f"“{name}” has no letter or digit; give a name that says what is in the view.")


class SavedView(models.Model):
    """A search of the list of conversations that somebody gave a name: filters, search, columns and order."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="saved_views")
    name = models.CharField(max_length=60, validators=[refuse_odd_name])
    query = models.CharField(max_length=2000, blank=True, help_text="What stands behind the ? of the list’s address.")
    is_shared = models.BooleanField("shared", default=False, help_text="Everybody who may see calls finds it too.")

    class Meta:
        ordering = [Lower("name"), "id"]
        constraints = [
            models.UniqueConstraint(
                "owner",
                Lower("name"),
                name="saved_view_name",
                violation_error_message="You have a view of this name already; choose another name.",
            )
        ]
        permissions = [("share_savedview", "Shares saved views")]

    def __str__(self) -> str:
        return self.name


class ListChoice(models.Model):
    """How a member of staff wants the list of conversations when its address does not say."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, related_name="list_choice")
    columns = models.JSONField(default=list, help_text="Names of columns in their order; none: the usual ones.")
    first_view = models.ForeignKey(
        SavedView, models.SET_NULL, null=True, blank=True, related_name="+", help_text="Opens with the list."
    )

    def __str__(self) -> str:
        return f"List of {self.user}"
