"""The webhook URLs of an account."""

import base64
import hashlib
import hmac
import secrets

from django.conf import settings
from django.db import models


class Endpoint(models.Model):
    """A webhook URL of an account. Two may be valid at once, so that one can be replaced without a gap.

    Only the token's digest is looked up. The token itself is not stored: it is worked out from a nonce and SECRET_KEY,
    so that staff can copy the URL again while a copy of the database alone opens nothing. A token that the operator
    chose, or one made under an earlier SECRET_KEY, keeps working and is not shown again.
    """

    account = models.ForeignKey("calls.Account", models.CASCADE, related_name="endpoints")
    nonce = models.CharField(max_length=32, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True, blank=True, help_text="From then on the URL answers 404.")

    class Meta:
        ordering = ["account_id", "created_at"]
        verbose_name = "webhook URL"
        verbose_name_plural = "webhook URLs"

    def __str__(self) -> str:
        return f"webhook URL of {self.created_at:%Y-%m-%d}" if self.created_at else "new webhook URL"

    @classmethod
    def issue(cls, account: models.Model, token: str | None = None) -> tuple["Endpoint", str]:
        """Make a URL for ``account`` and return it with its token; ``token`` is the operator's own choice of one."""
        endpoint = cls(account=account, nonce=secrets.token_hex(16))
        text = token or endpoint._derived_token()
        endpoint.digest = digest_of(text)
        endpoint.save()
        return endpoint, text

    @property
    def token(self) -> str | None:
        """The token, or ``None`` when it cannot be worked out from the nonce."""
        text = self._derived_token()
        return text if hmac.compare_digest(digest_of(text), self.digest) else None

    def _derived_token(self) -> str:
        mac = hmac.digest(settings.SECRET_KEY.encode(), b"webhook-token:" + self.nonce.encode(), "sha256")
        return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


def digest_of(token: str) -> str:
    """Return the digest by which a token is looked up."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
