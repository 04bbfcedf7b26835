"""Whatever a known URL is sent: it is kept, nothing answers 500, and every page that shows it stays whole."""

import gc
import gzip
import json
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from django.contrib.auth import get_user_model
from hypothesis import given
from hypothesis import strategies as st

from calls.choices import Scope
from calls.models import Account, ApiKey, Conversation
from calls.records import dump_record
from tests.webhooks.inbox import NOON
from tests.webhooks.wire import read_all
from webhooks import inbox, processing
from webhooks.decoding import decode
from webhooks.errors import DeliveryError
from webhooks.models import Delivery, Endpoint
from webhooks.providers import PROVIDERS

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


MULTIPART = "multipart/form-data; boundary=xx"
PART = b'--xx\r\nContent-Disposition: form-data; name="'
ENDLESS: dict[str, Callable[[int], bytes]] = {
    "escaped quotes": lambda size: b'{"a":"' + b'\\"' * (size // 2),
    "quotes": lambda size: b"{" + b'"' * size,
    "backslashes": lambda size: b'{"a":"' + b"\\" * size,
    "blanks": lambda size: b"{" + b" " * size,
    "commas and blanks": lambda size: b"{" + b", " * (size // 2),
    "a bare key": lambda size: b"{" + b"a" * size,
    "a form's key": lambda size: b"a" * size + b"=",
    "fields of a form": lambda size: b"a=1&" * (size // 4),
    "brackets in a form": lambda size: b"a" + b"[a]" * (size // 3) + b"=1",
    "percent signs": lambda size: b"a=" + b"%ZZ%41" * (size // 6),
    "an integer": lambda size: b'{"a":' + b"9" * size + b"}",
    "a fraction": lambda size: b'{"a":0.' + b"9" * size + b"}",
    "an exponent": lambda size: b'{"a":1e' + b"0" * size + b"}",
    "a list of numbers": lambda size: b"[" + b"1," * (size // 2) + b"1]",
    "a list of objects": lambda size: b"[" + b'{"a":1},' * (size // 8) + b"{}]",
    "one field's list": lambda size: b'{"a":[' + b"1," * (size // 2) + b"1]}",
    "open brackets": lambda size: b"[" * size,
    "brackets side by side": lambda size: b'{"a":[' + b"[]," * (size // 3) + b"1]}",
    "a text": lambda size: changed(extra_params="{'a': " + "-" * size),
    "digits where a time stands": lambda size: changed(start_time="1" * size),
    "blanks in a local time": lambda size: b'{"type":"call_report","CallSid":"1","StartTime":"2024-12-30'
    + b" " * size + b'"}',
    "letters of a status": lambda size: b'{"CallSid":"1","Status":"' + b"A(" * (size // 2) + b'"}',
    "parts": lambda size: (PART + b'a"\r\n\r\n1\r\n') * (size // 52),
    "parts of nothing": lambda size: b"--xx\r\n" * (size // 6),
    "blanks behind boundaries": lambda size: b"--xx" + (b" " * 100 + b"a\n--xx") * (size // 106),
    "parts within parts": lambda size: b"".join(
        b"--xx\r\nContent-Type: multipart/mixed; boundary=xx\r\n\r\n" for _ in range(size // 52)
    ),
    "a part's name": lambda size: PART + b"a" * size,
    "semicolons": lambda size: PART + b'a"' + b"; " * (size // 2) + b"\r\n\r\n1\r\n--xx--",
    "names": lambda size: PART + b';name="' * (size // 7),
    "folded heads": lambda size: PART + b'a";\r\n ' + b"a\r\n " * (size // 4) + b"\r\n\r\n1\r\n--xx--",
    "line ends": lambda size: PART + b"\r\n" * (size // 2),
}  # fmt: skip
"""Bodies of any size, each made to catch a reader that looks at the same bytes again and again."""

Nested = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**40), 10**40) | st.floats() | st.text(max_size=20)
    | st.sampled_from(["9" * 400, "1e400", "0x" + "f" * 5000, "[" * 300 + "]" * 300, '{"a":' * 950 + "1" + "}" * 950,
                       "{'a': " * 90 + "1" + "}" * 90, "-" * 400 + "1", "2024-12-30" + " " * 200 + "12:00:00",
                       "0001-01-01 00:00:00", "\ud800", "\x00", "(1,)", "{1, 2}", "..."]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
FILES = [file for file in read_all() if "payload" in file.content]


def understood(body: bytes, content_type: str = "application/json", provider: str = "piopiy") -> processing.Understood:
    """Return what the drain makes of a body, as far as it needs no table."""
    account = Account(slug="delhi-support", provider=provider)
    delivery = Delivery(account=account, received_at=NOON, content_type=content_type, body=body)
    return processing.understand(delivery)


def seconds(body: bytes) -> float:
    """Return the processor time that each adapter and every content type take for a body together.

    The garbage collector waits: what it takes says how much all tests before this one have left in memory.
    """
    gc.disable()
    try:
        start = time.thread_time()
        for provider, content_type in zip(PROVIDERS, ["application/json", "text/plain", MULTIPART], strict=True):
            item = understood(body, content_type, provider)
            assert type(item.error).__name__ != "Crash"
        return time.thread_time() - start
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ENDLESS)
def test_time_grows_no_faster_than_the_body(name):
    for size in (1 << 12, 1 << 14, 1 << 16, (1 << 20) - 200):  # the short ones first: what squares is caught early
        quarter, whole = ENDLESS[name](size // 4), ENDLESS[name](size)
        # The shortest of some rounds: others on the machine only add to a time. Below a millisecond the clock's step
        # and what every delivery costs say more than the length. What squares takes 16 times as long.
        short = long = float("inf")
        for _ in range(20):
            short, long = min(short, max(seconds(quarter), 0.001)), min(long, seconds(whole))
            if long < 8 * short:
                break
        assert long < 8 * short, (size, short, long)


@given(
    body=st.binary(max_size=300) | st.text(alphabet="{}[]\",:0123456789aeE.-=&\\un%'", max_size=120).map(str.encode),
    content_type=st.sampled_from(["application/json", "application/x-www-form-urlencoded", MULTIPART, "", '\x00;="']),
    provider=st.sampled_from(sorted(PROVIDERS)),
)
def test_any_bytes_give_records_or_the_reason_why_not(body, content_type, provider):
    item = understood(body, content_type, provider)
    assert type(item.error).__name__ != "Crash"
    assert all(dump_record(record) for record in item.records)


@given(data=st.data(), file=st.sampled_from(FILES))
def test_a_known_notification_with_anything_in_its_fields_gives_records_or_the_reason_why_not(data, file):
    names = data.draw(st.lists(st.sampled_from([*sorted(file.content["payload"]), "extra_params"]), max_size=4))
    payload = file.content["payload"] | {name: data.draw(Nested) for name in names}
    item = understood(json.dumps(payload).encode(), provider=file.provider)
    assert type(item.error).__name__ != "Crash"
    assert all(dump_record(record) for record in item.records)


@given(body=st.binary(max_size=60), content_type=st.text(max_size=40).map("multipart/form-data; boundary={}".format))
def test_a_multipart_form_of_any_boundary_is_read_or_refused(body, content_type):
    with suppress(DeliveryError):
        decode(body=b"--" + body, query=b"", content_type=content_type)


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
