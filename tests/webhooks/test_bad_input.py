"""Whatever a known URL is sent: it is kept, nothing answers 500, and every page that shows it stays whole."""

import gzip
import json

import pytest
from django.contrib.auth import get_user_model

from calls.choices import Scope
from calls.models import ApiKey, Conversation
from webhooks import inbox, processing
from webhooks.models import Delivery, Endpoint

CDR = {
    "appid": 2222222, "conversation_uuid": "call", "cmiuuid": "leg", "leg": "a", "direction": "inbound",
    "from": 919000000001, "to": 918000000000, "time": 1632318511000, "start_time": 1632318510, "end_time": 1632318528,
    "answer_time": 1632318515, "duration": 13, "call_rate": "0.450000", "balance": "878.900000", "status": "answered",
}  # fmt: skip
SCRIPT = "<script>alert(1)</script>"


def changed(**fields: object) -> bytes:
    return json.dumps(CDR | fields).encode()


NOT_JSON = [
    b"", b"   ", b"null", b"42", b'"text"', b"[]", b"[[]]", b"[1, {}]", b"{}", b"{ to: 44, type: 'cdr' }", b"{'a': 1}",
    b'{"a": ', b"{}{}", b'{"a": 1}\n{"a": 2}', b"<xml/>", b"<!DOCTYPE html><html></html>", b"\x80\x04\x95pickle",
    bytes(range(256)) * 16, b"\x00" * 1024, b"\xef\xbb\xbf" + changed(), changed().decode().encode("utf-16"),
    changed().decode().encode("utf-32"), '{"a": "é"}'.encode("latin-1"), b"\xc0\x80", gzip.compress(changed()),
    b"[" * 100_000, b'{"a":' * 80_000, b"[" * 1000 + b"]" * 1000, b'{"status": NaN}', b'{"status": Infinity}',
    b'{"balance": 1e400}', b'{"balance": 1e999999999}', b'{"a": 1, "a": 2}', b'{"a": 1, "a": 1}',
    b'{"n": ' + b"9" * 5000 + b"}", b'{"n": ' + b"9" * 100_000 + b"}",
    json.dumps({f"key {number}": number for number in range(50_000)}).encode(), b"a=1&a=2", b"=&=&=", b"%ZZ=%FF",
    b"&".join(b"k%d=v" % number for number in range(5000)),
]  # fmt: skip
SENSELESS = [
    changed(**fields)
    for fields in [
        {"cmiuuid": None, "conversation_uuid": None}, {"cmiuuid": ""}, {"cmiuuid": "x" * 10_000}, {"cmiuuid": {"a": 1}},
        {"cmiuuid": True}, {"cmiuuid": "'; DROP TABLE calls_leg; --"}, {"cmiuuid": "a\r\nSet-Cookie: b"},
        {"cmiuuid": "nul \x00 in it"}, {"conversation_uuid": "\ud800"}, {"leg": 9}, {"leg": []}, {"status": {}},
        {"status": SCRIPT}, {"from": "anonymous"}, {"from": "sip:user@example.com"}, {"from": SCRIPT}, {"from": "=1+1"},
        {"from": "x" * 10_000}, {"from": "\u202e123"}, {"to": "٩١٩٠٠٠٠٠٠٠٠١"}, {"duration": -5}, {"duration": 10**12},
        {"duration": "13.5"}, {"start_time": 0}, {"start_time": -1}, {"start_time": 1}, {"start_time": 253402300799},
        {"start_time": 1632318510000}, {"time": "yesterday"}, {"time": 10**30}, {"end_time": 1632318000},
        {"balance": "NaN"}, {"balance": "sNaN"}, {"balance": "878,90"}, {"balance": "Rs 878"}, {"balance": "1_000"},
        {"balance": "0.0000001"}, {"balance": True}, {"balance": [1]}, {"balance": "9" * 40}, {"call_rate": "-0.45"},
        {"extra_params": SCRIPT}, {"extra_params": {SCRIPT: [SCRIPT, {"__class__": 1}]}}, {"extra_params": "{" * 500},
        {"extra_params": "{{7*7}} ${jndi:ldap://x}"}, {"extra_params": {"a\x00b": "\ud800"}},
        {"callerid": "=cmd|' /C'!A0"},
        {SCRIPT: SCRIPT}, {"account__secret__startswith": "a", "is_staff": True}, {"x" * 300: "long key"},
    ]
]  # fmt: skip
BODIES = NOT_JSON + SENSELESS


@pytest.fixture
def path(account) -> str:
    _, token = Endpoint.issue(account)
    inbox.ways.read()
    return f"/webhooks/piopiy/{token}/"


def test_everything_is_kept_and_ends_with_a_status(path, client):
    answers = [client.post(path, body, content_type="application/json") for body in BODIES]
    assert {answer.status_code for answer in answers} == {200}
    assert [bytes(Delivery.objects.get(pk=answer.json()["delivery"]).body) for answer in answers] == BODIES
    counts = processing.drain().counts
    assert counts["pending"] == 0
    assert counts.total() == len(BODIES)
    assert not Delivery.objects.filter(error_class="Crash").exists()
    unexplained = Delivery.objects.filter(status=Delivery.Status.QUARANTINED, error_message="")
    assert not unexplained.exists()


def test_the_good_one_between_bad_ones_becomes_a_call(path, client):
    for body in [*BODIES[:20], changed(cmiuuid="good", conversation_uuid="good"), *BODIES[20:]]:
        client.post(path, body, content_type="application/json")
    processing.drain()
    assert Conversation.objects.get(external_id="good").talk_seconds == 13


def test_every_page_that_shows_it_stays_whole(path, client, admin_client):
    for body in BODIES:
        client.post(path, body, content_type="application/json")
    processing.drain()
    pages = ["/admin/", "/admin/webhooks/delivery/", "/admin/calls/conversation/", "/admin/calls/agent/"]
    pages += [f"/admin/webhooks/delivery/{pk}/change/" for pk in Delivery.objects.values_list("pk", flat=True)]
    pages += [f"/admin/calls/conversation/{pk}/change/" for pk in Conversation.objects.values_list("pk", flat=True)]
    for page in pages:
        answer = admin_client.get(page)
        assert (page, answer.status_code) == (page, 200)
        assert SCRIPT not in answer.content.decode()
    _, key = ApiKey.issue("reader", [Scope.READ, Scope.MANAGE])
    for resource in ("conversations/?include=legs,events", "legs/", "events/", "balances/", "deliveries/", "live/"):
        answer = client.get(f"/api/v1/{resource}", headers={"Authorization": f"Bearer {key}"})
        assert (resource, answer.status_code) == (resource, 200)
        json.loads(answer.content)


def test_a_user_without_rights_sees_none_of_it(path, client):
    client.post(path, changed(), content_type="application/json")
    processing.drain()
    user = get_user_model().objects.create_user("nobody", password="a long password", is_staff=True)
    client.force_login(user)
    for page in ("/admin/webhooks/delivery/", "/admin/calls/conversation/", "/admin/calls/account/"):
        assert client.get(page).status_code == 403
