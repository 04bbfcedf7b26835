"""Saved views of the list of conversations."""

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from calls.models import Account, Conversation, ListChoice, SavedView
from tests.calls.test_conversation_list import LIST, headings, make_call, rows

pytestmark = pytest.mark.django_db

SAVE = f"{LIST}views/save/"
MISSED = "cols=customer%2Ctalk&disposition__exact=missed"


def staff(name: str, *permissions: str) -> Client:
    """Return the client of somebody who sees all calls and has these permissions too."""
    user = User.objects.create_user(name, is_staff=True)
    names = ["view_conversation", "see_all_calls", "see_numbers", *permissions]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client = Client()
    client.force_login(user)
    return client


def views_of(client: Client) -> list[str]:
    """Return the names of the views in the menu."""
    return [view.name for view in client.get(LIST, {"view": "all"}).context["views"]]


def messages_of(client: Client, address: str, data: dict) -> str:
    return " ".join(str(message) for message in client.post(address, data, follow=True).context["messages"])


@pytest.fixture
def missed(account: Account) -> Conversation:
    """A missed call, beside an answered one."""
    make_call(account)
    return make_call(account, disposition="missed")


def test_a_view_opens_with_its_filters_columns_and_order_and_shows_its_name(account, missed):
    asha = staff("asha")
    query = "disposition__exact=missed&order=oldest&cols=customer,talk&after=x~y&p=3&view=all"
    answer = asha.post(SAVE, {"name": "  Missed ones ", "query": query})
    view = SavedView.objects.get()
    assert (view.name, view.owner.username, view.is_shared) == ("Missed ones", "asha", False)
    assert answer["Location"] == f"{LIST}?{view.query}&view={view.pk}"
    opened = asha.get(f"{LIST}views/{view.pk}/", follow=True)
    assert rows(opened) == [missed]
    assert headings(opened) == ["customer", "talk"]
    assert opened.context["cl"].is_oldest_first
    assert opened.context["opened_view"] == view
    assert not opened.context["is_opened_view_changed"]
    assert asha.get(opened.request["PATH_INFO"], {"view": view.pk}).context["is_opened_view_changed"]


def test_only_its_owner_sees_a_view_until_it_is_shared(missed):
    asha, ravi = staff("asha", "share_savedview"), staff("ravi")
    asha.post(SAVE, {"name": "Mine", "query": MISSED})
    mine = SavedView.objects.get()
    assert views_of(ravi) == []
    assert ravi.get(f"{LIST}views/{mine.pk}/").status_code == 404
    asha.post(f"{LIST}views/{mine.pk}/change/", {"name": "Ours", "query": MISSED, "is_shared": "on"})
    assert views_of(ravi) == ["Ours"]
    assert rows(ravi.get(f"{LIST}views/{mine.pk}/", follow=True)) == [missed]


def test_who_may_not_share_keeps_a_view_to_themselves_whatever_is_posted(missed):
    ravi = staff("ravi")
    assert "Share it" not in ravi.get(LIST).content.decode()
    ravi.post(SAVE, {"name": "Mine", "query": MISSED, "is_shared": "on"})
    assert not SavedView.objects.get().is_shared


def test_nobody_changes_or_deletes_the_view_of_another_but_an_administrator_tidies_up(admin_client, missed):
    asha, ravi = staff("asha", "share_savedview"), staff("ravi", "share_savedview")
    asha.post(SAVE, {"name": "Ours", "query": MISSED, "is_shared": "on"})
    asha.post(SAVE, {"name": "Mine", "query": MISSED})
    ours, mine = SavedView.objects.get(name="Ours"), SavedView.objects.get(name="Mine")
    for view in (ours, mine):
        for data in ({"name": "x", "query": ""}, {"delete": "1"}):
            assert ravi.post(f"{LIST}views/{view.pk}/change/", data).status_code == 404
    assert admin_client.post(f"{LIST}views/{mine.pk}/change/", {"delete": "1"}).status_code == 404
    admin_client.post(f"{LIST}views/{ours.pk}/change/", {"delete": "1", "query": ""})
    assert views_of(asha) == ["Mine"]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("", "required"),
        ("   ", "required"),
        ("x" * 61, "at most 60"),
        ("…", "no letter or digit"),
        ("a\u202eb", "cannot be seen"),
        ("MISSED", "choose another name"),
    ],
)
def test_a_name_that_the_menu_could_not_show_or_that_is_taken_is_refused(missed, name, complaint):
    asha = staff("asha")
    asha.post(SAVE, {"name": "Missed", "query": MISSED})
    assert complaint in messages_of(asha, SAVE, {"name": name, "query": MISSED})
    assert SavedView.objects.count() == 1
    staff("ravi").post(SAVE, {"name": "Missed", "query": MISSED})
    assert SavedView.objects.count() == 2


def test_a_name_is_text_and_never_markup(missed):
    asha = staff("asha")
    asha.post(SAVE, {"name": "<script>alert(1)</script>", "query": MISSED})
    assert "<script>alert(1)" not in asha.get(LIST).content.decode()


def test_the_list_opens_with_the_view_of_ones_choice_and_all_calls_stay_within_reach(missed):
    asha = staff("asha")
    asha.post(SAVE, {"name": "Missed", "query": MISSED})
    view = SavedView.objects.get()
    asha.post(f"{LIST}views/first/", {"view": view.pk})
    assert rows(asha.get(LIST, follow=True)) == [missed]
    assert len(rows(asha.get(LIST, {"view": "all"}))) == 2
    # Taking the last filter away leads to all calls, not back to the view.
    narrowed = asha.get(LIST, {"disposition__exact": "missed"}).context["cl"]
    assert len(rows(asha.get(LIST + narrowed.chips[0].without))) == 2
    assert len(rows(asha.get(LIST + narrowed.clear_all_filters_qs))) == 2
    asha.post(f"{LIST}views/first/", {"view": ""})
    assert len(rows(asha.get(LIST))) == 2


def test_a_first_view_that_is_deleted_or_no_longer_shared_does_not_open(missed):
    asha, ravi = staff("asha", "share_savedview"), staff("ravi")
    asha.post(SAVE, {"name": "Ours", "query": MISSED, "is_shared": "on"})
    view = SavedView.objects.get()
    ravi.post(f"{LIST}views/first/", {"view": view.pk})
    assert ravi.get(LIST).status_code == 302
    asha.post(f"{LIST}views/{view.pk}/change/", {"name": "Mine", "query": MISSED})
    assert ravi.get(LIST).status_code == 200
    asha.post(f"{LIST}views/{view.pk}/change/", {"delete": "1", "query": ""})
    assert ListChoice.objects.get(user__username="ravi").first_view is None


def test_without_the_permission_to_see_calls_there_are_no_views():
    user = User.objects.create_user("leela", is_staff=True)
    client = Client()
    client.force_login(user)
    for address in ("views/save/", "views/first/", "columns/"):
        assert client.post(LIST + address, {"name": "x"}).status_code == 403
    assert client.get(f"{LIST}views/1/").status_code == 403
    assert client.get(f"{LIST}count/").status_code == 403
