"""Deliveries that speak of the same thing, one after another, and what each changed. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from calls.records import LiveEvent, Record, Silence
from webhooks.decoding import Payload, decode
from webhooks.errors import DeliveryError, clean_text

Fields = dict[str, str]
"""What payloads say: values as text, by the path at which they stand, such as ``extra_params.Name``."""


_AS_IN_JSON = {"": '""', "None": "null", "True": "true", "False": "false"}


class Change(NamedTuple):
    """One path that differs; ``None`` where there was, or is, no such path."""

    path: str
    was: str | None
    now: str | None


def subject(records: Sequence[Record]) -> tuple[str, ...] | None:
    """Return what a delivery speaks of, equal for versions of one notification; ``None`` when it has no record.

    Versions name the same leg and are of the same kind. The first record counts: of a report on two legs, leg a's.
    """
    if not records or isinstance(records[0], Silence):
        return None
    record = records[0]
    kind = (record.kind, record.provider_status) if isinstance(record, LiveEvent) else ("report",)
    return (*kind, record.leg_id, record.label)


def fields(*, body: bytes, query: bytes, content_type: str) -> Fields | None:
    """Return what a delivery says field by field, or ``None`` where it cannot be decoded."""
    try:
        payloads = decode(body=body, query=query, content_type=content_type)
    except DeliveryError:
        return None
    sound = [payload for payload in payloads if not isinstance(payload, DeliveryError)]
    if len(sound) < len(payloads):
        return None
    whole: Payload | list[Payload] = sound[0] if len(sound) == 1 else sound
    return dict(_flatten(whole, ""))


def changes(before: Fields, after: Fields) -> list[Change]:
    """Return the paths that differ, in the order in which they stand, those that are gone last."""
    paths = [*after, *(path for path in before if path not in after)]
    return [Change(path, before.get(path), after.get(path)) for path in paths if before.get(path) != after.get(path)]


def _flatten(value: object, path: str) -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            name = clean_text(str(key))
            yield from _flatten(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value:
        for place, inner in enumerate(value):
            yield from _flatten(inner, f"{path}[{place}]")
    else:
        yield path, _AS_IN_JSON.get(str(value)) or clean_text(str(value))
