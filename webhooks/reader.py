"""Typed, bounded reading of a payload's fields.

Absent or blank is nothing (``""`` or ``None``). Present but senseless raises ``BadField`` with the field and the value.
The bounds are those of the database columns and of common sense, so that nothing that a table would refuse gets past.
"""

import ast
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from webhooks.errors import BadField, clean_text

EARLIEST = datetime(2005, 1, 1, tzinfo=UTC)
"""No provider existed before; an earlier time is a wrong unit or garbage."""
CLOCK_AHEAD = timedelta(days=2)
"""How far a provider's clock may run ahead of ours."""
LONGEST_CALL_SECONDS = 7 * 24 * 3600

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_AMOUNT = re.compile(r"-?[0-9]{1,11}(\.[0-9]{1,6}0*)?", re.ASCII)
_LOCAL_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:\s+|n|T)([0-9]{2}:[0-9]{2}:[0-9]{2})", re.ASCII)
_NO_TIME = {"", "0", "0000-00-00 00:00:00", "yyyy-mm-dd hh:mm:ss"}
"""Words that are sent where a time would stand; the last is the format itself, as a printed sample shows it."""
_TRUE = {"true", "1", "yes"}
_FALSE = {"false", "0", "no"}
_SAFE_INTEGER = 2**53
_DEEPEST_PARAMETERS = 20
"""Objects within objects in the text of parameters; a deeper one is kept as text."""


class Reader:
    """Reads one payload; ``rest()`` gives what nobody asked for."""

    def __init__(self, payload: Mapping[str, object], *, received_at: datetime) -> None:
        self._payload = payload
        self._latest = received_at + CLOCK_AHEAD
        self._read: set[str] = set()

    def has(self, *names: str) -> bool:
        """Return whether any of the keys is present, with whatever value."""
        return any(name in self._payload for name in names)

    def text(self, *names: str, limit: int = 255) -> str:
        """Return the first non-blank of the fields as text; numbers are taken as text. ``""`` when there is none.

        Raises ``BadField`` for lists, objects, booleans, and text longer than ``limit``.
        """
        name, value = self._first(names)
        if value is None:
            return ""
        if isinstance(value, str):
            text = clean_text(value).strip()
        elif isinstance(value, int | Decimal) and not isinstance(value, bool):
            text = str(value)
        else:
            raise BadField("expected text or a number", field=name, value=value)
        if len(text) > limit:
            raise BadField(f"longer than {limit} characters", field=name, value=text)
        return text

    def word(self, *names: str) -> str:
        """Return a status word in lower case, ``""`` when absent or blank."""
        return self.text(*names, limit=64).lower()

    def phone(self, *names: str) -> str:
        """Return a phone number as sent, ``""`` when absent, blank or ``0`` (nobody)."""
        text = self.text(*names, limit=64)
        return "" if text == "0" else text

    def seconds(self, *names: str) -> int | None:
        """Return a length of time in whole seconds, or ``None``. Raises ``BadField`` when negative or over a week."""
        text = self.text(*names)
        if not text:
            return None
        if not _INTEGER.fullmatch(text) or not 0 <= int(text) <= LONGEST_CALL_SECONDS:
            raise BadField(
                f"expected whole seconds from 0 to {LONGEST_CALL_SECONDS}", field=self._name(names), value=text
            )
        return int(text)

    def money(self, *names: str) -> Decimal | None:
        """Return an amount with at most 6 decimals, or ``None``; zero is an amount. Raises ``BadField`` otherwise."""
        text = self.text(*names)
        if not text:
            return None
        if not _AMOUNT.fullmatch(text):
            raise BadField(
                "expected a decimal amount such as 878.900000, at most 6 decimals", field=self._name(names), value=text
            )
        return Decimal(text).quantize(Decimal("0.000001"))

    def epoch_ms(self, *names: str) -> datetime | None:
        """Return the time that is sent as UTC milliseconds since 1970, or ``None``."""
        return self._epoch(names, unit="milliseconds")

    def epoch_seconds(self, *names: str) -> datetime | None:
        """Return the time that is sent as UTC seconds since 1970, or ``None``."""
        return self._epoch(names, unit="seconds")

    def local_time(self, *names: str, zone: str) -> datetime | None:
        """Return the time that is sent as ``yyyy-mm-dd hh:mm:ss`` without an offset, read in ``zone``, in UTC.

        Two blanks or the letter n may stand between date and time (call_report_incoming_answered_get). ``None`` when
        absent or one of the words that mean so.
        """
        text = self.text(*names)
        if " ".join(text.lower().split()) in _NO_TIME:
            return None
        match = _LOCAL_TIME.fullmatch(text)
        if match:
            try:
                naive = datetime.fromisoformat(f"{match[1]}T{match[2]}")
                return self._plausible(naive.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC), names, text)
            except (ValueError, OverflowError):
                pass
        raise BadField("expected a time such as 2024-12-30 12:43:19", field=self._name(names), value=text)

    def flag(self, *names: str) -> bool | None:
        """Return a boolean that may be sent as a word or a digit, or ``None`` when absent or blank."""
        name, value = self._first(names)
        if isinstance(value, bool) or value is None:
            return value
        text = self.text(name).lower()
        if text in _TRUE:
            return True
        if text in _FALSE:
            return False
        raise BadField("expected true or false", field=name, value=text)

    def mapping(self, name: str) -> dict[str, object]:
        """Return free parameters that come as an object, as JSON text, as a Python literal, or as any other text.

        Text that is none of these is kept under the field's own name. ``none``, ``false`` and ``{"{}": null}`` mean
        there are none: live bodies of calls without parameters carry these.
        """
        _, value = self._first((name,))
        if isinstance(value, str):
            value = _parse_literal(value.strip(), name)
        if value is None or value is False or value == {"{}": None}:
            return {}
        if isinstance(value, Mapping):
            return plain(value)
        return {name: _plain_value(value)}

    def rest(self) -> dict[str, object]:
        """Return the fields that were never read, blank ones left out: new to us, or not modelled."""
        unread = {
            key: value for key, value in self._payload.items() if key not in self._read and value not in (None, "")
        }
        return plain(unread)

    def skip(self, *names: str) -> None:
        """Mark fields as known and of no further use, so that ``rest()`` leaves them out."""
        self._read.update(names)

    def _first(self, names: tuple[str, ...]) -> tuple[str, object]:
        """Return the first name whose value is not blank, with the value; all names count as read."""
        self._read.update(names)
        for name in names:
            value = self._payload.get(name)
            if value is not None and (not isinstance(value, str) or value.strip()):
                return name, value
        return names[0], None

    def _name(self, names: tuple[str, ...]) -> str:
        return self._first(names)[0]

    def _epoch(self, names: tuple[str, ...], *, unit: str) -> datetime | None:
        text = self.text(*names)
        if not text:
            return None
        if not _INTEGER.fullmatch(text):
            raise BadField(f"expected whole {unit} since 1970", field=self._name(names), value=text)
        try:
            moment = _EPOCH + timedelta(**{unit: int(text)})
        except OverflowError:
            raise BadField(
                f"no time at all when read as {unit} since 1970", field=self._name(names), value=text
            ) from None
        return self._plausible(moment, names, text)

    def _plausible(self, moment: datetime, names: tuple[str, ...], text: str) -> datetime:
        if not EARLIEST <= moment <= self._latest:
            raise BadField(
                f"{moment:%Y-%m-%d %H:%M:%S} UTC is not between {EARLIEST:%Y} and two days after arrival",
                field=self._name(names),
                value=text,
            )
        return moment


