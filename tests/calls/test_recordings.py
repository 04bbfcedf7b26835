"""Recordings: played through this server from a real store, to those who may, without a word of where they are kept."""

import asyncio
import ipaddress
import logging
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
import time_machine
from django.contrib.auth.models import Permission, User
from django.core.asgi import get_asgi_application
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from calls import byte_range, recordings
from calls.byte_range import Part, Range, Unsatisfiable
from calls.models import Account, AuditEntry, Conversation, Recording
from calls.sealing import seal
from tests.api.factories import a_conversation, a_live_conversation
from tests.audio import Reply, audio_store
from webhooks.providers import telecmi

pytestmark = pytest.mark.django_db

SECRET = "s3cret-of-the-account"
FILE = "1632318518000_919000000001_2222222.mp3"
LIST = "/admin/calls/recording/"
BUDGET = timedelta(seconds=20)
GONE, PENDING, READY, FAILED = "expired", "pending", "ready", "failed"


@pytest.fixture
def store(settings):
    settings.ALLOWED_PRIVATE_TARGETS = [ipaddress.ip_network("127.0.0.1/32")]
    with audio_store() as store:
        yield store


@pytest.fixture
def admin_client(db) -> Client:
    """A browser in which somebody has logged in who may do everything; without a password, which takes time to hash."""
    client = Client()
    client.force_login(User.objects.create(username="admin", is_staff=True, is_superuser=True))
    return client


@pytest.fixture
def call(store) -> Conversation:
    """A call that ended a minute ago, and whose recording is in the store."""
    return a_call(f"{store.url}/a/secret-place.wav")


@pytest.fixture
def telecmi_account(store, monkeypatch, settings) -> Account:
    """An account whose provider, which names files, is the store."""
    edition = telecmi.EDITIONS["global"]._replace(address=f"{store.url}/v2")
    monkeypatch.setitem(telecmi.EDITIONS, "global", edition)
    sealed = seal(SECRET, settings.SECRET_KEY)
    return Account.objects.create(slug="mumbai", provider="telecmi", app_id="2222222", sealed_secret=sealed)


def a_call(recording: str, **values) -> Conversation:
    ended = timezone.now() - timedelta(minutes=1)
    times = {"started_at": ended - timedelta(seconds=18), "ended_at": ended, "last_heard_at": ended}
    return a_conversation(**(times | {"recording": recording} | values))


def someone(*permissions: str, name: str = "asha") -> Client:
    """A browser in which a member of staff with these permissions on calls has logged in."""
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def address(call: Conversation) -> str:
    return f"/admin/calls/conversation/{call.pk}/recording/"


def body(response) -> bytes:
    return b"".join(response.streaming_content) if response.streaming else response.content


def state_of(call: Conversation) -> str:
    return Recording.objects.get(conversation=call).state


# --- The parts that browsers ask for ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "meant"),
    [
        ("bytes=0-", Range(0, None)),
        ("bytes=5-9", Range(5, 9)),
        ("bytes=-3", Range(None, 3)),
        ("", None),
        ("bytes=-", None),
        ("bytes=9-5", None),
        ("bytes=0-1,4-5", None),
        ("chars=0-1", None),
        ("bytes=٣-", None),
    ],
)
def test_a_range_header_is_read_or_stands_for_everything(header, meant):
    assert byte_range.parse(header) == meant


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        (Range(0, None), Part(0, 9)),
        (Range(4, 100), Part(4, 9)),
        (Range(9, 9), Part(9, 9)),
        (Range(None, 3), Part(7, 9)),
        (Range(None, 100), Part(0, 9)),
    ],
)
def test_a_range_of_ten_bytes(asked, part):
    assert asked.of(10) == part


@pytest.mark.parametrize("asked", [Range(10, None), Range(10, 12), Range(None, 0)])
def test_a_range_beyond_the_end_is_refused(asked):
    with pytest.raises(Unsatisfiable):
        asked.of(10)


# --- Playing ------------------------------------------------------------------------------------------------------


def test_the_whole_recording_comes_as_audio_and_says_nothing_of_its_place(admin_client, store, call):
    response = admin_client.get(address(call))
    assert response.status_code == 200
    assert body(response) == store.file
    assert response["Content-Type"] == "audio/x-wav"
    assert response["Content-Length"] == str(len(store.file))
    assert response["Accept-Ranges"] == "bytes"
    assert response["ETag"] == '"one"'
    assert response["X-Content-Type-Options"] == "nosniff"
    assert "no-store" in response["Cache-Control"]
    assert response["Content-Disposition"].startswith('inline; filename="recording-')
    headers = str(response.headers)
    assert "secret" not in headers
    assert str(store.port) not in headers
    assert "Cookie" not in store.asks[0].headers


