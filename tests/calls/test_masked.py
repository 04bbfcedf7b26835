"""Who may not see numbers finds none in any answer, however the number is spelled and wherever it came from."""

import json

import pytest
from django.test import Client
from django.urls import reverse

from calls.models import AuditEntry, Event, Export, Leg, SavedView, StoredRecord
from calls.records import Alias, LegCdr, dump_record
from tests.calls.staff import logged_in
from tests.calls.test_matrix import PAGES, World, address_of, staff_of, world  # noqa: F401 - a fixture
from webhooks.models import Delivery, RebuildChange

pytestmark = pytest.mark.django_db

CALLER, AGENT = "+919876543210", "+919812345678"
NEVER = ("76543210", "76543 210", "76 5432 10", "12345678", "12345 678", "12 3456 78")
"""Ends of both numbers, as plain digits and as they are grouped for reading."""
MASKED = ["viewer", "agent", "supervisor", "auditor"]
SEARCHES = [
    "/admin/search/?s=9876543210",
    "/admin/search/?s=9876543210&extended=1",
    "/admin/calls/agent/?q=Asha",
    "/admin/calls/contact/",
    "/admin/autocomplete/?app_label=calls&model_name=conversation&field_name=agent",
]


@pytest.fixture
def planted(world: World) -> World:  # noqa: F811 - the fixture
    """Put both numbers wherever a row within reach can hold one."""
    rows = world.here
    call, agent, alert = rows["conversation"], rows["agent"], rows["alert"]
    digits, national = CALLER[1:], f"0{CALLER[3:]}"
    agent.name, agent.external_id, agent.phone, agent.extension = "", AGENT[1:], AGENT, AGENT[3:]
    agent.save()
    call.customer_number, call.external_id, call.request_id = CALLER, f"{digits}-1", f"req_{digits}"
    call.recording, call.hangup_cause = f"https://example.com/rec/{digits}.mp3", f"busy {national}"
    call.extra_params = {"phone": national, f"to_{digits}": [CALLER, int(digits)]}
    call.save()
    Leg.objects.filter(conversation=call).update(from_number=CALLER, to_number=AGENT, hangup_cause=CALLER)
    for leg in call.legs.all():
        leg.external_id = f"{leg.label}_{digits}"
        leg.save()
        Event.objects.create(
            account=call.account,
            conversation=call,
            leg=leg,
            leg_label=leg.label,
            leg_external_id=leg.external_id,
            kind="started",
            occurred_at=call.started_at,
            received_at=call.started_at,
            provider_status=f"ringing {national}",
        )
    alert.message, alert.subject = f"Many missed calls from {CALLER}", CALLER
    alert.evidence = [
        {
            "label": f"Calls of {CALLER}",
            "page": "admin:calls_conversation_changelist",
            "args": [],
            "query": {"q": CALLER},
        }
    ]
    alert.save()
    body = json.dumps({"from": int(digits), "to": national, "agent": AGENT, "text": "été"}, ensure_ascii=False)
    Delivery.objects.filter(pk=rows["delivery"].pk).update(
        body=body.encode(),
        query=f"from={digits}".encode(),
        size=len(body),
        status="quarantined",
        error_class="BadField",
        error_field="from",
        error_value=digits,
        error_message=f"“{digits}” is no number",
    )
    RebuildChange.objects.create(
        rebuild=rows["rebuild"],
        conversation_id=call.pk,
        number=CALLER,
        kind="changed",
        started_at=call.started_at,
        fields=[["", "customer_number", CALLER, national], ["", "recording", "", call.recording]],
    )
    rows["missedcaller"].customer_number = CALLER
    rows["missedcaller"].save()
    rows["number"].number = CALLER
    rows["number"].save()
    rows["note"].text = f"Calls from {CALLER}"
    rows["note"].save()
    AuditEntry.objects.create(action="change", target_name="conversation", details={"note": f"Call of {national}"})
    Export.objects.create(user=world.user, table="calls.conversation", filters=f"Number: {national}", format="csv")
    SavedView.objects.filter(pk=rows["savedview"].pk).update(query=f"q={digits}", name="Calls of one")
    record = LegCdr(
        aliases=(Alias("conversation", call.external_id),),
        conversation_id=call.external_id,
        leg_id=call.legs.first().external_id,
        label="a",
        from_number=CALLER,
        to_number=AGENT,
        extra_params={"phone": national},
    )
    StoredRecord.objects.create(
        account=call.account,
        conversation=call,
        received_at=call.started_at,
        source=rows["delivery"].pk,
        position=0,
        body=dump_record(record),
    )
    return world


