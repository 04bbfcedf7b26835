"""The inbox page: every figure leads to exactly what it counts; outages are read off retries."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from calls.models import Account
from tests.webhooks.inbox import deliver
from webhooks import figures
from webhooks.figures import RESENT_AFTER, Witness, outages
from webhooks.models import Delivery
from webhooks.processing import drain

PAGE = "/admin/webhooks/delivery/overview/"
START = datetime(2026, 11, 2, 9, tzinfo=UTC)
SECOND = timedelta(seconds=1)
seconds = st.integers(0, 4 * 3600).map(lambda number: START + number * SECOND)


def received(
    calls: list[tuple[datetime, int]], away: tuple[datetime, datetime] | None
) -> tuple[list[datetime], list[Witness]]:
    """Return the arrivals and first copies of calls that ended at a time and are reported some seconds later."""
    arrivals, first = [], []
    for ended_at, delay in calls:
        copies = [ended_at + delay * SECOND + wait for wait in RESENT_AFTER]
        copies = [copy for copy in copies if not (away and away[0] <= copy < away[1])]
        arrivals += copies
        if copies:
            first.append(Witness(uuid4(), copies[0], ended_at))
    return arrivals, first


@given(st.lists(st.tuples(seconds, st.integers(0, 20)), max_size=60))
def test_reports_that_come_at_once_tell_of_no_outage(calls):
    assert outages(*received(calls, None)) == []


@given(st.lists(st.tuples(seconds, st.integers(0, 20)), max_size=60), seconds, st.integers(60, 3 * 3600), st.randoms())
def test_an_outage_that_a_report_witnesses_is_found_within_what_was_heard(calls, begin, length, random):
    end = begin + length * SECOND
    arrivals, first = received(calls, (begin, end))
    random.shuffle(arrivals)
    found = outages(arrivals, first)
    late = {item.delivery for item in first if item.received_at - item.ended_at > 60 * SECOND}
    assert bool(found) == bool(late)
    for outage in found:
        assert outage.heard_until is None or outage.heard_until < begin
        assert begin <= outage.first_missed <= outage.last_missed < end <= outage.heard_again
        assert set(outage.deliveries) == late
    assert len(found) <= 1


def test_a_single_refused_request_among_others_is_no_outage():
    late = Witness(uuid4(), START + RESENT_AFTER[1], START)
    assert outages([START - SECOND, START + SECOND, late.received_at], [late]) == []


def test_a_report_at_an_odd_time_tells_of_nothing():
    odd = Witness(uuid4(), START + timedelta(minutes=9), START)
    assert outages([START - timedelta(hours=1), odd.received_at], [odd]) == []


def cdr(number: int, ended_at: datetime) -> dict[str, object]:
    end = int(ended_at.timestamp())
    return {
        "type": "cdr", "direction": "inbound", "leg": "a", "status": "answered", "appid": 2222222,
        "from": 919000000001, "to": 918000000000, "conversation_uuid": f"figures-{number}",
        "cmiuuid": f"figures-{number}", "time": (end - 18) * 1000, "start_time": end - 18, "answer_time": end - 13,
        "end_time": end, "duration": 13,
    }  # fmt: skip


@pytest.fixture
def busy(account: Account) -> Iterator[Account]:
    """An account with every status, an hour and a half after an outage of ten minutes."""
    now = timezone.now()
    before, call = now - timedelta(minutes=110), now - timedelta(minutes=100)
    deliver(account, cdr(1, before), received_at=before + SECOND)
    for number in (2, 3):
        late = deliver(account, cdr(number, call), received_at=call + RESENT_AFTER[1] + number * SECOND)
        deliver(account, bytes(late.body), received_at=call + RESENT_AFTER[2] + number * SECOND)
    for value in ("handed_over", "handed_over", "parked", ""):
        deliver(account, cdr(4, now) | {"status": value, "from": uuid4().int % 10**10}, received_at=now)
    deliver(account, b"\xff nothing", received_at=now)
    drain()
    deliver(account, cdr(5, now), received_at=now)
    return account


def listed(client, url: str) -> int:
    return client.get(url).context["cl"].result_count


def test_every_figure_leads_to_exactly_what_it_counts(admin_client, busy: Account):
    shown = admin_client.get(PAGE).context
    for chart in shown["charts"]:
        assert listed(admin_client, chart["url"]) == chart["total"]
        for bar in chart["bars"]:
            assert listed(admin_client, bar["url"]) == bar["total"]
    assert shown["charts"][1]["total"] == Delivery.objects.count() == 11
    assert listed(admin_client, shown["pending_url"]) == shown["lag"]["pending"] == 1
    assert listed(admin_client, shown["repeated_url"]) == shown["repeated"] == 2
    assert [listed(admin_client, row["url"]) for row in shown["accounts"]] == [2]
    assert len(shown["groups"]) > 2
    for group in shown["groups"]:
        assert listed(admin_client, group["url"]) == group["count"], group
    assert [listed(admin_client, outage["url"]) for outage in shown["outages"]] == [2]
    assert shown["outages"][0]["count"] == 2


@pytest.mark.usefixtures("busy")
def test_a_window_with_too_much_in_it_is_cut_and_still_counts_what_it_links_to(admin_client, monkeypatch):
    monkeypatch.setattr(figures, "MOST_OF_DAY", 6)
    chart = admin_client.get(PAGE).context["charts"][1]
    assert chart["is_cut"]
    assert listed(admin_client, chart["url"]) == chart["total"]


def test_it_costs_the_same_for_much_and_for_little(admin_client, busy: Account):
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(PAGE)
        return len(queries)

    few = cost()
    now = timezone.now()
    for number in range(20):
        other = Account.objects.create(slug=f"account-{number}", provider="piopiy")
        deliver(other, cdr(number, now) | {"status": f"word-{number}"}, received_at=now)
    drain()
    assert cost() == few


def test_the_part_for_the_script_is_no_whole_page(admin_client, account: Account):
    part = admin_client.get(PAGE, {"part": 1}).content.decode()
    assert part.lstrip().startswith('<div class="rl-page" id="rl-inbox">')


def test_nobody_sees_it_without_the_permission(client, django_user_model):
    client.force_login(django_user_model.objects.create_user("guest", is_staff=True))
    assert client.get(PAGE).status_code == 403
