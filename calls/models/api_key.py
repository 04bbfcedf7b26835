import hashlib
import secrets

from django.db import models

from calls.choices import Scope

PREFIX = "rl_"


class ApiKey(models.Model):
    """A program's key to the API. Only its digest is kept: the key itself is shown once, when it is made."""

    name = models.CharField(max_length=100, unique=True)
    hint = models.CharField(max_length=12, help_text="Its first characters, to tell keys apart.")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    scopes = models.JSONField(default=list)
    accounts = models.ManyToManyField(
        "calls.Account", blank=True, related_name="+", help_text="It reads what is of these accounts. None: of all."
    )
    is_active = models.BooleanField("active", default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name"]
        verbose_name = "API key"

    def __str__(self) -> str:
        return self.name

    @classmethod
    def issue(cls, name: str, scopes: list[Scope]) -> tuple["ApiKey", str]:
        """Make a key and return it with its text, which cannot be had again."""
        text = PREFIX + secrets.token_urlsafe(32)
        key = cls.objects.create(
            name=name, hint=text[:8], digest=digest_of(text), scopes=sorted(scope.value for scope in scopes)
        )
        return key, text


def digest_of(text: str) -> str:
    """Return the digest by which a key is looked up; nothing is ever compared in plain text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