def leaks(client: Client, address: str) -> list[str]:
    answer = client.get(address)
    text = b"".join(answer.streaming_content) if answer.streaming else answer.content
    # Blanks of any kind, and what a browser would read as one.
    plain = text.decode("utf-8", "replace").replace("\xa0", " ").replace("&nbsp;", " ")
    headers = " ".join(f"{name}: {value}" for name, value in answer.headers.items())
    return [part for part in NEVER if part in plain or part in headers]


@pytest.mark.parametrize("role", MASKED)
def test_no_page_shows_a_number_in_full_to_who_may_not_see_it(role: str, planted: World):
    client = logged_in(staff_of(role, planted))
    addresses = [address_of(name, page, planted.here) for name, page in PAGES.items() if not page.post]
    found = {address: leaks(client, address) for address in [*addresses, *SEARCHES]}
    assert {address: parts for address, parts in found.items() if parts} == {}


def test_what_is_masked_is_there_for_who_may_see_it(planted: World):
    client = logged_in(staff_of("administrator", planted))
    for name in ("calls_conversation_change", "calls_alert_change", "webhooks_delivery_change", "calls_agent_change"):
        page = PAGES[f"admin:{name}"]
        assert leaks(client, address_of(f"admin:{name}", page, planted.here)), name


def test_without_the_wall_the_pages_of_calls_mask_by_themselves(planted: World, settings):
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if not name.endswith("NumbersAsTheViewerMaySee")] + [
        "tests.calls.test_masked.OnlyTheContext"
    ]
    client = logged_in(staff_of("auditor", planted))
    for name in ("calls_conversation_change", "calls_conversation_changelist", "calls_alert_changelist"):
        assert leaks(client, reverse(f"admin:{name}", args=_args(name, planted))) == [], name


def OnlyTheContext(get_response):  # noqa: N802 - a middleware
    """Say who looks, and touch nothing of the answer."""
    from calls.access import seen_by

    def answer(request):
        with seen_by(request.user):
            return get_response(request)

    return answer


def _args(name: str, world: World) -> list:  # noqa: F811
    return [] if name.endswith("list") else [world.here[name.split("_")[1]].pk]


def test_a_hidden_number_cannot_be_found_out_by_trying_parts_of_it(planted: World):
    """By its last four digits or as a whole it is found; by any other part, which could be made longer, it is not."""
    auditor, everything = logged_in(staff_of("auditor", planted)), logged_in(staff_of("administrator", planted))
    call_id = planted.here["conversation"].pk
    page = "/admin/calls/conversation/"

    def found(client: Client, **query: str) -> bool:
        answer = client.get(page, query, follow=True)
        return call_id in {call.pk for call in answer.context["cl"].result_list}

    for part in ("3210", "9876543210", CALLER):
        assert found(auditor, q=part), part
    for part in ("10", "43210", "543210", "*6543*", "*9876543210*"[:6]):
        assert not found(auditor, q=part), part
        assert found(everything, q=part), part
    assert "by the last four digits" in auditor.get(page, {"q": "43210"}).content.decode()
    assert found(auditor, destination="+91987")
    assert found(everything, destination="+9198765")
    assert "e=1" in auditor.get(page, {"destination": "+9198765"}).headers["Location"]
