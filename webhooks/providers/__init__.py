"""The providers: one adapter module each, and the one table that lists them."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple, Protocol

from calls.records import AccountFacts, Record
from webhooks.providers import callerdesk, piopiy, telecmi


class Parse(Protocol):
    """What an adapter does: payload in, records out.

    Returns ``[]`` for a payload that is understood and has nothing to record. Raises ``DeliveryError`` otherwise.
    """

    def __call__(
        self, payload: Mapping[str, object], *, received_at: datetime, account: AccountFacts
    ) -> list[Record]: ...


class Provider(NamedTuple):
    """A provider as the rest of the project sees it."""

    label: str
    parse: Parse


PROVIDERS: dict[str, Provider] = {
    "piopiy": Provider("PIOPIY", piopiy.parse),
    "telecmi": Provider("TeleCMI", telecmi.parse),
    "callerdesk": Provider("CallerDesk", callerdesk.parse),
}