def plain(mapping: Mapping[Any, object]) -> dict[str, object]:
    """Return a copy of plain JSON types that any database and any JSON writer can hold.

    The values are those of a decoded payload, which is never deep.
    """
    return {clean_text(str(key)): _plain_value(value) for key, value in mapping.items()}


def _plain_value(value: object) -> object:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Mapping):
        return plain(value)
    if isinstance(value, set):
        return [_plain_value(item) for item in sorted(value, key=repr)]  # in the same order in every process
    if isinstance(value, list | tuple):
        return [_plain_value(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int) and abs(value) <= _SAFE_INTEGER:
        return value
    return clean_text(str(value))


def _parse_literal(text: str, name: str) -> object:
    """Return what a text of parameters stands for; under ``name`` the text itself where it is neither."""
    if not text or text.lower() in {"none", "false", "null"}:
        return None
    if len(text) > 20_000:
        return {name: text}
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return {name: text}
    return value if _is_storable(value) else {name: text}


def _is_storable(value: object) -> bool:
    """Return whether ``plain`` can take it: no deeper than allowed, and no integer that Python refuses to write out.

    Level by level, since a call for each level would end where the stack does.
    """
    level = [value]
    for _ in range(_DEEPEST_PARAMETERS):
        inner: list[object] = []
        for item in level:
            if isinstance(item, int) and item.bit_length() > 10_000:  # 0xff…: only decimal digits are bounded in texts
                return False
            if isinstance(item, Mapping):
                inner += [*item.keys(), *item.values()]
            elif isinstance(item, list | tuple | set):
                inner += item
        if not inner:
            return True
        level = inner
    return False
