"""Typed reading: blank is nothing, senseless is an error that names field and value."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from webhooks.errors import BadField
from webhooks.reader import Reader

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)


def reader(**payload: object) -> Reader:
    return Reader(payload, received_at=NOW)


@pytest.mark.parametrize("blank", [None, "", "  "])
def test_blank_is_nothing(blank):
    fields = reader(x=blank)
    assert (fields.text("x"), fields.phone("x"), fields.word("x")) == ("", "", "")
    assert (fields.seconds("x"), fields.money("x"), fields.flag("x"), fields.epoch_ms("x")) == (None,) * 4
    assert fields.local_time("x", zone="Asia/Kolkata") is None
    assert fields.mapping("x") == {}


def test_the_first_that_is_not_blank_counts():
    assert reader(callerid="", vn=919000000001).phone("callerid", "vn") == "919000000001"


@pytest.mark.parametrize("value", [True, [], ["a"], {"a": 1}, "x" * 256])
def test_text_is_no_list_no_object_no_boolean_and_not_endless(value):
    with pytest.raises(BadField) as caught:
        reader(x=value).text("x")
    assert caught.value.field == "x"


@pytest.mark.parametrize("value", [-1, "-1", "1.5", "1_000", "१२", 604801, "9" * 40])
def test_seconds_are_whole_and_within_a_week(value):
    with pytest.raises(BadField):
        reader(x=value).seconds("x")
    assert reader(x="0").seconds("x") == 0


@pytest.mark.parametrize("value", ["NaN", "Infinity", "878,90", "Rs 5", "1e3", "0.0000001", "9" * 12, "٥", "1_0"])
def test_money_is_a_plain_decimal_with_at_most_six_places(value):
    with pytest.raises(BadField):
        reader(x=value).money("x")


def test_money_keeps_its_places_and_zero_is_an_amount():
    assert str(reader(x="0.450000").money("x")) == "0.450000"
    assert reader(x=0).money("x") == Decimal(0)
    assert reader(x="1.50000000").money("x") == Decimal("1.5")


@pytest.mark.parametrize(
    "value", [0, 1, -1, 1632318510000000, "tomorrow", 10**30, int(NOW.timestamp() * 1000) + 3 * 86_400_000]
)
def test_a_time_before_there_were_providers_or_far_ahead_is_refused(value):
    with pytest.raises(BadField):
        reader(x=value).epoch_ms("x")


def test_milliseconds_and_seconds_are_told_apart_by_the_field():
    assert reader(x=1632318511000).epoch_ms("x") == datetime(2021, 9, 22, 13, 48, 31, tzinfo=UTC)
    assert reader(x="1632318511").epoch_seconds("x") == datetime(2021, 9, 22, 13, 48, 31, tzinfo=UTC)
    with pytest.raises(BadField, match="seconds"):
        reader(x=1632318511000).epoch_seconds("x")


@pytest.mark.parametrize("text", ["2024-12-30 12:43:19", "2024-12-30  12:43:19", "2024-12-30n12:43:19"])
def test_a_naive_time_is_read_in_the_zone_of_the_account(text):
    assert reader(x=text).local_time("x", zone="Asia/Kolkata") == datetime(2024, 12, 30, 7, 13, 19, tzinfo=UTC)


@pytest.mark.parametrize("text", ["0", "0000-00-00 00:00:00", "yyyy-mm-dd  hh:mm:ss"])
def test_some_words_mean_no_time(text):
    assert reader(x=text).local_time("x", zone="Asia/Kolkata") is None


@pytest.mark.parametrize("text", ["2024-02-30 10:00:00", "2024-12-30", "9999-12-31 23:59:59", "30-12-2024 12:43:19"])
def test_a_day_that_does_not_exist_is_refused(text):
    with pytest.raises(BadField):
        reader(x=text).local_time("x", zone="Asia/Kolkata")


@pytest.mark.parametrize(
    ("value", "meant"), [("false", False), ("0", False), (False, False), ("TRUE", True), (1, True)]
)
def test_false_as_a_word_is_false(value, meant):
    assert reader(x=value).flag("x") is meant


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ({"callCode": "C1"}, {"callCode": "C1"}), ('{"key": "value"}', {"key": "value"}), ({"{}": None}, {}),
        ("{ 'Name': 'Akil', 'ID':8915726 }", {"Name": "Akil", "ID": 8915726}), ("none", {}), ("false", {}),
        ("{key: value}", {"x": "{key: value}"}), ("[1, 2]", {"x": [1, 2]}),
        ("open('/etc/passwd')", {"x": "open('/etc/passwd')"}),
    ],
)  # fmt: skip
def test_parameters_are_read_in_every_spelling_or_kept_as_text(value, meant):
    assert reader(x=value).mapping("x") == meant


@pytest.mark.parametrize(
    "text",
    [
        '{"a":' * 900 + "1" + "}" * 900, "{'a': " * 50 + "1" + "}" * 50, "[" * 21 + "]" * 21,
        "{'a': 0x" + "f" * 9000 + "}", "{1: " + "-" * 9000 + "1}", "{'a': " + "+".join(["1"] * 5000) + "}",
        "9" * 9000, "9" * 30_000,
    ],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_parameters_that_no_table_could_hold_are_kept_as_text(text):
    assert reader(x=text).mapping("x") == {"x": text}


def test_a_set_has_the_same_order_in_every_process():
    assert reader(x="{'team': {'sales', 'care', 'billing'}}").mapping("x") == {"team": ["billing", "care", "sales"]}


def test_the_rest_is_what_nobody_asked_for():
    fields = reader(status="answered", type="cdr", new="field", blank="", nul="a\x00b", big=10**30)
    fields.word("status")
    fields.skip("type")
    assert fields.rest() == {"new": "field", "nul": "a\ufffdb", "big": str(10**30)}
