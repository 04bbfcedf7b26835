"""The worklist by way of the API: what programs see of it and do about it, by the same rules as staff."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from calls.choices import Disposition, Scope
from calls.models import AuditEntry, MissedCaller, WorklistStep
from tests.api.factories import a_conversation, an_account
from tests.api.program import Program, in_parallel, problem, the_error
from tests.calls.staff import person

pytestmark = pytest.mark.django_db

NINE = datetime(2026, 3, 2, 9, tzinfo=UTC)  # a Monday


@pytest.fixture(autouse=True)
def _at_ten() -> Any:
    with time_machine.travel(NINE + timedelta(hours=1)):
        yield


@pytest.fixture
def program(db: None) -> Program:
    return Program()


@pytest.fixture
def asha(db: None) -> User:
    return person("manager", name="asha", accounts=[an_account()])


def an_entry(minute: float = 0, **columns: Any) -> MissedCaller:
    """Somebody who was missed once, ``minute`` minutes after nine, with the call that makes the entry."""
    at = NINE + timedelta(minutes=minute)
    defaults = {
        "account": columns.get("account") or an_account(),
        "customer_number": "+919000000001",
        "did": "+918000000001",
        "misses": 1,
        "attempts": 0,
        "first_missed_at": at,
        "last_missed_at": at,
    }
    entry = MissedCaller.objects.create(**(defaults | columns))
    a_conversation(
        account=entry.account,
        disposition=Disposition.MISSED,
        customer_number=entry.customer_number,
        did=entry.did,
        started_at=at,
        answered_at=None,
        talk_seconds=None,
    )
    return entry


def do(program: Program, entry: MissedCaller, **body: Any) -> Any:
    return program.send("POST", f"worklist/{entry.pk}/steps/", body)


def done(program: Program, entry: MissedCaller, **body: Any) -> dict[str, Any]:
    """Do something about an entry and return it as it is then, which is what its page says too."""
    answer = do(program, entry, **body)
    assert answer.status_code == 201, answer.content
    assert program.get(f"worklist/{entry.pk}/").json() == answer.json()
    return answer.json()


# --- Reading ----------------------------------------------------------------------------------------------------------


def test_an_entry_says_who_is_owed_a_call_and_how_it_stands(program: Program, asha: User) -> None:
    entry = an_entry(due_at=NINE + timedelta(minutes=30), assigned_to=asha)
    (shown,) = program.get("worklist/").json()["results"]
    assert shown == {
        "id": entry.pk,
        "account": "delhi-support",
        "standing": "open",
        "customer_number": "+919000000001",
        "did": "+918000000001",
        "misses": 1,
        "first_missed_at": "2026-03-02T09:00:00Z",
        "last_missed_at": "2026-03-02T09:00:00Z",
        "due_at": "2026-03-02T09:30:00Z",
        "attempts": 0,
        "first_attempt_at": None,
        "last_attempt_at": None,
        "reached_at": None,
        "reached_by": None,
        "closed_at": None,
        "closing": None,
        "assigned_to": "asha",
        "snoozed_until": None,
    }
    assert program.get(f"worklist/{entry.pk}/").json() == shown


def test_entries_are_found_by_what_they_are(program: Program, asha: User) -> None:
    now = NINE + timedelta(hours=1)
    late = an_entry(0, due_at=now - timedelta(minutes=1), customer_number="+919000000001")
    early = an_entry(1, due_at=now + timedelta(minutes=1), customer_number="+919000000002", assigned_to=asha)
    put_off = an_entry(2, snoozed_until=now + timedelta(hours=1), customer_number="+919000000003")
    closed = an_entry(3, closed_at=now, closing="spam", customer_number="+919000000004")
    elsewhere = an_entry(4, account=an_account("pune"))
    for query, found in [
        ("", [elsewhere, closed, put_off, early, late]),
        ("ordering=due_at", [late, early, put_off, closed, elsewhere]),
        ("account=pune", [elsewhere]),
        ("standing=open", [elsewhere, early, late]),
        ("standing=snoozed,closed", [closed, put_off]),
        ("overdue=true", [late]),
        ("overdue=false&account=delhi-support", [closed, put_off, early]),
        ("assigned_to=asha", [early]),
        ("assigned=true", [early]),
        ("assigned=false&account=delhi-support", [closed, put_off, late]),
        ("customer_number=090000 00002,%2B919000000003", [put_off, early]),
        ("missed_after=2026-03-02T09:03:00Z", [elsewhere, closed]),
        ("missed_before=2026-03-02T09:01:00Z", [late]),
    ]:
        rows = program.get(f"worklist/?{query}").json()["results"]
        assert [row["id"] for row in rows] == [entry.pk for entry in found], query


def test_the_pages_by_due_time_have_every_entry_once(program: Program) -> None:
    for i in range(7):
        due_at = NINE + timedelta(minutes=i) if i % 2 else None
        an_entry(i, customer_number=f"+91900000000{i}", due_at=due_at)
    seen, page = [], program.get("worklist/?ordering=due_at&page_size=3").json()
    while True:
        seen += [row["due_at"] for row in page["results"]]
        if page["next"] is None:
            break
        page = program.get(page["next"].partition("/api/v1/")[2]).json()
    minutes = [f"2026-03-02T09:0{i}:00Z" for i in (1, 3, 5)]
    assert seen == minutes + [None] * 4


def test_a_list_takes_as_many_queries_for_22_entries_as_for_2(program: Program, asha: User) -> None:
    def queries(path: str) -> int:
        with CaptureQueriesContext(connection) as found:
            program.get(path)
        return len(found)

    entry = an_entry(due_at=NINE)
    for _ in range(2):
        done(program, entry, kind="assign", assigned_to="asha")
    an_entry(account=an_account("pune"), assigned_to=asha)
    paths = ["worklist/", f"worklist/{entry.pk}/steps/"]
    few = [queries(path) for path in paths]
    for i in range(20):
        an_entry(i, account=an_account(f"a{i}"), assigned_to=asha)
        done(program, entry, kind="assign", assigned_to="asha")
    assert [queries(path) for path in paths] == few


# --- Doing ------------------------------------------------------------------------------------------------------------


def test_an_entry_is_taken_put_off_closed_and_opened_again(program: Program, asha: User) -> None:
    entry = an_entry()
    ravi = person("manager", name="ravi", accounts=[an_account()])
    assert done(program, entry, kind="take", assigned_to="asha")["assigned_to"] == "asha"
    assert done(program, entry, kind="assign", assigned_to=ravi.username)["assigned_to"] == "ravi"
    until = "2026-03-02T12:00:00Z"
    shown = done(program, entry, kind="snooze", until="2026-03-02T17:30:00+05:30")
    assert (shown["standing"], shown["snoozed_until"]) == ("snoozed", until)
    assert done(program, entry, kind="wake")["standing"] == "open"
    assert done(program, entry, kind="give_back")["assigned_to"] is None
    done(program, entry, kind="comment", text="Rings in the evening")
    shown = done(program, entry, kind="close", closing="other", text="Moved away")
    assert (shown["standing"], shown["closing"]) == ("closed", "other")
    assert done(program, entry, kind="reopen")["standing"] == "open"
    steps = program.get(f"worklist/{entry.pk}/steps/").json()["results"]
    kinds = ["take", "assign", "snooze", "wake", "give_back", "comment", "close", "reopen"]
    assert [step["kind"] for step in steps] == kinds
    assert {(step["by"], step["api_key"]) for step in steps} == {(None, program.key.name)}
    assert [step["assigned_to"] for step in steps[:2]] == ["asha", "ravi"]
    assert (steps[2]["until"], steps[5]["text"], steps[6]["closing"]) == (until, "Rings in the evening", "other")
    said = AuditEntry.objects.order_by("pk").values_list("api_key", "details__step")
    assert list(said) == [(program.key.pk, kind) for kind in kinds]


def test_what_does_not_go_any_more_is_a_conflict(program: Program, asha: User) -> None:
    entry = an_entry()
    done(program, entry, kind="take", assigned_to="asha")
    answer = problem(do(program, entry, kind="take", assigned_to="asha"), 409)
    assert answer["detail"] == "asha has it already."
    done(program, entry, kind="close", closing="spam")
    assert problem(do(program, entry, kind="snooze", until="2026-03-02T12:00:00Z"), 409)["detail"] == (
        "It is closed already: spam."
    )
    an_entry(5)
    assert "Work on the newer entry" in problem(do(program, entry, kind="reopen"), 409)["detail"]
    assert WorklistStep.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_of_many_programs_that_take_an_entry_at_once_one_gets_it() -> None:
    entry, program, statuses = an_entry(), Program(), []
    for i in range(6):
        person("manager", name=f"colleague {i}", accounts=[entry.account])
    in_parallel(
        lambda i: statuses.append(do(program, entry, kind="take", assigned_to=f"colleague {i}").status_code), range(6)
    )
    assert sorted(statuses) == [201] + [409] * 5
    assert WorklistStep.objects.count() == AuditEntry.objects.count() == 1


@pytest.mark.parametrize(
    ("body", "field", "says"),
    [
        ({}, "kind", "missing"),
        ({"kind": "snoose"}, "kind", "Did you mean “snooze”?"),
        ({"kind": ["take"]}, "kind", "Give one of"),
        ({"kind": "take"}, "assigned_to", "“take” needs it"),
        ({"kind": "assign", "assigned_to": "nobody"}, "assigned_to", "Nobody of this login"),
        ({"kind": "assign", "assigned_to": "stranger"}, "assigned_to", "does not see the calls of delhi-support"),
        ({"kind": "snooze"}, "until", "needs it"),
        ({"kind": "snooze", "until": "2026-03-02T09:59:00Z"}, "until", "This moment is over."),
        ({"kind": "snooze", "until": "2026-03-02T12:00:00"}, "until", "offset"),
        ({"kind": "snooze", "until": "tomorrow"}, "until", "such as"),
        ({"kind": "snooze", "until": 7}, "until", "such as"),
        ({"kind": "snooze", "until": "9999-12-31T23:59:59-12:00"}, "until", "such as"),
        ({"kind": "close"}, "closing", "needs it"),
        ({"kind": "close", "closing": "called_back"}, "closing", "Give one of: elsewhere"),
        ({"kind": "close", "closing": "other"}, "text", "needs it"),
        ({"kind": "comment", "text": " "}, "text", "blank"),
        ({"kind": "comment", "text": "x" * 2001}, "text", "at most 2000"),
        ({"kind": "wake", "until": "2026-03-02T12:00:00Z"}, "until", "does not take it"),
        ({"kind": "wake", "untill": "x"}, "untill", "Did you mean “until”?"),
    ],
)
def test_a_step_that_cannot_be_is_refused_by_name(program: Program, body: dict, field: str, says: str) -> None:
    entry = an_entry()
    person("manager", name="stranger", accounts=[an_account("pune")])
    found = the_error(do(program, entry, **body))
    assert found[0] == field
    assert says in found[2]
    assert not WorklistStep.objects.exists()


# --- Who may ----------------------------------------------------------------------------------------------------------


def test_it_is_read_with_the_scope_read_and_worked_on_with_the_scope_manage() -> None:
    entry = an_entry()
    reader, writer = Program(Scope.READ), Program(Scope.MANAGE)
    for path in ("worklist/", f"worklist/{entry.pk}/", f"worklist/{entry.pk}/steps/"):
        reader.get(path)
        problem(writer.send("GET", path), 403)
    problem(do(reader, entry, kind="comment", text="x"), 403)
    assert do(writer, entry, kind="comment", text="x").status_code == 201


def test_the_entries_of_another_account_are_not_there() -> None:
    entry = an_entry()
    program = Program(accounts=(an_account("pune"),))
    assert program.get("worklist/").json()["results"] == []
    for method, path in [("GET", ""), ("GET", "steps/"), ("POST", "steps/")]:
        body = {"kind": "comment", "text": "x"} if method == "POST" else None
        there = program.send(method, f"worklist/{entry.pk}/{path}", body)
        assert problem(there, 404) == problem(program.send(method, f"worklist/{10**9}/{path}", body), 404)
    assert not WorklistStep.objects.exists()
