import hashlib
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Self

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.utils import timezone

from calls.choices import Scope
from calls.models.account import Account

PREFIX = "rl_"
MOST_CALLS_PER_MINUTE = 1_000_000
LONGEST_OVERLAP_HOURS = 30 * 24
"""How long at most a key that was replaced goes on."""


class ApiKey(models.Model):
    """A program's key to the API. Only its digest is kept: the key itself is shown once, when it is made.

    When it is rotated it stays the same row with a new text, and its former text goes on for a while beside the new
    one: what the program owns, its limit included, stays one.
    """

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
    issued_at = models.DateTimeField(default=timezone.now, editable=False, help_text="When its present text was made.")
    expires_at = models.DateTimeField("expires", null=True, blank=True, help_text="Empty: it does not expire.")
    calls_per_minute = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MOST_CALLS_PER_MINUTE)],
        help_text="How many requests it may make in a minute. Empty: as many as API_RATE_PER_MINUTE says.",
    )
    former_hint = models.CharField(max_length=12, blank=True, editable=False)
    # No text is no value here: most keys have none, and no two may have the same.
    former_digest = models.CharField(max_length=64, unique=True, null=True, editable=False)  # noqa: DJ001
    former_expires_at = models.DateTimeField(null=True, editable=False)
    former_used_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["name"]
        verbose_name = "API key"

    def __str__(self) -> str:
        return self.name

    @classmethod
    def issue(
        cls,
        name: str,
        scopes: list[Scope],
        *,
        accounts: Iterable[Account] = (),
        expires_at: datetime | None = None,
        calls_per_minute: int | None = None,
    ) -> tuple["ApiKey", str]:
        """Make a key and return it with its text, which cannot be had again. No accounts: it reads what is of all."""
        text = _new_text()
        with transaction.atomic():  # without its accounts it would read everything
            key = cls.objects.create(
                name=name,
                hint=hint_of(text),
                digest=digest_of(text),
                scopes=sorted(scope.value for scope in scopes),
                expires_at=expires_at,
                calls_per_minute=calls_per_minute,
            )
            key.accounts.set(accounts)
        return key, text

    @classmethod
    def of_text(cls, text: str) -> Self | None:
        """Return the key that has or had this text, whether or not it may still be used."""
        digest = digest_of(text)
        return cls.objects.filter(models.Q(digest=digest) | models.Q(former_digest=digest)).first()

    @transaction.atomic
    def rotate(self, overlap: timedelta) -> str:
        """Give the key a new text and return it; the former one goes on for ``overlap``, but not past its own expiry.

        A key that expires is given as long again as it had. A former text that was still going on ends.
        """
        key = type(self).objects.select_for_update().get(pk=self.pk)
        now, text = timezone.now(), _new_text()
        self.former_hint, self.former_digest = key.hint, key.digest
        self.former_expires_at = min(filter(None, [now + overlap, key.expires_at]))
        self.former_used_at = None
        self.expires_at = key.expires_at and now + (key.expires_at - key.issued_at)
        self.hint, self.digest, self.issued_at = hint_of(text), digest_of(text), now
        self.save(update_fields=[*FORMER_FIELDS, "expires_at", "hint", "digest", "issued_at"])
        return text

    def expiry_of(self, text: str) -> datetime | None:
        """Return when this text, its present or its former one, stops being good; ``None``: never."""
        return self.former_expires_at if digest_of(text) == self.former_digest else self.expires_at

    @property
    def has_expired(self) -> bool:
        """Whether its time is over; its former text never outlives it."""
        return self.expires_at is not None and self.expires_at <= timezone.now()

    @property
    def has_former(self) -> bool:
        """Whether the text that it had before it was rotated is still good."""
        return self.former_expires_at is not None and self.former_expires_at > timezone.now()


FORMER_FIELDS = ["former_hint", "former_digest", "former_expires_at", "former_used_at"]


def digest_of(text: str) -> str:
    """Return the digest by which a key is looked up; nothing is ever compared in plain text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def hint_of(text: str) -> str:
    """Return the first characters of a key's text, which tell keys apart and give nothing away."""
    return text[:8]


def _new_text() -> str:
    return PREFIX + secrets.token_urlsafe(32)
