"""Figures by hours and days of a zone's clock: each call is in the bucket that the clock says."""

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calls import timeseries
from calls.buckets import Buckets, Interval
from calls.choices import Direction, Disposition, Scope, State
from calls.metrics import summarize, total
from calls.models import Account, Agent, ApiKey, Conversation, Rollup
from calls.timeseries import GroupBy, Series
from tests.api.conftest import Get
from tests.api.factories import NOON, a_conversation, a_key, an_account, an_agent, client_with
from tests.calls.rows import a_call
from tests.calls.test_dashboard import work_out

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
HALF_HOURS = timedelta(minutes=30)
NOW = datetime(2026, 11, 20, 9, 40, 12, tzinfo=UTC)

# What the clocks do on these days, which begin at midnight of the zone; and how many hours the days have.
CLOCK_CHANGES = [
    ("Europe/London", "2026-03-29", 23),
    ("Europe/London", "2026-10-25", 25),
    ("America/New_York", "2026-03-08", 23),
    ("America/New_York", "2026-11-01", 25),
    ("Asia/Kolkata", "2026-11-01", 24),
    ("Asia/Kathmandu", "2026-11-01", 24),
    ("Australia/Lord_Howe", "2026-04-05", 24.5),
    ("Australia/Lord_Howe", "2026-10-04", 23.5),
    ("America/Havana", "2026-03-08", 23),  # from midnight on
    ("America/St_Johns", "2010-11-07", 25),  # a minute past midnight
]


