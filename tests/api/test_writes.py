"""What programs write: tags, outcomes, notes, agents and contacts, and that nobody's change is lost or unseen."""

from threading import Barrier
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from calls.choices import Scope
from calls.models import (
    Agent,
    AuditEntry,
    CallNote,
    Change,
    Contact,
    ContactNumber,
    Conversation,
    ConversationRedirect,
    StaffOutcome,
    Tag,
)
from tests.api.factories import a_conversation, a_leg, an_account, an_agent
from tests.api.program import Program, in_parallel, problem, the_error

pytestmark = pytest.mark.django_db


@pytest.fixture
def program(db: None) -> Program:
    return Program()


# --- Tags and outcome of a conversation -------------------------------------------------------------------------------


def test_tags_and_outcome_are_set_and_shown_and_told_of(program: Program) -> None:
    call = a_conversation("vip")
    Tag.objects.create(name="refund")
    body = {"tags": ["refund"], "outcome": {"kind": "resolved", "text": "Paid back"}}
    answer = program.change(f"conversations/{call.pk}/", body)
    assert answer.status_code == 200, answer.content
    shown = answer.json()
    assert (shown["tags"], shown["outcome"]) == (["refund"], {"kind": "resolved", "text": "Paid back"})
    read = program.get(f"conversations/{call.pk}/")
    assert (read.json(), read["ETag"]) == (shown, answer["ETag"])
    assert program.get("conversations/").json()["results"][0]["outcome"] == body["outcome"]
    outcome = StaffOutcome.objects.get()
    assert (outcome.set_by, outcome.api_key) == (None, program.key)
    entry = AuditEntry.objects.get()
    assert (entry.api_key, entry.user, entry.action, entry.target_id) == (program.key, None, "change", str(call.pk))
    assert entry.details["changes"] == {"tags": ["vip", "refund"], "outcome": ["", "resolved, Paid back"]}
    assert [(change.conversation, change.kind) for change in Change.objects.all()] == [(call.pk, "updated")]


def test_what_is_left_out_stays_and_null_takes_an_outcome_back(program: Program) -> None:
    call = a_conversation("vip")
    program.change(f"conversations/{call.pk}/", {"outcome": {"kind": "sale"}})
    shown = program.change(f"conversations/{call.pk}/", {"tags": []}).json()
    assert (shown["tags"], shown["outcome"]) == ([], {"kind": "sale", "text": ""})
    shown = program.change(f"conversations/{call.pk}/", {"outcome": None}).json()
    assert shown["outcome"] is None
    assert not StaffOutcome.objects.exists()


def test_a_change_that_changes_nothing_is_told_to_nobody(program: Program) -> None:
    call = a_conversation("vip")
    for body in ({}, {"tags": ["vip"]}, {"tags": ["vip", "vip"], "outcome": None}):
        assert program.change(f"conversations/{call.pk}/", body).status_code == 200
    assert not AuditEntry.objects.exists()
    assert not Change.objects.exists()


@pytest.mark.parametrize(
    ("body", "field", "value", "says"),
    [
        ({"tags": ["vip", "refnud"]}, "tags[1]", "refnud", "Did you mean “refund”? New ones are made at tags/."),
        ({"tags": "vip"}, "tags", "vip", "list"),
        ({"tags": [7]}, "tags[0]", "7", "in quotes"),
        ({"tags": [" "]}, "tags[0]", " ", "blank"),
        ({"outcome": {"kind": "resolve"}}, "outcome.kind", "resolve", "Did you mean “resolved”?"),
        ({"outcome": {"text": "Paid"}}, "outcome.kind", "", "missing"),
        ({"outcome": {"kind": "sale", "text": "x" * 201}}, "outcome.text", "x" * 199 + "…", "at most 200"),
        ({"outcome": 7}, "outcome", "7", "object"),
        ({"tag": ["vip"]}, "tag", '["vip"]', "Did you mean “tags”?"),
        ({"disposition": "missed"}, "disposition", "missed", "There is no such field."),
    ],
)
def test_what_cannot_be_is_refused_by_name_and_nothing_is_done(
    program: Program, body: dict, field: str, value: str, says: str
) -> None:
    call = a_conversation("vip")
    Tag.objects.create(name="refund")
    error = the_error(program.change(f"conversations/{call.pk}/", body))
    assert error[:2] == (field, value)
    assert says in error[2]
    assert [tag.name for tag in call.tags.all()] == ["vip"]
    assert not AuditEntry.objects.exists()


