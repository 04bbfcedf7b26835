"""Evidence as alerts keep it, and the links that it becomes."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.urls import NoReverseMatch, reverse

from calls.alerting.findings import Evidence


class Link(NamedTuple):
    """What to look at: a label, and a path below the address of this site."""

    label: str
    url: str


def as_stored(evidence: Iterable[Evidence]) -> list[dict[str, Any]]:
    """Return evidence as ``Alert.evidence`` keeps it."""
    return [asdict(one) | {"args": list(one.args)} for one in evidence]


def links(stored: Iterable[Mapping[str, Any]]) -> list[Link]:
    """Return the links of stored evidence; what an older version stored for a page that is gone is left out."""
    found = []
    for one in stored:
        try:
            path = reverse(one["page"], args=one["args"])
        except NoReverseMatch:
            continue
        found.append(Link(one["label"], f"{path}?{urlencode(one['query'])}" if one["query"] else path))
    return found
