from itertools import pairwise

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls.numbers import NO_PREFIX, destination_prefix


@pytest.mark.parametrize(
    ("number", "prefix"),
    [
        ("+919000000001", "+9190"),
        ("+18765551234", "+1876"),
        ("+442079460000", "+4420"),
        ("+971501234567", "+97150"),
        ("+999123", "+999"),
        ("1860", NO_PREFIX),
        ("", NO_PREFIX),
        ("sip:asha", NO_PREFIX),
    ],
)
def test_a_destination_is_the_country_and_what_follows(number, prefix):
    assert destination_prefix(number) == prefix


def test_no_destination_is_the_head_of_another():
    codes = phonenumbers.COUNTRY_CODE_TO_REGION_CODE
    prefixes = sorted({destination_prefix(f"+{code}{rest:05}") for code in codes for rest in range(0, 100_000, 97)})
    assert not [pair for pair in pairwise(prefixes) if pair[1].startswith(pair[0])]


@given(st.text("0123456789", min_size=6, max_size=15))
def test_six_characters_of_a_number_tell_its_destination(digits):
    assert destination_prefix(f"+{digits}") == destination_prefix(f"+{digits}"[:6])
