"""The statement: its figures add up, and each of them opens the rows that it counts."""

import csv
import io
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random

import msgspec
import pytest
import time_machine
from django.contrib.auth.models import Permission, User
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calls import statement
from calls.admin.statement import BATCH, chosen_days
from calls.choices import Direction, GapKind
from calls.models import Account, BalanceReading, Conversation, Leg
from calls.records import AgentRef, LegCdr
from tests.calls.reports import NOON, paid_call, take

DAY = {"from": "2026-03-02", "to": "2026-03-02"}
MONEY = st.decimals(0, 500, places=2)
# The account is made once; each example rolls back what it wrote.
EACH_ROLLED_BACK = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=settings.default.max_examples // 4
)


def address(account: Account, part: str = "") -> str:
    return f"/admin/calls/account/{account.pk}/statement/{part}"


def take_balances(account: Account, *balances: str) -> None:
    """Take in a paid call a minute, each leaving the balance given."""
    take(account, *(paid_call(number, balance=balance) for number, balance in enumerate(balances)))


def outbound(number: int, to: str, *, balance: str | None = None, cost: str = "0.45", **values: object) -> LegCdr:
    """Return the report on an outbound call, with or without a balance."""
    call = paid_call(number, balance=balance or "0", cost=cost)
    given = {"call_direction": Direction.OUTBOUND, "customer_number": to, "did": "918000000000"} | values
    return msgspec.structs.replace(call, balance_after=Decimal(balance) if balance else None, **given)


def rows(response) -> list:
    assert response.status_code == 200
    return list(response.context["cl"].result_list)


def downloaded(response) -> list[dict[str, str]]:
    assert response.status_code == 200
    return list(csv.DictReader(io.StringIO(b"".join(response.streaming_content).decode())))


# --- Figures ---------------------------------------------------------------------------------------------------------


@given(
    steps=st.lists(st.tuples(MONEY, st.one_of(st.just(Decimal(0)), MONEY, MONEY.map(lambda x: -x))), max_size=12),
    minutes=st.lists(st.integers(1, 40), min_size=12, max_size=12),
    edges=st.tuples(st.integers(0, 480), st.integers(0, 480)),
    seed=st.randoms(use_true_random=False),
)
@EACH_ROLLED_BACK
def test_the_figures_of_any_chain_and_any_time_add_up_to_the_last_balance(account, steps, minutes, edges, seed: Random):
    """Whatever was charged, added or lost, and in whatever order the reports came in."""
    balance, end, reports = Decimal(1000), NOON, []
    for number, ((cost, gap), pause) in enumerate(zip(steps, minutes, strict=False)):
        balance += gap - cost
        end += timedelta(minutes=pause)
        reports.append(paid_call(number, balance=str(balance), cost=str(cost), at=end))
    seed.shuffle(reports)
    after, before = (NOON + timedelta(minutes=edge) for edge in sorted(edges))
    with transaction.atomic():
        for some in (reports[::2], reports[1::2]):
            take(account, *some)
        for since, until in [(None, None), (after, None), (None, before), (after, before)]:
            found = statement.totals(account, since, until)
            chosen = list(statement.readings(account, since, until))
            so_far = list(statement.readings(account, None, until))
            if not so_far:
                assert found.opening is None
                continue
            moved = found.top_ups.amount + found.rounding.amount - found.charges.amount - found.unexplained.amount
            assert found.opening + moved == found.closing == so_far[0].balance
            assert found.charges == (sum(reading.charge for reading in chosen), len(chosen))
            for part, kind, sign in [(found.top_ups, GapKind.TOP_UP, 1), (found.unexplained, GapKind.MISSING, -1)]:
                of_kind = [sign * reading.gap for reading in chosen if reading.gap_kind == kind]
                assert part == (sum(of_kind), len(of_kind))
                assert part.amount >= 0
        transaction.set_rollback(True)