@pytest.mark.parametrize("knows_ranges", [True, False])
@pytest.mark.parametrize(
    ("asked", "cut"),
    [
        ("bytes=0-", slice(0, None)),
        ("bytes=100-199", slice(100, 200)),
        ("bytes=20000-", slice(20000, None)),
        ("bytes=-50", slice(-50, None)),
    ],
)
def test_a_part_comes_as_a_part_also_from_a_store_that_knows_none(admin_client, store, call, asked, cut, knows_ranges):
    store.knows_ranges = knows_ranges
    response = admin_client.get(address(call), headers={"Range": asked})
    wanted = store.file[cut]
    first = cut.indices(len(store.file))[0]
    assert response.status_code == 206
    assert body(response) == wanted
    assert response["Content-Range"] == f"bytes {first}-{first + len(wanted) - 1}/{len(store.file)}"
    assert response["Content-Length"] == str(len(wanted))


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_part_beyond_the_end_is_answered_with_the_length(admin_client, store, call, knows_ranges):
    store.knows_ranges = knows_ranges
    response = admin_client.get(address(call), headers={"Range": "bytes=9999999-"})
    assert (response.status_code, response["Content-Range"]) == (416, f"bytes */{len(store.file)}")


@pytest.mark.parametrize("knows_ranges", [True, False])
@pytest.mark.parametrize(("if_range", "status"), [('"one"', 206), ('"two"', 200)])
def test_the_rest_is_sent_only_of_the_recording_that_was_begun(
    admin_client, store, call, if_range, status, knows_ranges
):
    store.knows_ranges = knows_ranges
    response = admin_client.get(address(call), headers={"Range": "bytes=10-", "If-Range": if_range})
    assert response.status_code == status
    assert body(response) == store.file[10 if status == 206 else 0 :]


def test_a_head_request_tells_the_length_and_sends_nothing(admin_client, store, call):
    response = admin_client.head(address(call))
    assert (response.status_code, response["Content-Length"]) == (200, str(len(store.file)))
    assert body(response) == b""
    assert not AuditEntry.objects.filter(action=AuditEntry.Action.PLAY).exists()


def test_only_looking_is_allowed(admin_client, call):
    assert admin_client.post(address(call)).status_code == 405


def test_a_redirect_of_the_store_is_followed_here_and_not_by_the_browser(admin_client, store, call):
    there = f"{store.url}/moved.wav?signature=abc"
    store.reply = lambda ask: Reply(302, {"Location": there}) if "secret" in ask.path else None
    response = admin_client.get(address(call))
    assert response.status_code == 200
    assert "Location" not in response
    assert body(response) == store.file
    assert [ask.path for ask in store.asks] == ["/a/secret-place.wav", "/moved.wav?signature=abc"]


@pytest.mark.parametrize(
    "there", ["http://127.0.0.2/", "http://169.254.169.254/latest/", "file:///etc/passwd", "http://[", "//[::1]/"]
)
def test_a_redirect_to_where_we_must_not_go_is_refused(admin_client, store, call, there):
    store.reply = lambda ask: Reply(302, {"Location": there})
    response = admin_client.get(address(call))
    assert response.status_code == 502
    assert "cannot be fetched from where it is kept" in response.content.decode()
    assert len(store.asks) == 1


def test_redirects_without_end_are_given_up(admin_client, store, call):
    store.reply = lambda ask: Reply(302, {"Location": ask.path})
    assert admin_client.get(address(call)).status_code == 502
    assert len(store.asks) == 4


