from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connection
from django.test import Client

from calls.models import Conversation
from tests.api.conftest import Get
from tests.api.factories import NOON, a_conversation, a_leg, a_reading, an_account


def walk(client: Client, address: str | None, link: str = "next") -> list[list[str]]:
    """Follow the links and return the ids of each page."""
    pages = []
    while address:
        page = client.get(address).json()
        pages.append([row["id"] for row in page["results"]])
        address = page[link]
    return pages


@pytest.mark.parametrize("ordering", ["-started_at", "started_at"])
def test_pages_hold_every_row_once_also_where_times_are_equal(client: Client, ordering: str) -> None:
    rows = [a_conversation(started_at=NOON + timedelta(seconds=i // 5)) for i in range(23)]
    pages = walk(client, f"/api/v1/conversations/?page_size=4&ordering={ordering}")
    ids = [row_id for page in pages for row_id in page]
    expected = sorted(rows, key=lambda row: (row.started_at, row.id), reverse=ordering == "-started_at")
    assert ids == [str(row.id) for row in expected]
    assert [len(page) for page in pages] == [4, 4, 4, 4, 4, 3]


def test_previous_leads_back_over_the_same_pages(client: Client) -> None:
    for i in range(10):
        a_conversation(started_at=NOON + timedelta(seconds=i // 4))
    address = "/api/v1/conversations/?page_size=3"
    forward = walk(client, address)
    last = client.get(address).json()
    assert last["previous"] is None
    while last["next"]:
        last = client.get(last["next"]).json()
    assert walk(client, last["previous"], "previous") == forward[-2::-1]


def test_rows_that_come_meanwhile_neither_repeat_nor_hide_others(client: Client) -> None:
    old = [str(a_conversation(started_at=NOON + timedelta(minutes=i)).id) for i in range(6)]
    first = client.get("/api/v1/conversations/?page_size=2").json()
    for i in range(5):
        a_conversation(started_at=NOON + timedelta(hours=1, minutes=i))
    assert walk(client, first["next"]) == [[old[3], old[2]], [old[1], old[0]]]


def test_links_keep_the_filters(client: Client, get: Get) -> None:
    an_account("other")
    for _ in range(3):
        a_conversation()
        a_conversation(account=an_account("other"))
    page = get("conversations/", account="other", page_size=2)
    assert [row["account"] for row in client.get(page["next"]).json()["results"]] == ["other"]


def test_the_last_page_and_an_empty_list_lead_nowhere(get: Get) -> None:
    assert get("conversations/") == {"next": None, "previous": None, "results": []}
    a_conversation()
    page = get("conversations/", page_size=1)
    assert (page["next"], page["previous"], len(page["results"])) == (None, None, 1)


def test_legs_of_unknown_start_come_last_and_are_not_lost(client: Client) -> None:
    call = a_conversation()
    starts = [None, NOON, None, NOON + timedelta(seconds=1), None]
    legs = [a_leg(call, started_at=started) for started in starts]
    pages = walk(client, "/api/v1/legs/?page_size=2")
    assert pages == [[legs[3].id, legs[1].id], [legs[4].id, legs[2].id], [legs[0].id]]


def test_balances_of_one_second_come_in_the_order_in_which_they_were_booked(client: Client, get: Get) -> None:
    for place, balance in [(0, 10), (2, 8), (1, 9)]:
        a_reading(balance=balance, booked_at=NOON + timedelta(microseconds=place))
    page = get("balances/", page_size=2)
    rest = client.get(page["next"]).json()
    assert [row["balance"] for row in page["results"] + rest["results"]] == ["8.000000", "9.000000", "10.000000"]


@pytest.mark.parametrize("size", ["0", "501", "-1", "abc", "1.5", "9" * 5000, "٣"])
def test_a_page_size_out_of_bounds_is_refused_with_the_limit(refusal: Get, size: str) -> None:
    (error,) = refusal("conversations/", page_size=size)["errors"]
    assert error["field"] == "page_size"
    assert "500" in error["message"]


def test_the_largest_page_size_is_allowed(get: Get) -> None:
    a_conversation()
    assert len(get("conversations/", page_size=500)["results"]) == 1


def test_a_cursor_that_was_tampered_with_is_refused(client: Client, refusal: Get) -> None:
    for _ in range(3):
        a_conversation()
    address = client.get("/api/v1/conversations/?page_size=1").json()["next"]
    cursor = address.partition("cursor=")[2].partition("&")[0].replace("%3A", ":")
    flipped = cursor[:4] + ("A" if cursor[4] != "A" else "B") + cursor[5:]
    for wrong in [flipped, cursor[:-1], "nonsense", "A" * 10_000, "W10:x", "é"]:
        assert refusal("conversations/", cursor=wrong)["errors"][0]["field"] == "cursor"
    refusal("legs/", cursor=cursor)
    refusal("conversations/", cursor=cursor, ordering="started_at")


def test_a_deep_page_is_found_by_the_index(client: Client) -> None:
    Conversation.objects.bulk_create(
        Conversation(
            id=UUID(int=i), account=an_account(), started_at=NOON + timedelta(seconds=i // 3), last_heard_at=NOON
        )
        for i in range(3000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    from calls.keyset import after

    middle = [(NOON + timedelta(seconds=500)).isoformat(), str(UUID(int=1501))]
    rows = Conversation.objects.order_by("-started_at", "-id")
    plan = rows.filter(after(("-started_at", "-id"), middle))[:100].explain()
    assert "conversation_newest" in plan
    assert "TEMP B-TREE" not in plan
    assert "Sort" not in plan
