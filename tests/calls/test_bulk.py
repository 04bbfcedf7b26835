"""Many rows with one statement: what is written is what an instance would have written, and keys are in order."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from calls import bulk
from calls.models import Agent, Conversation, Leg

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
LEG = [field.attname for field in Leg._meta.concrete_fields if not field.primary_key]
ODD = ["", "plain", "tab\tand\nline", 'quote " and \\ backslash', "{braces, NULL}", "NULL", "नमस्ते", "%s %b"]


def make_call(account, **columns) -> Conversation:
    call = Conversation(account=account, started_at=NOON, last_heard_at=NOON, **columns)
    names = [field.attname for field in Conversation._meta.concrete_fields]
    bulk.insert(Conversation, names, [tuple(getattr(call, name) for name in names)])
    return call


@pytest.fixture
def legs(account):
    """Return a way to get the rows of unsaved legs with these costs."""
    call = make_call(account)

    def rows(costs: list[Decimal | None]) -> list[tuple]:
        unsaved = [
            Leg(
                account=account,
                conversation=call,
                external_id=f"leg-{number:04}",
                label="a",
                cost=cost,
                talk_seconds=number % 3 or None,
                started_at=NOON if number % 2 else None,
            )
            for number, cost in enumerate(costs)
        ]
        return [tuple(getattr(leg, name) for name in LEG) for leg in unsaved]

    return rows


def test_it_returns_the_keys_in_the_order_of_the_rows(legs):
    rows = legs([None] * 3000)[::-1]
    keys = bulk.insert(Leg, LEG, rows)
    names = dict(Leg.objects.values_list("pk", "external_id"))
    assert [names[key] for key in keys] == [row[LEG.index("external_id")] for row in rows]
    assert keys == sorted(keys)


def test_columns_may_mix_nothing_zero_and_amounts(legs):
    costs = [None, Decimal(0), Decimal("0.45"), Decimal("-3.500000"), Decimal("12345678.000001"), None]
    rows = legs(costs)
    keys = bulk.insert(Leg, LEG, rows)
    assert list(Leg.objects.order_by("pk").values_list(*LEG)) == rows
    swapped = list(zip(keys, reversed(costs), range(70_000, 70_006), strict=True))
    bulk.update(Leg, ["cost", "talk_seconds"], swapped)
    assert list(Leg.objects.order_by("pk").values_list("pk", "cost", "talk_seconds")) == swapped


def test_columns_without_any_value_become_null(legs):
    keys = bulk.insert(Leg, LEG, legs([Decimal(1), Decimal(2)]))
    bulk.update(Leg, ["cost", "talk_seconds", "started_at"], [(key, None, None, None) for key in keys])
    assert set(Leg.objects.values_list("cost", "talk_seconds", "started_at")) == {(None, None, None)}


def test_any_text_is_written_and_found_as_it_is(account):
    names = ["account_id", "external_id", "name", "extension", "phone"]
    keys = bulk.insert(Agent, names, [(account.pk, text, text, "", "") for text in ODD])
    assert dict(Agent.objects.values_list("pk", "name")) == dict(zip(keys, ODD, strict=True))
    for text in ODD:
        assert Agent.objects.get(external_id__among=[text, "another"]).name == text
    assert Agent.objects.filter(external_id__among=ODD).count() == len(ODD)
    assert not Agent.objects.filter(external_id__among=[]).exists()


@pytest.mark.parametrize("text", ODD)
def test_json_comes_back_equal(account, text):
    params = {"list": [1, None, text], text: {}}
    call = make_call(account, extra_params=params, flags=[text])
    row = Conversation.objects.get(pk=call.pk)
    assert (row.extra_params, row.flags) == (params, [text])


def test_nothing_is_written_for_no_rows(db, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert bulk.insert(Leg, LEG, []) == []
        bulk.update(Leg, LEG, [])
