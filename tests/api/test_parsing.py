"""JSON bodies are read as they are meant, or refused with the name of what is wrong."""

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calls.api.parsing import DEEPEST, LARGEST_INTEGER, read_object
from calls.api.problems import BadRequest

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
numbers = st.integers(-LARGEST_INTEGER, LARGEST_INTEGER) | st.floats(allow_nan=False, allow_infinity=False)
atoms = st.none() | st.booleans() | numbers | texts
values = st.recursive(atoms, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=8)


@settings(max_examples=settings.default.max_examples // 3)
@given(st.dictionaries(texts, values), st.booleans())
def test_every_object_is_read_as_it_was_written(value: dict, is_ascii: bool) -> None:
    assert read_object(json.dumps(value, ensure_ascii=is_ascii).encode()) == value


@given(st.binary())
def test_no_bytes_are_a_fault(raw: bytes) -> None:
    with suppress(BadRequest):
        assert isinstance(read_object(raw), dict)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"a": {"b": 1, "b": 2}}', "b"),
        ('{"a": {"b": ["\\u0000"]}}', "a.b[0]"),
        ('{"a": [{}, {"b": "\\ud83d"}]}', "a[1].b"),
        (f'{{"a": {LARGEST_INTEGER + 1}}}', "body"),
        ('{"a": 1e999}', "body"),
        ('{"a": NaN}', "body"),
        ("[]", "body"),
        ("", "body"),
    ],
)
def test_what_is_refused_is_named(text: str, field: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        read_object(text.encode())
    (error,) = refusal.value.errors
    assert error.field == field


def test_a_pair_of_surrogates_is_one_character() -> None:
    assert read_object(b'{"a": "\\ud83d\\ude00"}') == {"a": "😀"}


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_it_is_read_as_deep_as_is_said(opening: str) -> None:
    def nested(levels: int) -> bytes:
        return ('{"a":' + opening * levels + "1" + {"[": "]"}.get(opening, "}") * levels + "}").encode()

    read_object(nested(DEEPEST - 1))
    with pytest.raises(BadRequest, match="too deep"):
        read_object(nested(DEEPEST))


def test_brackets_in_a_text_are_no_depth() -> None:
    text = "[{" * 1_000 + '\\"' + "]"
    assert read_object(json.dumps({"a": text}).encode()) == {"a": text}
