"""Putting many deliveries in the inbox at once."""

import pytest

from calls.ids import new_id
from tests.webhooks.inbox import NOON
from webhooks.models import Delivery
from webhooks.storing import NewDelivery, insert

BODIES = [b"", b'{"status": "answered"}', b"\x00" * 10, bytes(range(256)), "₹ \u202e".encode(), b'{a,"b\\}']


def delivery(account, body: bytes = b"", **columns: object) -> NewDelivery:
    values = {
        "id": new_id(),
        "account_id": account.pk,
        "content_type": 'text/plain; "a\\b", {NULL}',
        "remote_address": "203.0.113.9",
        "query": b"a=%FF\xff",
    }
    values |= {"received_at": NOON, "method": "POST", "body": body, "size": len(body), "digest": "0" * 64}
    return NewDelivery(**values | columns)


def columns(stored: Delivery) -> dict[str, object]:
    values = {name: getattr(stored, name) for name in NewDelivery._fields}
    return {name: bytes(value) if isinstance(value, memoryview) else value for name, value in values.items()}


def test_every_column_is_stored_as_it_is(account):
    deliveries = [delivery(account, body) for body in BODIES]
    deliveries.append(
        delivery(account, b"x", status="quarantined", processed_at=NOON, error_class="TooLarge", error_field="body",
                 error_value="9 bytes", error_message="One byte is allowed.")
    )  # fmt: skip
    assert insert(deliveries) == []
    stored = Delivery.objects.in_bulk()
    assert [columns(stored[item.id]) for item in deliveries] == [item._asdict() for item in deliveries]
    assert {(row.attempts, row.repeats, row.lease_until) for row in stored.values()} == {(0, 0, None)}


def test_what_is_there_already_stays_as_it_is(account):
    first = delivery(account, b"first")
    insert([first])
    assert insert([first._replace(body=b"other"), delivery(account, b"new")]) == []
    assert bytes(Delivery.objects.get(pk=first.id).body) == b"first"
    assert Delivery.objects.count() == 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("wrong", [{"account_id": None}, {"size": None}, {"content_type": None}])
def test_one_that_the_table_refuses_hinders_no_other(account, wrong):
    good, bad = [delivery(account, b"%d" % number) for number in range(4)], delivery(account, **wrong)
    assert insert([*good[:2], bad, *good[2:]]) == [bad]
    assert set(Delivery.objects.values_list("pk", flat=True)) == {item.id for item in good}


def test_nothing_to_store_is_no_error(db):
    assert insert([]) == []
