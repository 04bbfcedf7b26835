"""The providers: one adapter module each, and the one table that lists them."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple, Protocol

from calls.records import AccountFacts, Record, RecordingSource
from webhooks.providers import callerdesk, piopiy, telecmi


class Parse(Protocol):
    """What an adapter does: payload in, records out.

    Returns ``[]`` for a payload that is understood and has nothing to record. Raises ``DeliveryError`` otherwise.
    """

    def __call__(
        self, payload: Mapping[str, object], *, received_at: datetime, account: AccountFacts
    ) -> list[Record]: ...


class Pull(NamedTuple):
    """How a provider's own lists of calls are read, page by page; the functions are those of its adapter."""

    editions: Mapping[str, telecmi.Edition]
    """By ``Account.api_base``."""
    page_rows: int
    question: Callable[..., dict[str, object]]
    answer: Callable[..., tuple[int, int]]
    parse: Callable[..., list[Record]]


class Provider(NamedTuple):
    """A provider as the rest of the project sees it."""

    label: str
    parse: Parse
    shape_fields: tuple[str, ...] = ()
    """The fields whose words tell what kind of payload it is: those of one kind look alike."""
    pull: Pull | None = None
    """``None`` for one that has no lists, or whose deliveries say all that they would."""
    recordings: RecordingSource | None = None
    """``None`` for one whose deliveries say where a recording is."""


PROVIDERS: dict[str, Provider] = {
    "piopiy": Provider("PIOPIY", piopiy.parse, piopiy.SHAPE_FIELDS),
    "telecmi": Provider(
        "TeleCMI",
        telecmi.parse,
        telecmi.SHAPE_FIELDS,
        Pull(telecmi.EDITIONS, telecmi.PAGE_ROWS, telecmi.question, telecmi.answer, telecmi.parse_pulled),
        RecordingSource(telecmi.recording_address, telecmi.recording_refusal),
    ),
    "callerdesk": Provider("CallerDesk", callerdesk.parse, callerdesk.SHAPE_FIELDS),
}