def test_a_day_opens_with_the_balance_that_the_day_before_closed_with(account):
    take_balances(account, "100", "99.55", "599.10", "590")
    first = statement.totals(account, None, NOON + timedelta(minutes=2))
    second = statement.totals(account, NOON + timedelta(minutes=2), None)
    assert first.closing == second.opening == Decimal("99.55")
    assert (second.top_ups, second.charges) == ((500, 1), (Decimal("0.9"), 2))
    assert (second.unexplained, second.closing) == ((Decimal("8.65"), 1), 590)


def test_a_time_without_a_reading_keeps_the_balance(account):
    take_balances(account, "100", "99.55")
    found = statement.totals(account, NOON + timedelta(days=1), None)
    assert (found.opening, found.closing, found.charges.count) == (Decimal("99.55"), Decimal("99.55"), 0)
    assert (found.first_at, found.last_at) == (None, None)


def test_the_curve_follows_every_balance_in_few_points(account):
    random = Random(3)
    conversation = Conversation.objects.create(account=account, started_at=NOON, last_heard_at=NOON)
    balance, made = Decimal(1000), []
    for number in range(1500):
        cost = Decimal(random.randrange(300)) / 100
        balance -= cost
        gap = Decimal(500) if balance < 300 else Decimal(0)
        balance += gap
        made.append((Leg(account=account, conversation=conversation, external_id=str(number)), balance, cost, gap))
    Leg.objects.bulk_create(leg for leg, *_ in made)
    BalanceReading.objects.bulk_create(
        BalanceReading(
            account=account, conversation=conversation, leg=leg, balance=balance, charge=cost, gap=gap,
            gap_kind=GapKind.TOP_UP if gap else GapKind.NONE, received_at=NOON,
            occurred_at=NOON + timedelta(minutes=number), booked_at=NOON + timedelta(minutes=number),
        )
        for number, (leg, balance, cost, gap) in enumerate(made)
    )  # fmt: skip
    end = NOON + timedelta(minutes=1500)
    points = statement.curve(account, NOON, end, statement.totals(account, NOON, end).opening)
    assert len(points) <= statement.MOST_POINTS + 1
    assert points[-1].close == balance
    assert min(point.low for point in points) == min(balance for _, balance, *_ in made)
    assert max(point.high for point in points) == max(balance for _, balance, *_ in made)
    assert all(point.low <= point.close <= point.high for point in points)
    balance_at = {NOON + timedelta(minutes=number): balance for number, (_, balance, *_) in enumerate(made)}
    assert [point.close for point in points] == [balance_at[point.at] for point in points]


# --- The page --------------------------------------------------------------------------------------------------------


def test_each_figure_opens_exactly_the_readings_that_it_counts(admin_client, account):
    take_balances(account, "100", "99.55", "599.10", "590", "589.55", "689.10", "680")
    other = Account.objects.create(slug="pune", provider="piopiy")
    take_balances(other, "7", "507")
    page = admin_client.get(address(account), DAY)
    amounts = {}
    for term in page.context["terms"]:
        amounts[term["title"]] = term["amount"]
        if term["count"]:
            found = rows(admin_client.get(term["url"]))
            assert len(found) == term["count"]
            kinds = {"Charges": set(GapKind), "Top-ups": {"top_up"}, "Unexplained charges": {"missing"}}
            assert {reading.gap_kind for reading in found} <= kinds[term["title"]]
            assert {reading.account for reading in found} == {account}
    assert amounts == {
        "Opening balance": "100.45 INR",
        "Top-ups": "600.00 INR",
        "Charges": "3.15 INR",
        "Unexplained charges": "17.30 INR",
        "Rounding": "0.00 INR",
        "Closing balance": "680.00 INR",
    }
    text = page.content.decode()
    assert "7.00" not in text
    last = page.context["terms"][-1]["url"]
    assert "680.00 INR" in admin_client.get(last).content.decode()


