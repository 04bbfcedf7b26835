import itertools
import random
from datetime import datetime, timedelta
from threading import Event, Semaphore, Thread
from uuid import UUID

import pytest
from django.db import connection
from django.test import Client

from calls.choices import Direction, Disposition, Label
from calls.models import Account, Conversation, ConversationRedirect
from calls.records import Alias, LegCdr
from tests.api.conftest import Get
from tests.api.factories import NOON, a_conversation, a_leg, a_reading, an_account
from tests.calls.reports import take


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


# --- While others write ----------------------------------------------------------------------------------------------


class Writer:
    """Takes in reports in a thread of its own: calls that come, change, move and become one with others."""

    def __init__(self, account: Account, standing: int) -> None:
        self._account = account
        self._standing = standing
        self._chance = random.Random(7)
        self._done, self._room = Semaphore(0), Semaphore(3)
        self._is_over = Event()
        self._failure: Exception | None = None
        self._thread = Thread(target=self._run)

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._room.release()
        self._thread.join(30)
        assert self._failure is None, self._failure

    def wait(self) -> None:
        """Return when it has written something more; it goes on meanwhile, but not far ahead."""
        assert self._done.acquire(timeout=30)
        self._room.release()

    def _run(self) -> None:
        try:
            for number in itertools.count():
                self._room.acquire()
                if self._is_over.is_set():
                    break
                self._write(number)
                self._done.release()
        except Exception as error:  # noqa: BLE001 - told by the thread that waits
            self._failure = error
        finally:
            connection.close()

    def _write(self, number: int) -> None:
        start = NOON + timedelta(seconds=self._chance.randrange(-5, 40))
        standing = self._chance.randrange(self._standing)
        new = a_report(f"new-{number}", start)
        match number % 5:
            case 0:
                take(self._account, new)
            case 1:  # what was said of a call that stands is corrected
                take(self._account, a_report(f"call-{standing}", start_of(standing), talk=number))
            case 2:  # a new call turns out to be part of one that stands
                take(self._account, a_report(f"new-{number}", start_of(standing)))
                take(self._account, a_report(f"new-{number}", start_of(standing), also=f"call-{standing}"))
            case 3:  # a call that came meanwhile moves
                take(self._account, a_report(f"new-{number - 3}", start))
            case 4:  # two calls that came meanwhile become one
                take(self._account, new)
                take(self._account, a_report(f"new-{number}", start, also=f"new-{number - 4}"))


def start_of(number: int) -> datetime:
    return NOON + timedelta(seconds=number // 4)


def a_report(name: str, start: datetime, *, talk: int = 10, also: str = "") -> LegCdr:
    names = [name, also] if also else [name]
    return LegCdr(
        aliases=tuple(sorted(Alias("uuid", text) for text in names)),
        leg_id=f"leg-{name}",
        label=Label.A,
        call_direction=Direction.INBOUND,
        disposition=Disposition.ANSWERED,
        started_at=start,
        ended_at=start + timedelta(seconds=talk),
        talk_seconds=talk,
    )


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("ordering", ["-started_at", "started_at"])
def test_whoever_pages_while_others_write_meets_each_call_that_stands_exactly_once(
    client: Client, ordering: str
) -> None:
    account = an_account()
    take(account, *(a_report(f"call-{number}", start_of(number)) for number in range(80)))
    places = {
        str(call.pk): call.started_at
        for call in Conversation.objects.order_by(ordering, ordering.replace("started_at", "id"))
    }
    with Writer(account, standing=80) as writer:
        last = None
        for link in ("next", "previous"):
            address = f"/api/v1/conversations/?page_size=7&ordering={ordering}" if last is None else last["previous"]
            met = [row["id"] for row in last["results"]] if last else []
            while address:
                writer.wait()
                last = client.get(address).json()
                ids = [row["id"] for row in last["results"]]
                met = met + ids if link == "next" else ids + met
                address = last[link]
            assert [pk for pk in met if pk in places] == list(places)
    assert dict(Conversation.objects.filter(pk__in=places).values_list("pk", "started_at")) == {
        UUID(pk): start for pk, start in places.items()
    }
    assert ConversationRedirect.objects.exists()
