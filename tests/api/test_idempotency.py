"""A write that is sent again does nothing again, and is answered as it was the first time."""

import hashlib
from datetime import timedelta
from threading import Event, Thread
from typing import Any

import pytest
import time_machine
from django.db import connection, transaction
from django.utils import timezone

from calls import tasks
from calls.api import idempotency
from calls.models import AuditEntry, CallNote, Contact, IdempotentRequest, Tag
from tests.api.factories import a_conversation
from tests.api.program import Program, in_parallel, problem, the_error

pytestmark = pytest.mark.django_db

RAVI = {"name": "Ravi", "numbers": ["+919000000001"]}


@pytest.fixture
def program(db: None) -> Program:
    return Program()


def test_a_repeat_is_answered_as_the_first_time_and_does_nothing(program: Program) -> None:
    first, again = (program.send("POST", "contacts/", RAVI, idempotency_key="a 1") for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    for name in ("Location", "ETag", "Content-Type"):
        assert first[name] == again[name]
    assert "Idempotent-Replayed" not in first
    assert again["Idempotent-Replayed"] == "true"
    assert Contact.objects.count() == AuditEntry.objects.count() == 1


def test_each_write_with_a_key_of_its_own_or_with_none_is_done(program: Program) -> None:
    for headers in ({"idempotency_key": "1"}, {"idempotency_key": "2"}, {}, {}):
        assert program.send("POST", "contacts/", {"name": "Ravi"}, **headers).status_code == 201
    assert Contact.objects.count() == 4


def test_a_change_and_a_deletion_are_answered_again_although_the_row_has_changed_or_is_gone(program: Program) -> None:
    path = f"contacts/{Contact.objects.create(name='Ravi').pk}/"
    read = program.get(path)["ETag"]
    for method, body, status in [("PATCH", {"name": "Asha"}, 200), ("DELETE", None, 204)]:
        if method == "DELETE":
            read = program.get(path)["ETag"]
        answers = [program.send(method, path, body, if_match=read, idempotency_key=method) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [status, status]
        assert answers[0].content == answers[1].content
    assert [entry.action for entry in AuditEntry.objects.order_by("pk")] == ["change", "delete"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "contacts/", {"name": "Asha"}),
        ("POST", "tags/", {"name": "Ravi"}),
        ("PATCH", "contacts/{pk}/", {"name": "Ravi"}),
    ],
)
def test_another_request_with_the_same_key_is_refused(program: Program, method: str, path: str, body: Any) -> None:
    made = program.send("POST", "contacts/", {"name": "Ravi"}, idempotency_key="1").json()
    answer = program.send(method, path.format(pk=made["id"]), body, if_match="*", idempotency_key="1")
    assert "Use a new one" in problem(answer, 422)["detail"]
    assert (Contact.objects.count(), Tag.objects.count()) == (1, 0)


def test_keys_of_two_programs_do_not_meet(program: Program) -> None:
    for each in (program, Program()):
        assert "Idempotent-Replayed" not in each.send("POST", "contacts/", RAVI | {"numbers": []}, idempotency_key="1")
    assert Contact.objects.count() == 2


def test_a_request_that_was_refused_is_looked_at_anew(program: Program) -> None:
    path = f"conversations/{a_conversation().pk}/"
    sent = {"if_match": "*", "idempotency_key": "1"}
    assert the_error(program.send("PATCH", path, {"tags": ["vip"]}, **sent))[0] == "tags[0]"
    Tag.objects.create(name="vip")
    assert program.send("PATCH", path, {"tags": ["vip"]}, **sent).json()["tags"] == ["vip"]


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "a\tb", "schlüssel"])
def test_a_key_that_is_none_is_refused(program: Program, key: str) -> None:
    field, _, message = the_error(program.send("POST", "contacts/", {"name": "Ravi"}, idempotency_key=key))
    assert (field, "1 to 255 printable" in message) == ("Idempotency-Key", True)
    assert not Contact.objects.exists()


def test_a_body_that_is_too_large_is_refused_with_a_key_as_without(program: Program, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    for headers in ({}, {"idempotency_key": "1"}):
        assert problem(program.send("POST", "contacts/", {"note": "x" * 1000}, **headers), 413)


def test_what_is_kept_holds_no_answer_in_plain_text(program: Program) -> None:
    program.send("POST", "contacts/", RAVI, idempotency_key="1")
    kept = IdempotentRequest.objects.get()
    assert "Ravi" not in kept.answer
    assert len(kept.digest) == len(hashlib.sha256().hexdigest())


def test_an_answer_that_can_be_opened_no_more_is_not_made_up(program: Program, settings: Any) -> None:
    program.send("POST", "contacts/", RAVI, idempotency_key="1")
    settings.SECRET_KEY = "another one"
    assert "SECRET_KEY" in problem(program.send("POST", "contacts/", RAVI, idempotency_key="1"), 409)["detail"]


def test_answers_are_kept_for_a_day(program: Program) -> None:
    now = timezone.now()
    for hours, replayed in [(0, False), (23.9, True), (24.1, False)]:
        with time_machine.travel(now + timedelta(hours=hours), tick=False):
            tasks.forget_idempotent_requests()
            answer = program.send("POST", "contacts/", {"name": "Ravi"}, idempotency_key="1")
            assert ("Idempotent-Replayed" in answer) == replayed
    assert Contact.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_of_twenty_that_come_at_once_one_is_done_and_all_are_answered_alike() -> None:
    program, call, answers = Program(), a_conversation(), []

    def post(_: int) -> None:
        answers.append(program.send("POST", f"conversations/{call.pk}/notes/", {"text": "Hello"}, idempotency_key="1"))

    in_parallel(post, range(20))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("Idempotent-Replayed" in answer for answer in answers) == 19
    assert CallNote.objects.count() == AuditEntry.objects.count() == IdempotentRequest.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_repeat_of_one_that_is_still_at_work_is_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    if connection.vendor != "postgresql":  # SQLite has one writer: the others wait for it, whoever they are
        return
    monkeypatch.setattr(idempotency, "WAIT_SECONDS", 0.2)
    program, is_inside, may_end, answers = Program(), Event(), Event(), []
    program.get("contacts/")  # the first use of a key is noted, in what would be the transaction of the slow one

    def slow() -> None:
        with transaction.atomic():
            answers.append(program.send("POST", "contacts/", RAVI, idempotency_key="1"))
            is_inside.set()
            may_end.wait(30)
        connection.close()

    thread = Thread(target=slow)
    thread.start()
    try:
        assert is_inside.wait(30)
        answer = program.send("POST", "contacts/", RAVI, idempotency_key="1")
        assert "still running" in problem(answer, 409)["detail"]
        assert answer["Retry-After"] == "1"
    finally:
        may_end.set()
        thread.join()
    assert program.send("POST", "contacts/", RAVI, idempotency_key="1").content == answers[0].content
    assert Contact.objects.count() == 1
