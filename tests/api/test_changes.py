"""changes/: the feed as programs read it."""

from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from calls import changes
from calls.choices import Scope
from calls.models import ApiKey, Change, Conversation, Tag
from tests.api.conftest import Get
from tests.api.factories import a_conversation, a_key, a_leg, an_account, an_event, client_with


def write(call: Conversation, kind: str = "updated", steps: str = "", into: Any = None) -> None:
    changes.write(call.account_id, [(call.pk, Change.Kind(kind), steps, into)])


def test_a_change_has_its_conversation_as_it_is_now(get: Get):
    call = a_conversation("VIP")
    write(call, "created", "started,answered,ended")
    Conversation.objects.filter(pk=call.pk).update(hangup_cause="NORMAL")
    (change,) = get("changes/")["results"]
    (row,) = get("conversations/")["results"]
    assert row["hangup_cause"] == "NORMAL"
    assert change.pop("changed_at").endswith("Z")
    assert change == {
        "id": str(call.pk),
        "account": "delhi-support",
        "kind": "created",
        "steps": ["started", "answered", "ended"],
        "into": None,
        "conversation": row,
    }


def test_what_is_merged_or_erased_has_no_conversation(get: Get):
    call, gone = a_conversation(), uuid4()
    changes.write(call.account_id, [(gone, Change.Kind.MERGED, "", call.pk), (uuid4(), Change.Kind.ERASED, "", None)])
    merged, erased = get("changes/")["results"]
    assert (merged["id"], merged["kind"], merged["into"], merged["conversation"]) == (
        str(gone),
        "merged",
        str(call.pk),
        None,
    )
    assert (erased["kind"], erased["into"], erased["conversation"]) == ("erased", None, None)


def test_a_conversation_that_is_gone_by_now_is_null(get: Get):
    changes.write(an_account().pk, [(uuid4(), Change.Kind.CREATED, "started", None)])
    (change,) = get("changes/")["results"]
    assert change["conversation"] is None


def test_following_the_cursor_reads_everything_once_in_order(get: Get):
    calls = [a_conversation(account=an_account(slug)) for slug in ("delhi", "pune", "goa")]
    for _ in range(3):
        for call in calls:
            write(call)
    whole = get("changes/", limit=1000)
    assert (len(whole["results"]), whole["has_more"]) == (9, False)
    found, answer = [], get("changes/", limit=2)
    while True:
        found += answer["results"]
        if not answer["has_more"]:
            break
        answer = get("changes/", limit=2, after=answer["next_cursor"])
    assert found == whole["results"]
    assert answer["next_cursor"] == whole["next_cursor"]
    again = get("changes/", after=answer["next_cursor"])
    assert again == {"results": [], "next_cursor": answer["next_cursor"], "has_more": False}
    write(calls[1], "corrected")
    assert [change["kind"] for change in get("changes/", after=answer["next_cursor"])["results"]] == ["corrected"]


def test_now_is_the_cursor_from_which_only_what_comes_is_told(get: Get):
    call = a_conversation()
    write(call)
    now = get("changes/", after="now")
    assert (now["results"], now["has_more"]) == ([], False)
    assert get("changes/", after=now["next_cursor"])["results"] == []
    write(call)
    assert len(get("changes/", after=now["next_cursor"])["results"]) == 1


def test_the_feed_of_one_account_leaves_the_others_where_they_were(get: Get):
    delhi, pune = (a_conversation(account=an_account(slug)) for slug in ("delhi", "pune"))
    write(delhi)
    write(pune)
    first = get("changes/", account="delhi")
    assert [change["account"] for change in first["results"]] == ["delhi"]
    assert [change["account"] for change in get("changes/", after=first["next_cursor"])["results"]] == ["pune"]
    assert len(get("changes/", account="delhi,pune")["results"]) == 2