def test_each_cost_opens_exactly_the_calls_that_it_counts(admin_client, account):
    asha, ravi = AgentRef(external_id="202", name="Asha"), AgentRef(external_id="203", name="Ravi")
    take(
        account,
        outbound(0, "919000000001", agent=asha),
        outbound(1, "919000000002", agent=ravi, did="918000000001"),
        outbound(2, "18765551234", agent=asha, cost="7"),
        outbound(3, "18765551234", did=""),
        outbound(4, "1860", agent=ravi),
        paid_call(5, balance="90"),
        paid_call(6, balance="89", at=NOON + timedelta(days=1)),
        outbound(7, "919000000003", cost="0"),
    )
    Conversation.objects.create(account=account, started_at=NOON, last_heard_at=NOON, did="+918000000000")
    page = admin_client.get(address(account), {"from": "2026-03-02", "to": "2026-03-03"})
    found = {}
    for table in page.context["costs"]:
        assert table["rows"]
        for row in table["rows"]:
            calls = rows(admin_client.get(row["url"]))
            assert len(calls) == row["calls"], row["label"]
            total = sum(call.cost for call in calls if call.cost is not None)
            assert row["amounts"] == [f"{total:.2f} INR"]
            found[row["label"]] = row["amounts"][0]
    assert found["+1876 …"] == "7.45 INR"
    assert found["+9190 …"] == "0.90 INR"
    assert found["No full number"] == "0.45 INR"
    assert found["Asha"] == "7.45 INR"


def test_units_are_never_added_to_each_other(admin_client, account):
    take(account, outbound(0, "919000000001"))
    coins = Conversation.objects.get()
    take(account, outbound(1, "919000000001", cost="2"))
    Conversation.objects.filter(pk=coins.pk).update(cost_unit="coins")
    page = admin_client.get(address(account), DAY)
    by_day = page.context["costs"][0]["rows"]
    assert by_day[0]["amounts"] == ["2.00 INR", "0.45 coins"]
    assert "2.45" not in page.content.decode()


def test_an_account_whose_reports_state_no_balance_shows_its_costs_and_says_so(admin_client):
    account = Account.objects.create(slug="coins", provider="callerdesk", unit="coins")
    take(account, outbound(0, "919000000001", cost="3"))
    page = admin_client.get(address(account), DAY)
    text = page.content.decode()
    assert "No final report of this account has stated a balance" in text
    assert page.context["costs"][0]["rows"][0]["amounts"] == ["3.00 coins"]
    assert page.context["chart"] is None


def test_an_empty_range_leads_to_the_newest_reading(admin_client, account):
    take_balances(account, "100")
    for days in [{"from": "2026-02-01", "to": "2026-02-28"}, {"from": "2026-04-01", "to": "2026-04-02"}]:
        text = admin_client.get(address(account), days).content.decode()
        (link,) = re.findall(r'href="\?(from=[^"]+)"', text)
        assert link == "from=2026-03-01&amp;to=2026-03-02"


def test_a_gap_is_listed_and_marked_with_its_reason(admin_client, account):
    take_balances(account, "100", "99.55", "599.10", "590")
    page = admin_client.get(address(account), DAY)
    text = page.content.decode()
    gaps = BalanceReading.objects.exclude(gap=0).exclude(gap=None)
    assert {mark.reading.pk for mark in page.context["chart"].marks} == {gap.pk for gap in gaps}
    assert text.count("<title>Top-up of 500.00 INR") == 1
    assert text.count("<title>Unexplained charge of 8.65 INR") == 1
    for gap in gaps:
        assert f'href="/admin/calls/balancereading/{gap.pk}/change/"' in text
        assert (
            statement.reason(gap) in admin_client.get(f"/admin/calls/balancereading/{gap.pk}/change/").content.decode()
        )


def test_a_call_seen_live_in_the_interval_of_an_unexplained_charge_is_a_suspect(admin_client, account):
    take_balances(account, "100", "99.55", "99.10", "90")
    missing = BalanceReading.objects.get(gap_kind=GapKind.MISSING)
    suspect = Conversation.objects.create(
        account=account,
        started_at=missing.booked_at - timedelta(seconds=30),
        last_heard_at=NOON,
        customer_number="+919000000077",
    )
    innocent = Conversation.objects.create(
        account=account, started_at=NOON + timedelta(hours=5), last_heard_at=NOON, customer_number="+919000000078"
    )
    for page in [address(account), f"/admin/calls/balancereading/{missing.pk}/change/"]:
        text = admin_client.get(page, DAY).content.decode()
        assert f"/admin/calls/conversation/{suspect.pk}/change/" in text
        assert f"/admin/calls/conversation/{innocent.pk}/change/" not in text