def test_the_address_of_a_merged_conversation_leads_to_the_one_that_is_left(program: Program) -> None:
    call = a_conversation()
    former = "01997d5e-8a4c-7c3a-9d0a-3f2b1c4d5e6f"
    ConversationRedirect.objects.create(pk=former, conversation=call)
    for method, path, end in [("PATCH", "", ""), ("POST", "notes/", "notes/"), ("GET", "notes/", "notes/")]:
        answer = program.send(method, f"conversations/{former}/{path}", {"text": "x"} if method == "POST" else {})
        assert answer.status_code == 308
        assert answer["Location"] == f"http://testserver/api/v1/conversations/{call.pk}/{end}"


# --- Nobody's change is lost ------------------------------------------------------------------------------------------


def test_of_two_who_have_read_the_same_the_second_is_told_to_read_again(program: Program) -> None:
    call = a_conversation()
    for name in ("one", "two"):
        Tag.objects.create(name=name)
    path = f"conversations/{call.pk}/"
    read = program.get(path)["ETag"]
    assert program.send("PATCH", path, {"tags": ["one"]}, if_match=read).status_code == 200
    field, _, message = the_error(program.send("PATCH", path, {"tags": ["two"]}, if_match=read), 412)
    assert (field, "Read it again" in message) == ("If-Match", True)
    assert [tag.name for tag in call.tags.all()] == ["one"]


@pytest.mark.django_db(transaction=True)
def test_of_many_who_add_a_tag_to_what_they_read_none_loses_anothers() -> None:
    """Each reads, adds its own tag and sends it, and does so again until it is taken: all tags are there in the end."""
    program, call = Program(), a_conversation()
    names = [f"tag {i}" for i in range(6)]
    Tag.objects.bulk_create(Tag(name=name) for name in names)
    path, refused = f"conversations/{call.pk}/", []
    start = Barrier(len(names))

    def add(name: str) -> None:
        read = program.get(path)
        start.wait()
        while (
            answer := program.send("PATCH", path, {"tags": [*read.json()["tags"], name]}, if_match=read["ETag"])
        ) and (answer.status_code != 200):
            refused.append(answer.status_code)
            read = program.get(path)

    in_parallel(add, names)
    assert program.get(path).json()["tags"] == names
    assert set(refused) == {412}
    assert Change.objects.count() == len(names)


@pytest.mark.parametrize("path", ["conversations/{call}/", "notes/{note}/", "agents/{agent}/", "contacts/{contact}/"])
@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_what_there_is_already_is_not_changed_blindly(program: Program, method: str, path: str) -> None:
    agent, call = an_agent(), a_conversation()
    rows = {
        "call": call.pk,
        "note": CallNote.objects.create(conversation=call, api_key=program.key, text="x").pk,
        "agent": agent.pk,
        "contact": Contact.objects.create(name="Ravi").pk,
    }
    address, body = path.format(**rows), {"text": "y"} if "note" in path else {}
    answer = program.send(method, address, body if method == "PATCH" else None)
    if method == "DELETE" and path.startswith(("conv", "agent")):
        assert "DELETE" in problem(answer, 405)["detail"]
        return
    field, _, message = the_error(answer, 428)
    assert (field, "Send the ETag" in message) == ("If-Match", True)
    assert the_error(program.send(method, address, body, if_match='"old"'), 412)[0] == "If-Match"
    assert program.send(method, address, body, if_match="*").status_code in {200, 204}


# --- Notes ------------------------------------------------------------------------------------------------------------


