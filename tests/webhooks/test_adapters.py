"""What holds for every adapter, proven on the wire files."""

import copy
import inspect
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calls.records import dump_record, load_record
from tests.webhooks.wire import FOLDER, WireFile, read_all
from webhooks.errors import DeliveryError
from webhooks.providers import PROVIDERS

FILES = read_all()
EACH_FILE = pytest.mark.parametrize("wire", FILES, ids=[f"{wire.provider}/{wire.name}" for wire in FILES])
EACH_PROVIDER = pytest.mark.parametrize("provider", sorted(PROVIDERS))

NASTY = [
    None, "", " ", True, False, [], ["a"], {}, {"a": {"b": []}}, 0, -1, 10**40, "9" * 5000, "\x00", "a\x00b", "\ud800",
    "NaN", "Infinity", "1e400", "1_000", "١٢٣", "878,90", "1970-01-01 00:00:00", "9999-12-31 23:59:59",
    "2024-02-30 10:00:00", "0000-00-00 00:00:00", 1, 99999999999, 253402300799000, "<script>alert(1)</script>",
    "=HYPERLINK(1)", "a\r\nSet-Cookie: b", "x" * 10_000, "javascript:alert(1)", "\u202e123", "anonymous", "+",
    "{key: value}", "{'a': 1}", "{" * 500, "__import__('os')",
]  # fmt: skip


@EACH_FILE
def test_a_wire_file_gives_its_records(wire: WireFile):
    try:
        found = [json.loads(dump_record(record)) for record in wire.records()]
    except DeliveryError as error:
        found = {"error": type(error).__name__, "field": error.field, "value": error.value}
    expected = wire.expected
    if isinstance(expected, dict):
        expected = {name: expected[name] for name in ("error", "field", "value")}
    assert found == expected


@EACH_FILE
def test_reading_twice_gives_the_same_and_leaves_the_payload_alone(wire: WireFile):
    parse = PROVIDERS[wire.provider].parse
    payload = wire.payload()
    before = copy.deepcopy(payload)

    def read():
        try:
            return parse(payload, received_at=wire.received_at, account=wire.account)
        except DeliveryError as error:
            return type(error), error.field, error.value, error.message

    assert read() == read()
    assert payload == before


@EACH_FILE
@settings(max_examples=settings.default.max_examples // 10)  # of each file
@given(data=st.data())
def test_a_mangled_payload_gives_records_that_can_be_stored_or_an_error_that_says_why(wire: WireFile, data):
    payload = dict(wire.payload())
    for name in data.draw(st.sets(st.sampled_from(sorted(payload)), min_size=1, max_size=3)):
        if data.draw(st.booleans()):
            payload[name] = data.draw(st.sampled_from(NASTY))
        else:
            del payload[name]
    try:
        records = PROVIDERS[wire.provider].parse(payload, received_at=wire.received_at, account=wire.account)
    except DeliveryError as error:
        records = list(error.records) if error.message else ["an error has to say what is wrong"]
    for record in records:
        assert load_record(dump_record(record)) == record
        assert "\x00" not in dump_record(record)
        assert "\\u0000" not in dump_record(record)


@EACH_PROVIDER
def test_every_word_of_a_table_occurs_in_a_file(provider: str):
    module = inspect.getmodule(PROVIDERS[provider].parse)
    tables = {name: table for name, table in vars(module).items() if name.endswith("_WORDS")}
    assert tables
    sent = set()
    for wire in FILES:
        if wire.provider == provider:
            for value in wire.payload().values():
                text = str(value).lower()
                sent |= {text.strip(), re.sub(r"[^a-z]", "", re.sub(r"\(.*", "", text))}
    missing = {name: [word for word in table if word not in sent and word] for name, table in tables.items()}
    assert {name: words for name, words in missing.items() if words} == {}


@EACH_PROVIDER
def test_a_provider_has_a_folder_whose_files_are_listed_with_their_sources(provider: str):
    listed = (FOLDER / provider / "SOURCES.md").read_text()
    names = [wire.name for wire in FILES if wire.provider == provider]
    assert names
    assert [name for name in names if f"| {name}.json |" not in listed] == []
    unlisted = set(re.findall(r"\| (\S+)\.json \|", listed)) - set(names)
    assert unlisted == set()
    assert "docs" in (inspect.getmodule(PROVIDERS[provider].parse).__doc__ or "")


def test_each_folder_of_wire_files_belongs_to_a_provider():
    assert {path.name for path in FOLDER.iterdir() if path.is_dir()} == set(PROVIDERS)