def test_twenty_two_readings_cost_as_many_queries_as_two(admin_client, account):
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert admin_client.get(address(account), DAY).status_code == 200
        return len(captured)

    def more(numbers: range) -> None:
        """Take in calls that each lose money or get some, of many numbers and agents."""
        for number in numbers:
            values = {"agent": AgentRef(external_id=str(number)), "did": f"91800000{number:04}"}
            take(account, outbound(number, f"91{number + 70}00000001", balance=str(100 - number * 3), **values))

    more(range(2))
    few = queries()
    more(range(2, 22))
    assert queries() == few


# --- Ranges ----------------------------------------------------------------------------------------------------------

TODAY = date(2026, 3, 2)


@pytest.mark.parametrize(
    ("query", "first", "last"),
    [
        ({}, "2026-02-01", "2026-03-02"),
        ({"range": "today"}, "2026-03-02", "2026-03-02"),
        ({"range": "7d"}, "2026-02-24", "2026-03-02"),
        ({"range": "month"}, "2026-03-01", "2026-03-02"),
        ({"range": "last-month"}, "2026-02-01", "2026-02-28"),
        ({"from": "2026-01-15", "to": "2026-01-20"}, "2026-01-15", "2026-01-20"),
        ({"from": "2026-01-15", "to": ""}, "2026-01-15", "2026-03-02"),
    ],
)
def test_a_range_is_whole_days(query, first, last):
    days, problem = chosen_days(query, TODAY)
    assert (str(days.first), str(days.last), problem) == (first, last, "")


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"range": "year"}, "There is no range “year”"),
        ({"from": "2026-02-30"}, "“2026-02-30” is no day. Write it as 2026-03-02."),
        ({"to": "2026-03-01"}, "“” is no day"),
        ({"from": "2026-03-03", "to": "2026-03-01"}, "2026-03-03 comes after 2026-03-01"),
        ({"from": "0001-01-01"}, "The year 1 is out of range"),
        ({"from": "9999-12-31", "to": "9999-12-31"}, "The year 9999 is out of range"),
    ],
)
def test_a_senseless_range_is_named_and_another_shown(admin_client, account, query, told):
    days, problem = chosen_days(query, TODAY)
    assert told in problem
    assert days == chosen_days({}, TODAY)[0]
    assert admin_client.get(address(account), query).status_code == 200
    assert admin_client.get(address(account, "csv/"), query).status_code == 400


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/St_Johns", "Europe/London"])
def test_days_are_those_of_the_viewers_zone(admin_client, account, zone):
    midnights = {"Asia/Kolkata": (18, 30), "America/St_Johns": (3, 30), "Europe/London": (0, 0)}
    end = datetime(2026, 3, 2, *midnights[zone], tzinfo=UTC)
    take(account, paid_call(1, balance="100", at=end - timedelta(seconds=1)), paid_call(2, balance="99", at=end))
    admin_client.cookies["zone"] = zone
    first = {"Asia/Kolkata": "2026-03-03"}.get(zone, "2026-03-02")
    page = admin_client.get(address(account), {"from": first, "to": first})
    assert page.context["totals"].first_at == end
    assert len(rows(admin_client.get(page.context["terms"][2]["url"]))) == 1


# --- CSV -------------------------------------------------------------------------------------------------------------


def test_the_file_holds_the_readings_of_the_list_oldest_first(admin_client, account):
    take_balances(account, "100", "99.55", "599.10", "590")
    take(account, paid_call(9, balance="1", at=NOON + timedelta(days=3)))
    admin_client.cookies["zone"] = "Asia/Kolkata"
    page = admin_client.get(address(account), DAY)
    lines = downloaded(admin_client.get(page.context["csv_url"]))
    listed = rows(admin_client.get(page.context["readings_url"]))
    assert [line["balance"] for line in lines] == ["100.000000", "99.550000", "599.100000", "590.000000"]
    assert [Decimal(line["balance"]) for line in lines] == [reading.balance for reading in reversed(listed)]
    assert [line["gap"] for line in lines] == ["", "0.000000", "500.000000", "-8.650000"]
    assert [line["kind"] for line in lines] == ["opening", "none", "top_up", "missing"]
    assert lines[0]["call_ended_at"] == "2026-03-02T17:30:00+05:30"
    assert lines[0]["call"] == f"http://testserver/admin/calls/conversation/{listed[-1].conversation_id}/change/"
    assert admin_client.get(lines[0]["call"]).status_code == 200