def written(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def read(text: str) -> datetime:
    return datetime.fromisoformat(text)


def between(since: datetime, until: datetime) -> dict[str, str]:
    return {"started_after": written(since), "started_before": written(until)}


def some_calls(count: int, since: datetime, until: datetime, seed: int = 7) -> list[Account]:
    """Store calls of every kind of three accounts, in two units, some of them at full half hours."""
    dice = random.Random(seed)
    accounts = [an_account(slug, unit=unit) for slug, unit in [("delhi", "INR"), ("pune", "INR"), ("goa", "coins")]]
    agents = [an_agent(str(number), account=account) for account in accounts for number in (201, 202)]
    calls = []
    for _ in range(count):
        account, word = dice.choice(accounts), dice.choice([*Disposition, None])
        started = since + (until - since) * dice.random()
        if dice.random() < 0.3:
            started -= (started - NOON) % HALF_HOURS
        is_paid = dice.random() < 0.5
        calls.append(
            a_call(
                account,
                direction=dice.choice(Direction.values),
                state=State.ENDED if word else State.LIVE,
                disposition=word,
                did=dice.choice(["", "+918000000001", "+918000000012"]),
                agent=dice.choice([None, *(agent for agent in agents if agent.account_id == account.pk)]),
                started_at=min(max(started, since), until - timedelta(microseconds=1)),
                talk_seconds=dice.randrange(300) if word == Disposition.ANSWERED else None,
                ring_seconds=dice.choice([None, dice.randrange(30)]),
                cost=Decimal(dice.randrange(200)) / 100 if is_paid else None,
                cost_unit=account.unit if is_paid else "",
            )
        )
    Conversation.objects.bulk_create(calls)
    return accounts


def figures(bucket: dict) -> dict:
    """Return a bucket as the summary has it."""
    return {name: value for name, value in bucket.items() if name not in ("starts_at", "ends_at", "local")}


# --- The clock -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "day", "hours"), CLOCK_CHANGES)
def test_a_day_is_as_long_as_the_clock_makes_it_and_each_call_is_in_its_hour_and_its_day(
    get: Get, name: str, day: str, hours: float
) -> None:
    zone = ZoneInfo(name)
    midnight = datetime.fromisoformat(day).replace(tzinfo=zone)
    since, until = midnight - DAY, midnight + 2 * DAY  # by the clock
    account, step = an_account(), timedelta(minutes=10)
    moments = []
    moment = since.astimezone(UTC)
    while moment < until.astimezone(UTC):
        moments.append(moment)
        moment += step
    Conversation.objects.bulk_create(a_call(account, started_at=moment) for moment in moments)
    for interval in ("day", "hour"):
        answer = get("stats/timeseries/", interval=interval, time_zone=name, **between(since, until))
        [series] = answer["series"]
        buckets = series["buckets"]
        for bucket, following in pairwise(buckets):
            assert bucket["ends_at"] == following["starts_at"]
        for bucket in buckets:
            begin, end = read(bucket["starts_at"]), read(bucket["ends_at"])
            assert bucket["calls"] == sum(begin <= moment < end for moment in moments)
            assert read(bucket["local"]) == begin
            local = begin.astimezone(zone)
            assert bucket["local"] == local.isoformat()
            if interval == "day":
                assert (begin - timedelta(microseconds=1)).astimezone(zone).date() < local.date()
            else:
                last = (end - timedelta(microseconds=1)).astimezone(zone)
                assert (local.date(), local.hour, local.utcoffset()) == (last.date(), last.hour, last.utcoffset())
        assert sum(bucket["calls"] for bucket in buckets) == series["total"]["calls"] == len(moments)
        if interval == "day":
            lengths = [read(bucket["ends_at"]) - read(bucket["starts_at"]) for bucket in buckets]
            assert lengths == [DAY, HOUR * hours, DAY]
            assert buckets[1]["calls"] == hours * 6


def test_an_hour_that_happens_twice_is_two_buckets(get: Get) -> None:
    since = datetime(2026, 10, 25, 0, 0, tzinfo=UTC)
    answer = get("stats/timeseries/", interval="hour", time_zone="Europe/London", **between(since, since + 3 * HOUR))
    assert [bucket["local"] for bucket in answer["series"][0]["buckets"]] == [
        "2026-10-25T01:00:00+01:00",
        "2026-10-25T01:00:00+00:00",
        "2026-10-25T02:00:00+00:00",
    ]


def test_the_day_that_the_calendar_left_out_is_no_bucket(get: Get) -> None:
    zone = ZoneInfo("Pacific/Apia")
    since, until = datetime(2011, 12, 29, tzinfo=zone), datetime(2012, 1, 1, tzinfo=zone)
    answer = get("stats/timeseries/", time_zone="Pacific/Apia", **between(since, until))
    assert [bucket["local"][:10] for bucket in answer["series"][0]["buckets"]] == ["2011-12-29", "2011-12-31"]


# --- Range and buckets -----------------------------------------------------------------------------------------------


def test_buckets_without_calls_are_there_with_zeros(get: Get) -> None:
    a_conversation(started_at=NOON + 2 * HOUR)
    answer = get("stats/timeseries/", interval="hour", **between(NOON, NOON + 4 * HOUR))
    assert {name: answer[name] for name in ("interval", "group_by", "time_zone", "since", "until")} == {
        "interval": "hour", "group_by": None, "time_zone": "UTC",
        "since": "2021-09-22T12:00:00Z", "until": "2021-09-22T16:00:00Z",
    }  # fmt: skip
    [series] = answer["series"]
    assert (series["key"], series["name"]) == (None, "")
    assert [bucket["calls"] for bucket in series["buckets"]] == [0, 0, 1, 0]
    assert series["buckets"][3] == {
        "starts_at": "2021-09-22T15:00:00Z", "ends_at": "2021-09-22T16:00:00Z", "local": "2021-09-22T15:00:00+00:00",
        "calls": 0, "live": 0, "answered": 0, "missed": 0, "busy": 0, "failed": 0, "cancelled": 0, "voicemail": 0,
        "unknown": 0, "answer_rate": None, "talk_seconds": 0, "ring_seconds": 0, "average_talk_seconds": None,
        "average_ring_seconds": None, "cost": [],
    }  # fmt: skip
    assert series["buckets"][2]["cost"] == [{"unit": "INR", "amount": "0.450000"}]


@time_machine.travel(NOW, tick=False)
def test_without_a_range_it_is_the_last_seven_days_of_the_zone_up_to_now(get: Get) -> None:
    a_conversation(started_at=NOW - timedelta(seconds=1))
    a_conversation(started_at=datetime(2026, 11, 13, 18, 30, tzinfo=UTC))
    a_conversation(started_at=datetime(2026, 11, 13, 18, 29, 59, tzinfo=UTC))
    answer = get("stats/timeseries/", time_zone="Asia/Kolkata")
    assert (answer["since"], answer["until"]) == ("2026-11-13T18:30:00Z", "2026-11-20T09:40:12Z")
    [series] = answer["series"]
    assert [bucket["local"][:10] for bucket in series["buckets"]] == [f"2026-11-{day}" for day in range(14, 21)]
    assert [bucket["calls"] for bucket in series["buckets"]] == [1, 0, 0, 0, 0, 0, 1]
    until = datetime(2026, 11, 18, 18, 30, tzinfo=UTC)  # midnight
    answer = get("stats/timeseries/", time_zone="Asia/Kolkata", started_before=written(until))
    assert read(answer["since"]) == until - 7 * DAY


def test_the_first_and_the_last_bucket_hold_only_what_is_in_the_range(get: Get) -> None:
    for minute in (0, 20, 40):
        a_conversation(started_at=NOON + timedelta(minutes=minute))
        a_conversation(started_at=NOON + HOUR + timedelta(minutes=minute))
    inside = between(NOON + timedelta(minutes=20), NOON + HOUR + timedelta(minutes=40))
    [series] = get("stats/timeseries/", interval="hour", **inside)["series"]
    assert [(bucket["starts_at"], bucket["calls"]) for bucket in series["buckets"]] == [
        ("2021-09-22T12:00:00Z", 2),
        ("2021-09-22T13:00:00Z", 2),
    ]


@pytest.mark.parametrize(
    ("parameters", "field", "remedy"),
    [
        ({"interval": "week"}, "interval", "Give one of: hour, day."),
        ({"group_by": "agents"}, "group_by", "Did you mean “agent”?"),
        ({"time_zone": "Asia/Calcuta"}, "time_zone", "Did you mean “Asia/Calcutta”?"),
        ({"time_zone": "../../etc/passwd"}, "time_zone", "Give an IANA name"),
        ({"time_zone": "x" * 10_000}, "time_zone", "Give an IANA name"),
        ({"started_after": "1999-12-31T23:59:59Z"}, "started_after", "Give a moment from 2000-01-01"),
        ({"started_before": "9999-12-31T23:59:59Z"}, "started_before", "Give a moment from 2000-01-01"),
        (between(NOON, NOON), "started_before", "comes after “started_after”"),
        ({"started_after": "2099-01-01T00:00:00Z"}, "started_after", "comes after “started_after”"),
        (between(NOON, NOON + 1001 * DAY), "interval", "At most 1,000 buckets are answered. Ask for a shorter range."),
        (between(NOON, NOON + 1000 * HOUR + HALF_HOURS) | {"interval": "hour"}, "interval", "or for interval=day."),
        ({"started_after": "soon"}, "started_after", "Give a date and a time"),
        ({"account": "nowhere"}, "account", "There is no account with this slug."),
        ({"page_size": "5"}, "page_size", "There is no such parameter."),
    ],
)
def test_what_cannot_be_answered_is_named_with_a_remedy(
    refusal: Get, parameters: dict[str, str], field: str, remedy: str
) -> None:
    [error] = refusal("stats/timeseries/", **parameters)["errors"]
    assert error["field"] == field
    assert remedy in error["message"]


def test_a_thousand_buckets_are_answered_and_more_groups_than_can_be_are_not(get: Get, refusal: Get) -> None:
    assert len(get("stats/timeseries/", **between(NOON, NOON + 999 * DAY))["series"][0]["buckets"]) == 1000
    account = an_account()
    Conversation.objects.bulk_create(
        a_call(account, started_at=NOON, did=f"+9180000000{number:02}") for number in range(11)
    )
    asked = {"group_by": "did", **between(NOON - HOUR, NOON + 999 * DAY)}
    [error] = refusal("stats/timeseries/", **asked)["errors"]
    assert error["field"] == "group_by"
    assert "more than 10 groups" in error["message"]
    assert len(get("stats/timeseries/", **asked, did="+918000000001")["series"]) == 1
    for number in range(11):
        an_account(f"desk-{number}")
    # Accounts without calls are no groups.
    assert len(get("stats/timeseries/", **(asked | {"group_by": "account"}))["series"]) == 1


# --- The figures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group_by", GroupBy)
def test_each_group_has_the_figures_that_its_filter_leaves(get: Get, group_by: str) -> None:
    since, until = NOON, NOON + 3 * DAY
    some_calls(200, since, until)
    range_of = between(since, until)
    answer = get("stats/timeseries/", group_by=group_by, **range_of)
    series = answer["series"]
    assert len(series) == {"account": 3, "agent": 7, "did": 3, "direction": 3}[group_by]
    counts = [one["total"]["calls"] for one in series]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == get("stats/summary/", **range_of)["calls"] == 200
    for one in series:
        assert sum(bucket["calls"] for bucket in one["buckets"]) == one["total"]["calls"]
        assert len(one["buckets"]) == 4
        if one["key"] is None:
            assert one["name"] in ("No agent", "No DID")
        else:
            assert one["total"] == get("stats/summary/", **{group_by: one["key"]}, **range_of)
            for bucket in one["buckets"]:
                begin = max(read(bucket["starts_at"]), since)
                end = min(read(bucket["ends_at"]), until)
                of_bucket = get("stats/summary/", **{group_by: one["key"]}, **between(begin, end))
                assert figures(bucket) == of_bucket


@pytest.mark.parametrize(
    "parameters",
    [
        {"direction": "inbound"},
        {"disposition": "answered,missed"},
        {"account": "goa"},
        {"account": "delhi,goa"},
        {"provider": "piopiy"},
        {"min_talk_seconds": "100"},
        {"number": "0000 0001"},
        {"account": "pune", "state": "live"},
    ],
)
def test_it_takes_the_filters_of_conversations(get: Get, parameters: dict[str, str]) -> None:
    some_calls(100, NOON, NOON + DAY)
    for moment in (None, NOON + DAY / 2):
        if moment:
            work_out(moment)
        [series] = get("stats/timeseries/", interval="hour", **parameters, **between(NOON, NOON + DAY))["series"]
        assert series["total"] == get("stats/summary/", **parameters, **between(NOON, NOON + DAY))
        assert series["total"]["calls"] > 0


@time_machine.travel(NOW, tick=False)
@pytest.mark.parametrize("zone", ["Asia/Kolkata", "Europe/London"])
def test_the_figures_are_those_of_the_dashboard(get: Get, zone: str) -> None:
    some_calls(600, NOW - 40 * DAY, NOW)  # the clocks of London were put back within this time
    staff = Client()
    staff.force_login(User.objects.create_superuser("root"))
    staff.cookies["zone"] = zone
    first, until = datetime(2026, 10, 20, tzinfo=ZoneInfo(zone)), datetime(2026, 11, 20, tzinfo=ZoneInfo(zone))
    for moment in (NOW - 20 * DAY, NOW):
        work_out(moment)
        page = staff.get("/admin/", {"range": "custom", "from": "2026-10-20", "to": "2026-11-19"})
        shown = {figure["title"]: figure for figure in page.context["figures"]}
        for interval in ("day", "hour"):
            [series] = get("stats/timeseries/", interval=interval, time_zone=zone, **between(first, until))["series"]
            buckets = series["buckets"]
            assert sum(bucket["calls"] for bucket in buckets) == shown["Calls"]["calls"] > 0
            assert sum(bucket["answered"] for bucket in buckets) == shown["Answered"]["calls"]
            ended = sum(bucket["calls"] - bucket["live"] for bucket in buckets)
            assert ended == shown["Answer rate"]["calls"]
            for unit in ("INR", "coins"):
                amounts = [amount for bucket in buckets for amount in bucket["cost"] if amount["unit"] == unit]
                cost = sum(Decimal(amount["amount"]) for amount in amounts)
                assert f"{cost:,.2f}" in shown[f"Cost in {unit}"]["text"]


moments = st.one_of(
    st.sampled_from(
        [read(f"{day}T00:00:00").replace(tzinfo=ZoneInfo(name)).astimezone(UTC) for name, day, _ in CLOCK_CHANGES]
    ),
    st.datetimes(datetime(2026, 10, 1), datetime(2026, 11, 30), timezones=st.just(UTC)),  # noqa: DTZ001
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    near=moments,
    hours=st.tuples(st.integers(0, 30), st.integers(1, 60)),
    minutes=st.tuples(st.integers(0, 59), st.integers(0, 59)),
    zone=st.sampled_from([*dict.fromkeys(name for name, _, _ in CLOCK_CHANGES), "UTC"]),
    interval=st.sampled_from(Interval),
    worked_out=st.one_of(st.none(), st.integers(-30, 60)),
    seed=st.integers(0, 1000),
)
def test_rollups_and_counting_say_the_same_and_what_each_bucket_holds_by_itself(
    db: None,
    near: datetime,
    hours: tuple[int, int],
    minutes: tuple[int, int],
    zone: str,
    interval: Interval,
    worked_out: int | None,
    seed: int,
) -> None:
    since = near - HOUR * hours[0] + timedelta(minutes=minutes[0])
    until = since + HOUR * hours[1] + timedelta(minutes=minutes[1])
    buckets = Buckets.of(since, until, interval, ZoneInfo(zone))
    with transaction.atomic():
        accounts = [account.pk for account in some_calls(40, since - HOUR, until + HOUR, seed)]
        if worked_out is not None:
            work_out(near + HOUR * worked_out)
        calls = Conversation.objects.all()
        known = list(calls.values_list("account__slug", "started_at", "talk_seconds"))
        for group_by in (None, GroupBy.ACCOUNT):
            counted = timeseries.counted(calls, buckets, group_by)
            for one in counted:
                mine = [(at, talk or 0) for slug, at, talk in known if one.key in (None, slug)]
                for begin, end, tally in zip(buckets.marks, buckets.marks[1:], one.tallies, strict=False):
                    within = [talk for at, talk in mine if max(begin, since) <= at < min(end, until)]
                    assert (tally.counts["calls"], tally.counts["talk_seconds"]) == (len(within), sum(within))
            within = calls.filter(started_at__gte=since, started_at__lt=until)
            whole = total(tally for one in counted for tally in one.tallies)
            assert whole.summary == summarize(within)
            if timeseries.can_be_rolled_up(accounts, buckets, group_by):
                assert comparable(timeseries.rolled_up(accounts, buckets, group_by)) == comparable(counted)
            else:
                assert zone in ("Asia/Kathmandu", "America/St_Johns")
        transaction.set_rollback(True)


def comparable(series: list[Series]) -> list:
    return [
        (one.key, one.name, [(+tally.counts, +tally.paid, tally.summary) for tally in one.tallies]) for one in series
    ]


def test_what_rollups_can_tell_is_read_from_them_and_anything_else_is_counted(get: Get) -> None:
    a_conversation(started_at=NOON)
    work_out(NOON + DAY)
    Rollup.objects.filter(kind=Rollup.Kind.TOTAL).update(calls=7)
    asked = between(NOON - DAY, NOON + DAY)

    def calls(**parameters: str) -> list[int]:
        return [one["total"]["calls"] for one in get("stats/timeseries/", **asked, **parameters)["series"]]

    assert calls() == calls(account="delhi-support") == calls(group_by="account") == [7]
    assert calls(interval="hour", time_zone="Europe/London") == calls(time_zone="Asia/Kolkata") == [7]
    assert calls(direction="inbound") == calls(group_by="did") == calls(time_zone="Asia/Kathmandu") == [1]


# --- Whose figures ---------------------------------------------------------------------------------------------------


def test_a_key_of_some_accounts_is_told_of_no_others(db: None) -> None:
    delhi, _, _ = some_calls(60, NOON, NOON + DAY)
    text = a_key(Scope.READ)
    ApiKey.of_text(text).accounts.add(delhi)
    client = client_with(text)
    own = Conversation.objects.filter(account=delhi)
    for group_by in (None, *GroupBy):
        for filters in ({}, {"state": "ended,live"}):
            parameters = between(NOON, NOON + DAY) | filters | ({"group_by": group_by} if group_by else {})
            series = client.get("/api/v1/stats/timeseries/", parameters).json()["series"]
            assert sum(one["total"]["calls"] for one in series) == own.count()
            if group_by == "account":
                assert [one["key"] for one in series] == ["delhi"]
    assert client.get("/api/v1/stats/timeseries/", {"account": "pune"}).status_code == 400
    assert client_with(a_key(Scope.EXPORT)).get("/api/v1/stats/timeseries/").status_code == 403
    assert Client().get("/api/v1/stats/timeseries/").status_code == 401


@pytest.mark.parametrize("group_by", [None, *GroupBy])
def test_twenty_two_calls_cost_as_many_queries_as_two(
    client: Client, group_by: str | None, django_assert_max_num_queries: Callable
) -> None:
    parameters = between(NOON, NOON + DAY) | ({"group_by": group_by} if group_by else {})

    def queries() -> int:
        with django_assert_max_num_queries(10) as captured:
            assert client.get("/api/v1/stats/timeseries/", parameters).status_code == 200
        return len(captured)

    def more(count: int) -> Iterator[Conversation]:
        account = an_account("delhi")
        for number in range(count):
            agent, _ = Agent.objects.get_or_create(account=account, external_id=f"{count}-{number}")
            yield a_call(account, started_at=NOON, agent=agent, did=f"+9180000000{number:02}")

    Conversation.objects.bulk_create(more(2))
    queries()  # the first use of the key is noted
    few = queries()
    Conversation.objects.bulk_create(more(20))
    assert queries() == few
