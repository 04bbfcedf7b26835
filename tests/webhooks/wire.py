"""Wire files read as the drain reads deliveries, for tests that need no database."""

import json
from collections.abc import Mapping
from datetime import datetime
from itertools import permutations
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl

from calls.records import AccountFacts, Record
from calls.summary import CallSummary, Entry, summarize
from webhooks.decoding import decode
from webhooks.errors import DeliveryError
from webhooks.providers import PROVIDERS

FOLDER = Path(__file__).parents[1] / "deliveries"
FACTS = AccountFacts(time_zone="Asia/Kolkata", phone_region="IN", app_id="")


class WireFile(NamedTuple):
    """One delivery as it came, and what it is to give."""

    provider: str
    name: str
    content: dict
    expected: list | dict

    @property
    def received_at(self) -> datetime:
        return datetime.fromisoformat(self.content["received_at"])

    @property
    def account(self) -> AccountFacts:
        return FACTS._replace(**self.content.get("account", {}))

    def payload(self) -> Mapping[str, object]:
        """Return the decoded payload of a delivery that holds one."""
        text = self.content["raw"] if "raw" in self.content else json.dumps(self.content["payload"])
        is_get = self.content["method"] == "GET"
        (payload,) = decode(
            body=b"" if is_get else text.encode(),
            query=text.encode() if is_get else b"",
            content_type=self.content["content_type"],
        )
        assert not isinstance(payload, DeliveryError)
        return payload

    def records(self, **changes: object) -> list[Record]:
        """Return what the adapter makes of it, with ``changes`` to its fields."""
        provider, payload = PROVIDERS[self.provider], {**self.payload(), **changes}
        if self.content["method"] == "PULL" and provider.pull:
            asked = dict(parse_qsl(self.content["query"]))
            return provider.pull.parse(payload, asked=asked, received_at=self.received_at, account=self.account)
        return provider.parse(payload, received_at=self.received_at, account=self.account)

    def entries(self) -> list[Entry]:
        return [Entry(record, self.received_at) for record in self.records()]


def read(provider: str, name: str) -> WireFile:
    """Return the wire file ``<provider>/<name>.json``."""
    path = FOLDER / provider / f"{name}.json"
    expected = json.loads(path.with_suffix(".records.json").read_text())
    return WireFile(provider, name, json.loads(path.read_text()), expected)


def read_all() -> list[WireFile]:
    """Return every wire file there is."""
    paths = sorted(path for path in FOLDER.glob("*/*.json") if not path.name.endswith(".records.json"))
    return [read(path.parent.name, path.stem) for path in paths]


def call(provider: str, *names: str) -> CallSummary:
    """Return the one conversation that the files tell, after making sure that it is the same in every order."""
    told = [entry for name in names for entry in read(provider, name).entries()]
    summaries = [summarize(order, FACTS) for order in permutations(told)]
    assert summaries[0] is not None
    assert all(summary == summaries[0] for summary in summaries)
    return summaries[0]