@pytest.mark.parametrize("number", ["=1+1", "+919000000001", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_is_taken_for_a_formula(admin_client, account, number):
    take(account, paid_call(0, balance="100"))
    Conversation.objects.update(customer_number=number)
    (line,) = downloaded(admin_client.get(address(account, "csv/"), DAY))
    assert line["number"] == f"'{number}"


def test_a_file_of_several_batches_misses_and_repeats_nothing(admin_client, account):
    conversation = Conversation.objects.create(account=account, started_at=NOON, last_heard_at=NOON)
    legs = Leg.objects.bulk_create(
        Leg(account=account, conversation=conversation, external_id=str(number)) for number in range(2 * BATCH + 1)
    )
    BalanceReading.objects.bulk_create(
        BalanceReading(
            account=account, conversation=conversation, leg=leg, balance=number, charge=0, gap=0, gap_kind=GapKind.NONE,
            occurred_at=NOON, received_at=NOON, booked_at=NOON + timedelta(microseconds=number),
        )
        for number, leg in enumerate(legs)
    )  # fmt: skip
    lines = downloaded(admin_client.get(address(account, "csv/"), DAY))
    assert [Decimal(line["balance"]) for line in lines] == list(range(2 * BATCH + 1))


# --- Who may see it --------------------------------------------------------------------------------------------------


def test_it_is_for_those_who_may_see_balances(client, account):
    take_balances(account, "100")
    paths = [address(account), address(account, "csv/")]
    assert all(client.get(path).status_code == 302 for path in paths)
    viewer = User.objects.create_user("viewer", is_staff=True)
    client.force_login(viewer)
    assert all(client.get(path).status_code == 403 for path in paths)
    viewer.user_permissions.set(Permission.objects.filter(codename__in=["view_balancereading", "see_all_calls"]))
    assert all(client.get(path, DAY).status_code == 200 for path in paths)
    assert "Cost by day" not in client.get(address(account), DAY).content.decode()
    viewer.user_permissions.add(Permission.objects.get(codename="view_conversation"))
    assert "Cost by day" in client.get(address(account), DAY).content.decode()


def test_an_account_that_is_not_there_is_not_found(admin_client):
    assert admin_client.get("/admin/calls/account/77/statement/").status_code == 404


def test_the_first_page_the_account_and_the_list_of_readings_lead_to_it(admin_client, account):
    take_balances(account, "100")
    for page in ["/admin/", f"/admin/calls/account/{account.pk}/change/", "/admin/calls/balancereading/"]:
        assert f'href="{address(account)}"' in admin_client.get(page).content.decode()


# --- In the browser --------------------------------------------------------------------------------------------------


@pytest.mark.browser
@time_machine.travel(NOON + timedelta(hours=2))
def test_it_fits_a_phone_and_its_marks_are_reached_with_the_keyboard(live_server, page, transactional_db, account):
    User.objects.create_superuser("staff", password="a long password")
    take_balances(account, "100", "99.55", "599.10", "590")
    complaints = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(f"{live_server.url}{address(account)}")
    page.locator("input[name=username]").fill("staff")
    page.locator("input[name=password]").fill("a long password")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="CSV file").focus()
    page.wait_for_url(f"{live_server.url}{address(account)}")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    labels = []
    for _ in range(12):
        page.keyboard.press("Tab")
        labels.append(page.evaluate("document.activeElement.getAttribute('aria-label')") or "")
    marks = [label.partition(",")[0] for label in labels if " of " in label]
    assert marks == ["Top-up of 500.00 INR", "Unexplained charge of 8.65 INR"]
    page.get_by_label("Top-up of").press("Enter")
    page.wait_for_url(re.compile("/balancereading/"))
    assert complaints == []
