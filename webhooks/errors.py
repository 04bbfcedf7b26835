"""Why a delivery could not be understood. Each error says which field, which value, and what was expected.

A delivery with such an error is kept and shown as quarantined; it never stops the next one.
"""

from calls.records import Record


class DeliveryError(Exception):
    """A delivery that cannot be understood, or only in part.

    ``field`` is the name as the provider spells it (``""`` for the body as a whole), ``value`` the offending value as
    text, ``message`` what is wrong and what was expected. ``records`` holds what could be understood all the same.
    """

    def __init__(self, message: str, *, field: str = "", value: object = "", records: tuple[Record, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.value = shorten(value)
        self.records = records


class UndecodableBody(DeliveryError):
    """Neither JSON nor a form nor a query that holds fields."""


class UnrecognizedPayload(DeliveryError):
    """Readable, but not a notification of this provider that we know."""


class UnknownWord(DeliveryError):
    """A status word that no table of the adapter lists: a new one, never to be mapped to a near one by guess."""


class BadField(DeliveryError):
    """A field that is present but senseless."""


class WrongAccount(BadField):
    """The payload names another account of the provider than the one whose URL it came in by."""


class Refused(Exception):
    """What a provider answered to a question of ours is a refusal; the message gives its code and what that means."""


def shorten(value: object, limit: int = 200) -> str:
    """Return ``value`` as text of at most ``limit`` characters that every database and page can hold."""
    text = clean_text(value if isinstance(value, str) else repr(value))
    return text if len(text) <= limit else text[: limit - 1] + "…"


def clean_text(text: str) -> str:
    """Return ``text`` with NUL and lone surrogates, which no database takes, replaced by U+FFFD."""
    if text.isascii() and "\x00" not in text:
        return text
    return text.replace("\x00", "\ufffd").encode("utf-8", "surrogatepass").decode("utf-8", "replace")