def test_a_note_is_added_read_changed_and_taken_back(program: Program) -> None:
    call = a_conversation()
    answer = program.send("POST", f"conversations/{call.pk}/notes/", {"text": " Call +919000000002 back "})
    assert answer.status_code == 201
    note = answer.json()
    assert (note["text"], note["author"], note["api_key"]) == ("Call +919000000002 back", None, program.key.name)
    path = f"notes/{note['id']}/"
    assert answer["Location"] == f"http://testserver/api/v1/{path}"
    read = program.get(path)
    assert (read.json(), read["ETag"]) == (note, answer["ETag"])
    assert program.get(f"conversations/{call.pk}/notes/").json()["results"] == [note]
    changed = program.change(path, {"text": "Done"})
    assert changed.json()["text"] == "Done"
    assert changed.json()["edited_at"]
    assert program.change(path, {"text": "Done"}).json() == changed.json()
    assert program.change(path, None, "DELETE").status_code == 204
    assert not CallNote.objects.exists()
    said = AuditEntry.objects.order_by("pk").values_list("action", "api_key", "details__conversation")
    assert list(said) == [(action, program.key.pk, str(call.pk)) for action in ("add", "change", "delete")]
    assert "+919000000002" not in str(AuditEntry.objects.order_by("pk").first().details)
    assert [change.kind for change in Change.objects.all()] == ["updated"] * 3


def test_notes_of_staff_and_of_other_keys_are_read_but_not_touched(program: Program) -> None:
    call = a_conversation()
    own = {"conversation": call, "text": "x"}
    notes = [
        CallNote.objects.create(author=User.objects.create(username="asha"), **own),
        CallNote.objects.create(api_key=Program().key, **own),
    ]
    assert [row["author"] for row in program.get(f"conversations/{call.pk}/notes/").json()["results"]] == ["asha", None]
    for note in notes:
        for method in ("PATCH", "DELETE"):
            answer = program.send(method, f"notes/{note.pk}/", {"text": "mine"}, if_match="*")
            assert "only what it wrote itself" in problem(answer, 409)["detail"]
    assert {note.text for note in CallNote.objects.all()} == {"x"}


@pytest.mark.parametrize("text", ["", "   ", None, 7, "x" * 2001])
def test_a_note_that_says_nothing_or_too_much_is_refused(program: Program, text: object) -> None:
    assert the_error(program.send("POST", f"conversations/{a_conversation().pk}/notes/", {"text": text}))[0] == "text"


def test_the_pages_of_staff_say_which_key_wrote_and_staff_have_the_last_word(
    program: Program, admin_client: Client
) -> None:
    call = a_conversation()
    program.send("POST", f"conversations/{call.pk}/notes/", {"text": "Ticket 4711"})
    program.change(f"conversations/{call.pk}/", {"outcome": {"kind": "sale"}})
    page = f"/admin/calls/conversation/{call.pk}/"
    assert admin_client.get(f"{page}change/").content.decode().count(program.key.name) == 2
    admin_client.post(f"{page}outcome/", {"kind": "resolved"})
    assert admin_client.get(f"{page}change/").content.decode().count(program.key.name) == 1
    assert program.get(f"conversations/{call.pk}/").json()["outcome"]["kind"] == "resolved"


# --- Tags -------------------------------------------------------------------------------------------------------------


def test_tags_are_listed_and_made_once(program: Program) -> None:
    assert [program.send("POST", "tags/", {"name": "vip"}).status_code for _ in range(2)] == [201, 200]
    assert program.get("tags/").json()["results"] == [{"name": "vip"}]
    assert AuditEntry.objects.get().target_name == "vip"


# --- Agents -----------------------------------------------------------------------------------------------------------


def test_an_agent_is_named_and_the_name_is_on_the_calls(program: Program) -> None:
    agent = an_agent(name="", account=an_account(phone_region="IN"))
    call = a_conversation(agent=agent)
    answer = program.change(f"agents/{agent.pk}/", {"name": "Asha", "phone": "090000 00001"})
    assert answer.json() == {
        "id": agent.pk,
        "account": "delhi-support",
        "external_id": "202",
        "name": "Asha",
        "extension": "",
        "phone": "+919000000001",
    }
    assert program.get(f"agents/{agent.pk}/").json() == answer.json()
    assert program.get(f"conversations/{call.pk}/").json()["agent"]["name"] == "Asha"
    entry = AuditEntry.objects.get()
    assert entry.details["changes"]["name"] == ["", "Asha"]
    assert "90000" not in str(entry.details)
    error = the_error(program.change(f"agents/{agent.pk}/", {"phone": "at home"}))
    assert error[:2] == ("phone", "at home")
    assert the_error(program.change(f"agents/{agent.pk}/", {"external_id": "7"}))[0] == "external_id"