@pytest.mark.parametrize("recording", ["http://127.0.0.2/1.wav", "http://10.0.0.1/1.wav", "https://localhost./1.wav"])
def test_a_recording_on_a_private_address_is_not_fetched(admin_client, store, recording):
    call = a_call(recording)
    response = admin_client.get(address(call))
    assert response.status_code == 502
    assert "1.wav" not in response.content.decode()
    assert store.asks == []


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, {"Content-Type": "text/html"}, b"<script>alert(1)</script>"),
        Reply(200, {"Content-Type": "image/svg+xml"}, b"<svg/>"),
        Reply(200, {"Content-Type": "audio/x; <script>"}, b"x"),
        Reply(200, {"Content-Type": "audio/wav", "Content-Encoding": "gzip"}, b"x"),
        Reply(200, {"Content-Type": "audio/wav", "Content-Length": str(10**12)}),
        Reply(206, {"Content-Type": "audio/wav", "Content-Range": "bytes 0-1/2"}, b"xx"),
        Reply(500, {}, b"at /srv/recordings/secret"),
    ],
    ids=lambda reply: f"{reply.status} {' '.join(reply.headers.values())}",
)
def test_nothing_but_audio_gets_through(admin_client, store, call, reply):
    store.reply = lambda ask: reply
    response = admin_client.get(address(call))
    said = body(response).decode()
    if response.status_code == 200:
        assert response["Content-Type"] == "audio/x"
    else:
        assert (response.status_code, response["Content-Type"]) == (502, "text/plain; charset=utf-8")
        assert "script" not in said
        assert "secret" not in said
        assert state_of(call) == FAILED


@pytest.mark.parametrize("kind", ["application/octet-stream", "binary/octet-stream"])
def test_a_store_that_does_not_know_what_it_keeps_is_believed_by_the_name(admin_client, store, kind):
    store.reply = lambda ask: Reply(200, {"Content-Type": kind}, b"sound")
    heard = admin_client.get(address(a_call(f"{store.url}/1.mp3?key=1")))
    assert (heard.status_code, heard["Content-Type"], body(heard)) == (200, "audio/mpeg", b"sound")
    assert admin_client.get(address(a_call(f"{store.url}/1.exe"))).status_code == 502


def test_a_store_that_cannot_be_reached_is_said_to_be_so(admin_client, settings):
    settings.ALLOWED_PRIVATE_TARGETS = [ipaddress.ip_network("127.0.0.1/32")]
    with audio_store() as gone:
        pass
    response = admin_client.get(address(a_call(f"{gone.url}/secret.wav")))
    assert response.status_code == 502
    assert "could not be asked for the recording (ConnectError)" in response.content.decode()
    assert "secret" not in response.content.decode()


# --- States -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "age", "state", "answer"),
    [
        (404, timedelta(minutes=1), PENDING, 404),
        (403, timedelta(minutes=1), PENDING, 404),
        (410, timedelta(minutes=1), GONE, 410),
        (404, timedelta(hours=3), GONE, 410),
        (403, timedelta(days=90), GONE, 410),
        (401, timedelta(minutes=1), FAILED, 502),
        (500, timedelta(minutes=1), FAILED, 502),
    ],
)
def test_what_the_provider_answers_becomes_a_state_with_words(admin_client, store, status, age, state, answer):
    call = a_call(f"{store.url}/1.wav", ended_at=timezone.now() - age)
    store.reply = lambda ask: Reply(status)
    response = admin_client.get(address(call))
    assert (response.status_code, state_of(call)) == (answer, state)
    assert str(status) in response.content.decode()
    assert (
        response.content.decode()
        in admin_client.get(reverse("admin:calls_conversation_change", args=[call.pk])).content.decode()
    )
    store.reply = lambda ask: None
    body(admin_client.get(address(call)))
    recording = Recording.objects.get(conversation=call)
    assert (recording.state, recording.words, recording.size_bytes) == (READY, "", len(store.file))


def test_a_call_without_a_recording_has_nothing_to_play(admin_client):
    assert admin_client.get(address(a_call(""))).status_code == 404


# --- Names of files -----------------------------------------------------------------------------------------------


def test_a_file_name_is_fetched_with_the_accounts_own_credentials(admin_client, store, telecmi_account, caplog):
    caplog.set_level(logging.INFO)
    call = a_call(FILE, account=telecmi_account)
    response = admin_client.get(address(call))
    assert body(response) == store.file
    asked = urlsplit(store.asks[0].path)
    assert asked.path == "/v2/play"
    assert parse_qs(asked.query) == {"appid": ["2222222"], "secret": [SECRET], "file": [FILE]}
    page = admin_client.get(reverse("admin:calls_conversation_change", args=[call.pk])).content.decode()
    for text in (str(response.headers), page, caplog.text):
        assert SECRET not in text
        assert str(store.port) not in text


def test_the_other_api_has_another_place_and_word_for_the_secret():
    asked = telecmi.recording_address("a b.mp3", app_id="1", secret="x&y", api_base="india")
    assert asked == "https://piopiy.telecmi.com/v1/play?appid=1&token=x%26y&file=a+b.mp3"