def test_parts_and_fields_are_chosen_as_in_the_list(get: Get):
    call = a_conversation()
    an_event(a_leg(call))
    write(call)
    (change,) = get("changes/", include="legs,events")["results"]
    assert [len(change["conversation"][part]) for part in ("legs", "events")] == [1, 1]
    (change,) = get("changes/", fields="state,tags")["results"]
    assert change["conversation"] == {"state": "ended", "tags": []}
    assert change["id"] == str(call.pk)


def test_a_page_costs_the_same_number_of_queries_for_2_changes_and_for_22(client: Client):
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            response = client.get("/api/v1/changes/", {"include": "legs,events"})
        assert response.status_code == 200
        return len(captured)

    account = an_account()
    for number in range(22):
        call = a_conversation(account=account)
        call.tags.add(Tag.objects.get_or_create(name=f"tag {number % 3}")[0])
        an_event(a_leg(call))
        write(call)
        if number == 1:
            queries()  # notes the key's use
            few = queries()
    assert queries() == few


# --- Who reads what --------------------------------------------------------------------------------------------------


def test_a_key_for_some_accounts_reads_their_changes_and_no_others(db):
    here, there = (a_conversation(account=an_account(slug)) for slug in ("delhi", "pune"))
    client = client_with(ApiKey.issue("crm", [Scope.READ], accounts=[here.account])[1])
    for call in (here, there):
        write(call)
    answer = client.get("/api/v1/changes/").json()
    assert [change["account"] for change in answer["results"]] == ["delhi"]
    everything = client_with(a_key(Scope.READ)).get("/api/v1/changes/").json()["next_cursor"]
    write(there)
    for after in ("now", everything, answer["next_cursor"]):
        found = client.get("/api/v1/changes/", {"after": after}).json()
        assert found["results"] == []
    forged = str(changes.Cursor({here.account_id: 0, there.account_id: 0}))
    found = client.get("/api/v1/changes/", {"after": forged}).json()
    assert [change["account"] for change in found["results"]] == ["delhi"]


def test_an_account_out_of_reach_is_refused_like_one_that_there_is_not(db):
    client = client_with(ApiKey.issue("crm", [Scope.READ], accounts=[an_account("delhi")])[1])
    an_account("pune")
    bodies = []
    for slug in ("pune", "nowhere"):
        response = client.get("/api/v1/changes/", {"account": slug})
        assert response.status_code == 400
        bodies.append(response.content.replace(slug.encode(), b"?"))
    assert bodies[0] == bodies[1]


def test_the_feed_takes_the_scope_read(db):
    assert client_with(a_key(Scope.STREAM, Scope.MANAGE)).get("/api/v1/changes/").status_code == 403
    assert Client().get("/api/v1/changes/").status_code == 401


# --- What is wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("after", "yesterday"),
        ("after", "0gLvjQ"),
        ("after", "A" * 10_000),
        ("after", "\N{ROCKET}"),
        ("limit", "0"),
        ("limit", "1001"),
        ("limit", "-1"),
        ("limit", "ten"),
        ("limit", "9" * 10_000),
        ("include", "tags"),
        ("fields", "colour"),
        ("account", "nowhere"),
        ("account", " , "),
        ("cursor", "x"),
        ("page_size", "10"),
    ],
)
def test_a_wrong_parameter_is_named(refusal: Get, name: str, value: str):
    a_conversation()
    (error,) = refusal("changes/", **{name: value})["errors"]
    assert error["field"] == name


def test_a_cursor_is_told_from_a_blank(refusal: Get):
    assert refusal("changes/", after=" ")["errors"][0]["field"] == "after"


def test_parameters_are_checked_with_now_too(refusal: Get):
    assert refusal("changes/", after="now", include="tags")["errors"][0]["field"] == "include"


def test_a_cursor_from_after_a_backup_that_was_put_back_is_refused(refusal: Get):
    call = a_conversation()
    write(call)
    ahead = changes.Cursor({call.account_id: Change.objects.latest("pk").pk + 5})
    (error,) = refusal("changes/", after=str(ahead))["errors"]
    assert error["field"] == "after"
    assert "backup" in error["message"]