def test_agents_are_listed_by_account_and_id(program: Program) -> None:
    an_agent("1")
    an_agent("2", account=an_account("pune"))
    for query, found in [("", ["1", "2"]), ("?account=pune", ["2"]), ("?external_id=1,3", ["1"])]:
        assert [row["external_id"] for row in program.get(f"agents/{query}").json()["results"]] == found


# --- Contacts ---------------------------------------------------------------------------------------------------------


def test_a_contact_is_made_changed_and_deleted_with_all_its_numbers(program: Program) -> None:
    an_account(phone_region="IN")
    body = {"name": "Ravi", "company": "Acme", "numbers": ["09000000001", "+919000000002"]}
    made = program.send("POST", "contacts/", body)
    assert made.status_code == 201, made.content
    contact = made.json()
    assert contact["numbers"] == ["+919000000001", "+919000000002"]
    path = f"contacts/{contact['id']}/"
    assert (program.get(path).json(), program.get(path)["ETag"]) == (contact, made["ETag"])
    changed = program.change(path, {"note": "Likes mornings", "numbers": ["+919000000002", "+919000000003"]}).json()
    assert (changed["name"], changed["note"]) == ("Ravi", "Likes mornings")
    assert changed["numbers"] == ["+919000000002", "+919000000003"]
    assert ContactNumber.objects.get(number="+919000000001").contact is None
    assert program.change(path, None, "DELETE").status_code == 204
    assert program.send("GET", path).status_code == 404
    assert ContactNumber.objects.filter(contact=None).count() == 3
    entries = AuditEntry.objects.order_by("pk")
    assert [entry.action for entry in entries] == ["add", "change", "delete"]
    assert "+9190000000" not in str([entry.details for entry in entries])


def test_contacts_are_found_by_name_and_number(program: Program) -> None:
    an_account(phone_region="IN")
    for name, number in [("Ravi", "+919000000001"), ("Asha", "+919000000002")]:
        program.send("POST", "contacts/", {"name": name, "company": "Acme", "numbers": [number]})
    for query, found in [("name=avi", ["Ravi"]), ("name=acme", ["Ravi", "Asha"]), ("number=09000000002", ["Asha"])]:
        assert [row["name"] for row in program.get(f"contacts/?{query}").json()["results"]] == found


def test_a_number_has_one_contact(program: Program) -> None:
    first = program.send("POST", "contacts/", {"name": "Ravi", "numbers": ["+919000000001"]}).json()
    answer = program.send("POST", "contacts/", {"name": "Asha", "numbers": ["+919000000001"]})
    assert f"contact {first['id']}" in problem(answer, 409)["detail"]
    assert Contact.objects.count() == 1


def test_a_number_that_each_country_reads_otherwise_is_not_guessed_at(program: Program) -> None:
    an_account(phone_region="IN")
    an_account("london", phone_region="GB")
    error = the_error(program.send("POST", "contacts/", {"numbers": ["02079460000"]}))
    assert error[:2] == ("numbers[0]", "02079460000")
    assert "country's code" in error[2]
    assert the_error(program.send("POST", "contacts/", {"numbers": ["nobody"]}))[0] == "numbers[0]"


def test_a_key_of_one_account_sees_and_moves_no_number_of_anothers() -> None:
    delhi, pune = an_account("delhi"), an_account("pune")
    a_conversation(account=delhi, customer_number="+919000000001")
    a_conversation(account=pune, customer_number="+919000000002")
    contact = Contact.objects.create(name="Ravi")
    for number in ("+919000000001", "+919000000002"):
        ContactNumber.objects.create(number=number, contact=contact)
    program, path = Program(accounts=(delhi,)), f"contacts/{contact.pk}/"
    assert program.get(path).json()["numbers"] == ["+919000000001"]
    assert program.get("contacts/?number=%2B919000000002").json()["results"] == []
    answer = program.change(path, {"numbers": ["+919000000001", "+919000000002"]})
    assert problem(answer, 409)["detail"] == "+919000000002 cannot be given to a contact by this key. Leave it out."
    assert program.change(path, None, "DELETE").status_code == 204
    assert [row.number for row in contact.numbers.all()] == ["+919000000002"]
    assert program.send("GET", path).status_code == 404


# --- Who may ----------------------------------------------------------------------------------------------------------

