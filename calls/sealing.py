"""Secrets at rest: sealed with a key that is worked out from SECRET_KEY, so that a copy of the database opens nothing.

Pure: the key is given. Under another SECRET_KEY what was sealed cannot be opened, and has to be entered again.
"""

import base64

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class SealBroken(ValueError):
    """What was sealed cannot be opened with this key."""


def seal(secret: str, secret_key: str) -> str:
    """Return ``secret`` as text that only ``unseal`` with the same key reads; no two seals are equal."""
    return _fernet(secret_key).encrypt(secret.encode()).decode()


def unseal(sealed: str, secret_key: str) -> str:
    """Return what was sealed. Raises ``SealBroken`` when it was sealed under another key, or was tampered with."""
    try:
        return _fernet(secret_key).decrypt(sealed.encode()).decode()
    except InvalidToken:
        raise SealBroken("It was sealed under another SECRET_KEY and cannot be opened. Enter it again.") from None


def _fernet(secret_key: str) -> Fernet:
    # A label of its own, so that the key serves nothing else that is worked out from SECRET_KEY.
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"ringledger sealed secrets").derive(secret_key.encode())
    return Fernet(base64.urlsafe_b64encode(key))
