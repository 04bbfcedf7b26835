"""What a call's page says of where its values came from, and of the versions of its deliveries."""

import json
import re
from datetime import timedelta
from html import unescape

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.html import strip_tags
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Page, expect

from calls.choices import EventKind, Label
from calls.models import Account, Conversation
from calls.records import Alias, LegCdr, LiveEvent
from tests.webhooks.inbox import NOON, deliver, deliver_file
from tests.webhooks.wire import read
from webhooks.models import Delivery
from webhooks.processing import drain
from webhooks.versions import Change, changes, fields, subject

LIVE_FIELDS = {"appid", "conversation_uuid", "cmiuuid", "direction", "from", "to", "leg", "status", "time"}
RECEIVED = read("piopiy", "cdr_in_answered_leg_a").received_at


def said(body: bytes) -> dict[str, str] | None:
    return fields(body=body, query=b"", content_type="application/json")


def test_fields_are_named_by_the_path_at_which_they_stand():
    found = said(b'{"a": {"b": [1, {"c": null}], "d": {}}, "e": "", "f": 1.50, "g": true}')
    assert found == {"a.b[0]": "1", "a.b[1].c": "null", "a.d": "{}", "e": '""', "f": "1.50", "g": "true"}
    assert said(rb'{"a\ud800": "\ud800\u0000"}') == {"a\ufffd\ufffd\ufffd": "\ufffd\ufffd\ufffd\ufffd"}
    assert said(b"no JSON") is None
    assert said(b"[{}, 1]") is None


def test_a_difference_names_what_changed_what_came_and_what_went():
    before, after = {"same": "1", "talk": "13", "gone": "x"}, {"new": "y", "same": "1", "talk": "12"}
    assert changes(before, after) == [Change("new", None, "y"), Change("talk", "13", "12"), Change("gone", "x", None)]


Flat = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["1", "2"]))


@given(before=Flat, after=Flat)
def test_the_differences_lead_from_one_version_to_the_next(before, after):
    result = dict(before)
    for change in changes(before, after):
        assert result.pop(change.path, None) == change.was
        if change.now is not None:
            result[change.path] = change.now
    assert result == after


def test_versions_are_of_the_same_kind_and_leg():
    shared = {"aliases": (Alias("uuid", "call"),), "leg_id": "one", "label": Label.A}
    event = {"kind": EventKind.ANSWERED, "occurred_at": NOON}
    report, answer = LegCdr(**shared), LiveEvent(**shared, **event, provider_status="answered")
    assert subject([report]) == subject([LegCdr(**shared, talk_seconds=1), answer])
    assert subject([answer]) == subject([LiveEvent(**shared, **event, provider_status="answered", is_answer=True)])
    others = [LegCdr(**(shared | {"label": Label.B})), LiveEvent(**shared, **event, provider_status="bridged")]
    assert len({subject([record]) for record in [report, answer, *others]}) == 4
    assert subject([]) is None


# --- The page --------------------------------------------------------------------------------------------------------


@pytest.fixture
def call(account: Account) -> Conversation:
    """A call of two legs and a live event; leg a's report came again, then corrected, then once more in other words."""
    payload = read("piopiy", "cdr_in_answered_leg_b").content["payload"]
    first = deliver_file(account, "piopiy", "cdr_in_answered_leg_a")
    at = first.received_at
    live = payload | {"status": "in_answered", "time": 1632318517000}
    deliver(account, {name: live[name] for name in live if name in LIVE_FIELDS}, received_at=at - timedelta(minutes=1))
    deliver_file(account, "piopiy", "cdr_in_answered_leg_a", received_at=at + timedelta(minutes=1))
    deliver_file(account, "piopiy", "cdr_in_answered_leg_b")
    corrected = deliver_file(account, "piopiy", "cdr_in_answered_leg_a_corrected")
    spaced = json.dumps(read("piopiy", "cdr_in_answered_leg_a_corrected").content["payload"], indent=1).encode()
    deliver(account, spaced, received_at=corrected.received_at + timedelta(minutes=5))
    drain()
    return Conversation.objects.get()


def page_of(client: Client, call: Conversation) -> str:
    return client.get(reverse("admin:calls_conversation_change", args=[call.pk])).content.decode()


def words(html: str) -> str:
    return re.sub(r"\s+", " ", unescape(strip_tags(html)))