READS = ["conversations/{call}/notes/", "notes/{note}/", "tags/", "agents/", "agents/{agent}/", "contacts/"]
READS += ["contacts/{contact}/"]
WRITES = [
    ("PATCH", "conversations/{call}/", {"tags": []}),
    ("POST", "conversations/{call}/notes/", {"text": "x"}),
    ("PATCH", "notes/{note}/", {"text": "x"}),
    ("DELETE", "notes/{note}/", None),
    ("POST", "tags/", {"name": "new"}),
    ("PATCH", "agents/{agent}/", {"name": "x"}),
    ("POST", "contacts/", {"name": "x"}),
    ("PATCH", "contacts/{contact}/", {"name": "x"}),
    ("DELETE", "contacts/{contact}/", None),
]


@pytest.fixture
def rows(db: None) -> dict[str, Any]:
    """One row of each kind, of the account in Delhi."""
    call = a_conversation(agent=an_agent())
    a_leg(call, agent=call.agent)
    contact = Contact.objects.create(name="Ravi")
    ContactNumber.objects.create(number=call.customer_number, contact=contact)
    note = CallNote.objects.create(conversation=call, text="x")
    return {"call": call.pk, "note": note.pk, "agent": call.agent_id, "contact": contact.pk}


@pytest.mark.parametrize(("method", "path", "body"), [("GET", path, None) for path in READS] + WRITES)
def test_reading_takes_the_scope_read_and_writing_the_scope_manage(
    rows: dict, method: str, path: str, body: Any
) -> None:
    needed = Scope.READ if method == "GET" else Scope.MANAGE
    CallNote.objects.update(api_key=(program := Program(needed)).key)
    answer = program.send(method, path.format(**rows), body, if_match="*")
    assert answer.status_code in {200, 201, 204}, answer.content
    other = Program(*(scope for scope in Scope if scope != needed))
    assert needed in problem(other.send(method, path.format(**rows), body, if_match="*"), 403)["detail"]
    assert Client().generic(method, f"/api/v1/{path.format(**rows)}").status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "body"), [case for case in [("GET", path, None) for path in READS] + WRITES if "{" in case[1]]
)
def test_a_row_of_another_account_is_not_there(rows: dict, method: str, path: str, body: Any) -> None:
    program = Program(accounts=(an_account("pune"),))
    CallNote.objects.update(api_key=program.key)
    there = program.send(method, path.format(**rows), body, if_match="*")
    gone = {"call": "01997d5e-8a4c-7c3a-9d0a-3f2b1c4d5e6f", "note": 10**9, "agent": 10**9, "contact": 10**9}
    assert problem(there, 404) == problem(program.send(method, path.format(**gone), body, if_match="*"), 404)
    for nonsense in ("x", "9" * 40, "1.5"):
        path_to = path.format(**dict.fromkeys(rows, nonsense))
        assert program.send(method, path_to, body, if_match="*").status_code == 404
    assert Conversation.objects.get().notes.get().text == "x"
    assert not AuditEntry.objects.exists()


def test_the_lists_show_a_key_its_own_accounts_only(rows: dict) -> None:
    program = Program(accounts=(an_account("pune"),))
    for path in ("agents/", "contacts/"):
        assert program.get(path).json()["results"] == []


@pytest.mark.parametrize("path", ["conversations/{call}/notes/", "tags/", "agents/", "contacts/"])
def test_a_list_takes_as_many_queries_for_22_rows_as_for_2(rows: dict, path: str) -> None:
    program = Program(accounts=(an_account(),))
    call = Conversation.objects.get()

    def fill(numbers: range) -> None:
        for i in numbers:
            CallNote.objects.create(conversation=call, text="x", author=User.objects.create(username=str(i)))
            Tag.objects.create(name=str(i))
            Agent.objects.create(account=call.account, external_id=f"agent {i}")
            contact = Contact.objects.create(name=str(i))
            ContactNumber.objects.create(number=f"+9190000001{i:02}", contact=contact)

    def queries() -> int:
        with CaptureQueriesContext(connection) as found:
            program.get(path.format(**rows))
        return len(found)

    fill(range(2))
    queries()  # the first one notes the use of the key
    few = queries()
    fill(range(2, 22))
    assert queries() == few