def test_a_refusal_within_an_answer_of_200_is_understood(admin_client, store, telecmi_account):
    store.reply = lambda ask: Reply(200, {"Content-Type": "application/json"}, b'{"code":404,"msg":"no such file"}')
    old = a_call(FILE, account=telecmi_account, ended_at=timezone.now() - timedelta(days=3))
    response = admin_client.get(address(old))
    assert (response.status_code, state_of(old)) == (410, GONE)
    assert "app id or API secret" in response.content.decode()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sealed_secret": ""}, "“mumbai” has no API secret"),
        ({"app_id": "abc"}, "The app id “abc” is not a number"),
        ({"sealed_secret": seal(SECRET, "another key")}, "Enter it again"),
        ({"provider": "piopiy"}, "no address to fetch it from"),
    ],
)
def test_without_credentials_the_page_says_what_to_set_and_where(admin_client, store, telecmi_account, change, words):
    Account.objects.filter(pk=telecmi_account.pk).update(**change)
    call = a_call(FILE, account=Account.objects.get(pk=telecmi_account.pk))
    assert words in admin_client.get(address(call)).content.decode()
    page = admin_client.get(reverse("admin:calls_conversation_change", args=[call.pk])).content.decode()
    assert words in page
    is_mended_there = "provider" not in change
    assert ("Open the account’s page" in page) == is_mended_there
    assert store.asks == []


# --- Who may, and what is written down -----------------------------------------------------------------------------


def test_it_takes_the_permission_to_play(store, call):
    assert Client().get(address(call)).status_code == 302
    assert someone("view_conversation", "see_all_calls", name="bina").get(address(call)).status_code == 403
    assert someone("view_conversation", "see_all_calls", "play_recordings").get(address(call)).status_code == 200
    assert len(store.asks) == 1


def test_a_call_out_of_reach_has_no_recording(store, call):
    assert someone("view_conversation", "play_recordings").get(address(call)).status_code == 404
    assert store.asks == []


def test_a_file_to_keep_takes_the_permission_to_export_and_is_written_down_each_time(call):
    listener = someone("see_all_calls", "play_recordings", name="bina")
    assert listener.get(f"{address(call)}?download").status_code == 403
    exporter = someone("see_all_calls", "play_recordings", "export_calls")
    for _ in range(2):
        response = exporter.get(f"{address(call)}?download")
        assert response["Content-Disposition"].startswith('attachment; filename="recording-')
        assert response["Content-Disposition"].endswith('.wav"')
    assert AuditEntry.objects.filter(action=AuditEntry.Action.EXPORT, target_id=str(call.pk)).count() == 2


def test_all_requests_of_a_playback_are_one_entry_in_the_audit_log(call):
    listener, other = (someone("see_all_calls", "play_recordings", name=name) for name in ("asha", "bina"))
    now = timezone.now()
    with time_machine.travel(now, tick=False) as clock:
        for first in (0, 10, 20):
            body(listener.get(address(call), headers={"Range": f"bytes={first}-"}))
        body(other.get(address(call)))
        clock.shift(timedelta(minutes=11))
        body(listener.get(address(call)))
    entries = recordings.plays_of(call)
    assert [str(entry.user) for entry in entries] == ["asha", "bina", "asha"]
    assert entries[0].target_name == "recording"


def test_what_could_not_be_played_was_not_played(admin_client, store, call):
    store.reply = lambda ask: Reply(404)
    admin_client.get(address(call))
    assert not recordings.plays_of(call).exists()


# --- The page of the call -----------------------------------------------------------------------------------------


def page_for(client: Client, call: Conversation) -> str:
    return client.get(reverse("admin:calls_conversation_change", args=[call.pk])).content.decode()


def test_the_page_plays_from_our_address_and_names_no_other(admin_client, store, call):
    response = admin_client.get(reverse("admin:calls_conversation_change", args=[call.pk]))
    page = response.content.decode()
    assert f'src="{address(call)}"' in page
    assert "secret-place" not in page
    assert str(store.port) not in page
    assert "media-src" not in response.headers["Content-Security-Policy"]
    assert "default-src 'self'" in response.headers["Content-Security-Policy"]


def test_the_page_shows_who_played_to_those_who_may_see_the_audit_log(admin_client, call):
    body(someone("see_all_calls", "play_recordings", name="asha").get(address(call)))
    assert "Played by" in page_for(admin_client, call)
    assert "asha" in page_for(admin_client, call)
    viewer = someone("view_conversation", "see_all_calls", "play_recordings", name="bina")
    assert "Played by" not in page_for(viewer, call)