def row(page: str, section: str, name: str) -> str:
    """Return the row of a value in a section of “Where this comes from”."""
    panel = page[page.index('id="rl-origins"') : page.index('id="rl-deliveries"')]
    (part,) = [part for part in panel.split("<summary>")[1:] if part.startswith(section)]
    return re.search(f'<th scope="row">{name}</th>.*?</tr>', part, re.DOTALL)[0]


def test_each_value_names_the_delivery_that_it_came_from(admin_client, call):
    page = page_of(admin_client, call)
    newest = Delivery.objects.exclude(status="repeat").latest("received_at")
    end = row(page, "A-leg", "End")
    assert re.match(r"End 22 Sep 2021, \d\d:\d\d:47 Final report on the A-leg 22 Sep 2021", words(end))
    assert reverse("admin:webhooks_delivery_change", args=[newest.pk]) in end
    length = words(row(page, "Whole call", "Whole length"))
    assert "Worked out: from the start to the end" in length
    assert "0:17" in length
    assert "Final report on the A-leg" in words(row(page, "Parameters", "Name"))


def test_a_value_that_two_legs_make_up_names_both(admin_client, call):
    cost = words(row(page_of(admin_client, call), "Whole call", "Cost"))
    legs = [leg for leg in call.legs.all() if leg.cost is not None]
    assert [f"on the {leg.label.upper()}-leg" in cost for leg in legs] == [True] * len(legs)


def test_versions_are_shown_as_what_each_changed(admin_client, call):
    page = page_of(admin_client, call)
    deliveries = page[page.index('id="rl-deliveries"') :]
    text = words(deliveries)
    assert "came again 1 time" in text
    assert "a new version: 2 fields differ" in text
    assert "duration 13 12" in text
    assert "end_time 1632318528 1632318527" in text
    assert "a new version that changes no value" in text
    assert "It says the same in another spelling." in text
    assert "Live event “in_answered” on the B-leg" in text


def test_who_may_not_see_deliveries_sees_the_kinds_and_no_payload(client, call):
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.set(
        Permission.objects.filter(codename__in=["view_conversation", "see_all_calls", "see_numbers"])
    )
    client.force_login(viewer)
    page = page_of(client, call)
    assert "Final report on the A-leg" in row(page, "A-leg", "End")
    assert "/webhooks/delivery/" not in page
    assert "1632318527" not in page


def test_a_page_of_many_versions_costs_as_much_as_one_of_few(admin_client, account):
    payload = read("piopiy", "cdr_in_answered_leg_a").content["payload"]

    def cost(versions: range) -> int:
        for number in versions:
            deliver(account, payload | {"duration": number}, received_at=RECEIVED + timedelta(minutes=number))
        drain()
        with CaptureQueriesContext(connection) as queries:
            page_of(admin_client, Conversation.objects.get())
        return len(queries)

    assert cost(range(2)) == cost(range(2, 22))


def test_a_body_of_nothing_but_surprises_is_shown_as_text(admin_client, account):
    payload = read("piopiy", "cdr_in_answered_leg_a").content["payload"]
    for number, extra in enumerate([{"<b>x</b>": "<i>"}, {"<b>x</b>": "<script>alert(1)</script>", "n": ["a"] * 300}]):
        deliver(account, payload | {"extra_params": extra}, received_at=RECEIVED + timedelta(minutes=number))
    drain()
    page = page_of(admin_client, Conversation.objects.get())
    assert "And 201 more." in page
    assert "<script>alert(1)" not in page
    assert "<b>x" not in page


@pytest.mark.browser
def test_staff_opens_the_versions_by_keyboard(live_server, page: Page, transactional_db, account, call):
    User.objects.create_superuser("staff", password="a long password")
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(f"{live_server.url}/admin/login/")
    page.locator("input[name=username]").fill("staff")
    page.locator("input[name=password]").fill("a long password")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{live_server.url}/admin/")
    page.goto(f"{live_server.url}{reverse('admin:calls_conversation_change', args=[call.pk])}")
    summary = page.locator("summary", has_text="2 fields differ")
    summary.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("row", name="duration 13 12")).to_be_visible()
    summary = page.locator("summary", has_text="Whole call")
    summary.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Worked out: from the start to the end").first).to_be_visible()
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 360