def test_the_page_offers_only_what_the_viewer_may(call):
    viewer = page_for(someone("view_conversation", "see_all_calls", name="chitra"), call)
    assert "<audio" not in viewer
    assert "your role may not play" in viewer
    listener = page_for(someone("view_conversation", "see_all_calls", "play_recordings", name="asha"), call)
    assert "<audio" in listener
    assert "?download" not in listener


def test_a_voicemail_is_called_one(admin_client, call):
    Conversation.objects.update(has_voicemail=True)
    assert 'id="rl-recording">Voicemail<' in page_for(admin_client, call)
    assert admin_client.get(address(call))["Content-Disposition"].startswith('inline; filename="voicemail-')


def test_a_call_that_goes_on_says_when_its_recording_comes(admin_client, store):
    call = a_live_conversation(recording=f"{store.url}/1.wav")
    assert "its recording comes after its end" in page_for(admin_client, call)


# --- The list -----------------------------------------------------------------------------------------------------


def noted(state: str, **values) -> Recording:
    return Recording.objects.create(conversation=a_call("https://example.com/1.wav", **values), state=state)


def listed(client: Client, **query) -> set[str]:
    response = client.get(LIST, query)
    assert response.status_code == 200
    return {recording.state for recording in response.context["cl"].result_list}


def test_the_list_is_filtered_by_state_account_kind_and_time(admin_client):
    other = Account.objects.create(slug="agra", provider="callerdesk")
    noted(READY)
    noted(FAILED, account=other)
    noted(GONE, has_voicemail=True, started_at=timezone.now() - timedelta(days=9))
    assert listed(admin_client) == {READY, FAILED, GONE}
    assert listed(admin_client, state__exact=FAILED) == {FAILED}
    assert listed(admin_client, conversation__account__id__exact=other.pk) == {FAILED}
    assert listed(admin_client, conversation__has_voicemail__exact=1) == {GONE}
    since = (timezone.now() - timedelta(days=1)).isoformat()
    assert listed(admin_client, conversation__started_at_from_0=since) == {READY, FAILED}
    assert f"{LIST}" in admin_client.get("/admin/").content.decode()


def test_the_list_shows_the_recordings_of_visible_calls_to_those_who_may_see_it():
    noted(READY)
    assert someone("view_conversation", "see_all_calls", name="bina").get(LIST).status_code == 403
    assert listed(someone("view_recording", name="chitra")) == set()
    assert listed(someone("view_recording", "see_all_calls")) == {READY}


def test_the_list_leads_to_the_call(admin_client):
    recording = noted(READY)
    response = admin_client.get(f"{LIST}{recording.pk}/change/")
    assert response["Location"] == reverse("admin:calls_conversation_change", args=[recording.pk])


def test_a_long_list_costs_no_more_queries_than_a_short_one(admin_client):
    counts = []
    for rows in (2, 20):
        for _ in range(rows):
            noted(READY)
        admin_client.get(LIST)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            admin_client.get(LIST)
        counts.append(len(queries))
    assert counts[0] == counts[1]


# --- The watch ----------------------------------------------------------------------------------------------------


def test_the_watch_asks_for_the_recordings_of_new_calls(store, telecmi_account):
    by_address, by_name = a_call(f"{store.url}/1.wav"), a_call(FILE, account=telecmi_account)
    a_call("")
    a_live_conversation(recording=f"{store.url}/2.wav")
    assert recordings.watch(timezone.now(), BUDGET) == 2
    assert {ask.headers["Range"] for ask in store.asks} == {"bytes=0-0"}
    for call in (by_address, by_name):
        recording = Recording.objects.get(conversation=call)
        assert (recording.state, recording.size_bytes, recording.due_at) == (READY, len(store.file), None)
    assert recordings.watch(timezone.now(), BUDGET) == 0


def test_the_watch_asks_again_until_it_is_there(store, call):
    store.reply = lambda ask: Reply(404)
    now = timezone.now()
    assert recordings.watch(now, BUDGET) == 1
    assert state_of(call) == PENDING
    assert recordings.watch(now + timedelta(seconds=30), BUDGET) == 0
    assert recordings.watch(now + timedelta(minutes=1), BUDGET) == 1
    store.reply = lambda ask: None
    assert recordings.watch(now + timedelta(minutes=6), BUDGET) == 1
    assert state_of(call) == READY


def test_the_watch_gives_up_in_the_end(store, call):
    store.reply = lambda ask: Reply(500)
    now = timezone.now()
    for _ in range(10):
        recordings.watch(now, BUDGET)
        now += timedelta(days=1)
    assert len(store.asks) == len(recordings.ASK_AFTER)
    assert state_of(call) == FAILED
    assert not Recording.objects.exclude(due_at=None).exists()


def test_the_watch_asks_no_more_for_what_is_gone(store):
    call = a_call(f"{store.url}/1.wav", ended_at=timezone.now() - timedelta(days=30))
    store.reply = lambda ask: Reply(404)
    now = timezone.now()
    assert recordings.watch(now, BUDGET) == 1
    assert state_of(call) == GONE
    assert recordings.watch(now + timedelta(days=1), BUDGET) == 0


def test_one_recording_that_cannot_be_fetched_does_not_hold_up_the_others(store):
    for number in range(30):
        a_call(f"{store.url}/{number}.wav" if number % 2 else "http://10.0.0.1/1.wav")
    assert recordings.watch(timezone.now(), BUDGET) == 30
    assert Recording.objects.filter(state=READY).count() == 15
    assert Recording.objects.filter(state=FAILED).count() == 15


def test_staff_has_some_asked_for_again(admin_client, store, call):
    store.reply = lambda ask: Reply(410)
    now = timezone.now()
    recordings.watch(now, BUDGET)
    store.reply = lambda ask: None
    assert recordings.watch(now + timedelta(days=1), BUDGET) == 0
    answer = admin_client.post(LIST, {"action": "ask_again", "_selected_action": [str(call.pk)]}, follow=True)
    assert "1 recording will be asked for" in answer.content.decode()
    assert recordings.watch(timezone.now(), BUDGET) == 1
    assert state_of(call) == READY


# --- Under ASGI, as it is served ------------------------------------------------------------------------------------


class Browser:
    """Speaks ASGI with the application. It takes no more after ``stops_after`` bytes, until it hangs up."""

    def __init__(self, client: Client, stops_after: int | None = None) -> None:
        self.cookie = f"sessionid={client.cookies['sessionid'].value}"
        self.stops_after = stops_after
        self.status, self.headers, self.got = 0, {}, b""
        self.has_stopped, self.hangs_up = asyncio.Event(), asyncio.Event()
        self.has_asked = False

    async def get(self, path: str, **headers: str) -> None:
        lines = {"host": "testserver", "cookie": self.cookie} | headers
        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": b"",
            "headers": [(key.encode(), value.encode()) for key, value in lines.items()],
        }
        await get_asgi_application()(scope, self.receive, self.send)

    async def receive(self) -> dict:
        if not self.has_asked:
            self.has_asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.hangs_up.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
            return
        self.got += message.get("body", b"")
        if self.stops_after is not None and len(self.got) >= self.stops_after:
            self.has_stopped.set()
            await asyncio.Event().wait()


@pytest.mark.django_db(transaction=True)
def test_under_asgi_a_part_comes_too(admin_client, store, call):
    async def listen() -> Browser:
        browser = Browser(admin_client)
        await browser.get(address(call), range="bytes=100-299")
        return browser

    browser = asyncio.run(listen())
    assert (browser.status, browser.got) == (206, store.file[100:300])
    assert browser.headers["content-range"] == f"bytes 100-299/{len(store.file)}"
    assert recordings.plays_of(call).count() == 1


@pytest.mark.django_db(transaction=True)
def test_listeners_who_pause_hold_no_connection_to_the_database_and_little_memory(admin_client, store, call):
    """There are more of them than connections; and what they have not taken has not left the provider."""
    store.file = bytes(64 * 1024 * 1024)

    async def listen() -> list[Browser]:
        browsers = [Browser(admin_client, stops_after=1) for _ in range(12)]
        tasks = [asyncio.create_task(browser.get(address(call))) for browser in browsers]
        async with asyncio.timeout(60):
            for browser in browsers:
                await browser.has_stopped.wait()
            assert not store.gone.is_set()
            for browser in browsers:
                browser.hangs_up.set()
            await asyncio.gather(*tasks)
        return browsers

    browsers = asyncio.run(listen())
    assert [browser.status for browser in browsers] == [200] * 12
    assert max(len(browser.got) for browser in browsers) < 1024 * 1024
    assert store.gone.wait(60)  # in the middle of the file
    assert recordings.plays_of(call).count() == 1  # at the same moment, by the same listener
