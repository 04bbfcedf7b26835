"""Notices: each goes out once, is tried again when it fails, and never waits for another channel."""

import json
import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from calls.alerting import notices
from calls.models import Channel, Notice
from tests.calls.alerting.telling import alert, notice

pytestmark = pytest.mark.django_db
DUE, SENT, GIVEN_UP = Notice.State.DUE, Notice.State.SENT, Notice.State.GIVEN_UP
NOTHING_LISTENS = "http://127.0.0.1:9/hook"


@pytest.fixture
def webhook(hook):
    return Channel.objects.create(name="ours", kind="webhook", target=hook.url)


@pytest.fixture
def mail(mailbox):
    return Channel.objects.create(name="boss", kind="email", target="boss@example.com")


def send_all() -> None:
    """Do what the workers do in a turn."""
    for channel_id in notices.waiting():
        notices.send_to(channel_id)


def become_due() -> None:
    Notice.objects.filter(state=DUE).update(due_at=timezone.now())


# --- What is said ----------------------------------------------------------------------------------------------------


def test_a_webhook_tells_what_opened_and_then_what_cleared(account, webhook, hook):
    one = alert(account, 3, value=3)
    notice(webhook, one)
    send_all()
    one.cleared_at = one.opened_at + timedelta(hours=1)
    one.save()
    notice(webhook, one, "cleared")
    send_all()
    opened, cleared = [json.loads(post.body) for post in hook.posts]
    assert (opened["type"], cleared["type"]) == ("alert.opened", "alert.cleared")
    assert opened["data"] | {"id": 0} == {
        "id": 0, "account": "delhi-support", "rule": "Low", "kind": "low_balance", "subject": "3",
        "message": "The balance is 3.00 INR, below 500 INR.", "value": "3.000000",
        "opened_at": "2026-03-02T06:30:00+00:00", "cleared_at": None,
        "url": f"http://127.0.0.1:8000/admin/calls/alert/{one.pk}/change/",
        "evidence": [
            {"label": "The readings", "url": "http://127.0.0.1:8000/admin/calls/balancereading/"},
        ],
    }  # fmt: skip
    assert cleared["data"]["cleared_at"] == "2026-03-02T07:30:00+00:00"


def test_a_mail_tells_it_in_both_forms_with_links_and_the_accounts_time(account, mail, mailbox):
    account.name = "Delhi <b>Support</b>"
    account.save()
    notice(mail, alert(account, 3))
    send_all()
    (_, message) = mailbox.mails[0]
    text, html = [part.get_payload(decode=True).decode() for part in message.get_payload()]
    assert message["Subject"] == "Ringledger: low balance, Delhi <b>Support</b>"
    for form in (text, html):
        assert "The balance is 3.00 INR, below 500 INR." in form
        assert "Opened 2 March 2026, 12:00:00 IST" in form
        assert "http://127.0.0.1:8000/admin/calls/balancereading/" in form
    assert "Delhi <b>Support</b>" in text
    assert "Delhi &lt;b&gt;Support&lt;/b&gt;" in html


def test_what_was_cleared_before_it_was_told_is_told_as_cleared(account, mail, mailbox):
    one = alert(account, cleared_at=timezone.now())
    notice(mail, one)
    notice(mail, one, "cleared")
    send_all()
    first, second = [message.get_payload(0).get_payload(decode=True).decode() for _, message in mailbox.mails]
    assert ", cleared " in first
    assert second.startswith("Cleared: ")


# --- Once ------------------------------------------------------------------------------------------------------------


def test_a_notice_goes_out_once(account, webhook, hook):
    notice(webhook, alert(account))
    for _ in range(3):
        send_all()
        become_due()
    assert len(hook.posts) == 1
    sent = Notice.objects.get()
    assert (sent.state, sent.attempts, sent.last_error) == (SENT, 1, "")
    assert sent.sent_at is not None
    assert notices.waiting() == []


def test_a_channel_that_somebody_is_sending_to_is_left_to_them(account, webhook, hook):
    notice(webhook, alert(account))
    Channel.objects.update(lease_until=timezone.now() + timedelta(seconds=5))
    assert notices.waiting() == []
    assert notices.send_to(webhook.pk) == 0
    Channel.objects.update(lease_until=timezone.now() - timedelta(seconds=1))  # they are gone
    assert notices.send_to(webhook.pk) == 1
    assert Channel.objects.get().lease_until is None


def test_the_id_is_written_before_the_message_goes_out_and_kept_at_each_try(account, webhook, hook):
    notice(webhook, alert(account))
    hook.answer = lambda post: 500
    for _ in range(3):
        send_all()
        become_due()
    hook.answer = lambda post: 200
    send_all()
    ids = {post.headers["webhook-id"] for post in hook.posts}
    assert ids == {post.headers["Idempotency-Key"] for post in hook.posts} == {str(Notice.objects.get().message_id)}
    assert len(hook.posts) == 4
    assert len({post.body for post in hook.posts}) == 1


def test_neither_quiet_nor_switched_off_channels_are_sent_to(account, webhook, hook):
    notice(webhook, alert(account))
    Notice.objects.update(due_at=timezone.now() + timedelta(hours=1))
    send_all()
    become_due()
    Channel.objects.update(is_active=False)
    send_all()
    notices.send_to(webhook.pk)
    assert hook.posts == []


# --- Together --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "messages"), [(5, 5), (6, 1), (150, 2)])
def test_more_than_a_few_at_once_go_out_as_one_message(account, webhook, mail, hook, mailbox, count, messages):
    for number in range(count):
        one = alert(account, number)
        notice(webhook, one)
        notice(mail, one)
    send_all()
    assert (len(hook.posts), len(mailbox.mails)) == (messages, messages)
    bodies = [json.loads(post.body) for post in hook.posts]
    told = [one["data"]["subject"] for body in bodies for one in body["data"].get("notices", [body])]
    assert told == [str(number) for number in range(count)]
    assert set(Notice.objects.values_list("state", flat=True)) == {SENT}
    if messages == 1:
        assert bodies[0]["type"] == "alert.digest"
        assert mailbox.mails[0][1]["Subject"] == "Ringledger: 6 notices"


def test_a_digest_that_failed_is_tried_again_as_it_was(account, webhook, hook):
    for number in range(6):
        notice(webhook, alert(account, number))
    hook.answer = lambda post: 503
    send_all()
    notice(webhook, alert(account, 6))  # opened meanwhile
    become_due()
    hook.answer = lambda post: 200
    send_all()
    first, again, other = hook.posts
    assert (first.body, first.headers["webhook-id"]) == (again.body, again.headers["webhook-id"])
    assert json.loads(other.body)["type"] == "alert.opened"
    assert other.headers["webhook-id"] != first.headers["webhook-id"]


def test_a_digest_takes_no_more_queries_for_more_notices(account, webhook, hook):
    counts = []
    for size in (6, 60):
        for number in range(size):
            notice(webhook, alert(account, size * 100 + number))
        with CaptureQueriesContext(
            connection,
        ) as queries:
            send_all()
        counts.append(len(queries))
    assert counts[0] == counts[1]


# --- Failing ---------------------------------------------------------------------------------------------------------


def test_a_channel_that_fails_is_shown_as_failing_until_it_works(account, webhook, hook):
    notice(webhook, alert(account))
    hook.answer = lambda post: 500
    send_all()
    channel, failed = Channel.objects.get(), Notice.objects.get()
    reason = "127.0.0.1 answered 500. An answer of 200 to 299 is taken for received."
    assert (channel.last_error, failed.last_error, failed.state) == (reason, reason, DUE)
    since = channel.failing_since
    assert since is not None
    assert failed.due_at > timezone.now()
    send_all()
    assert len(hook.posts) == 1  # not before its time
    become_due()
    send_all()
    assert Channel.objects.get().failing_since == since
    hook.answer = lambda post: 204
    become_due()
    send_all()
    channel = Channel.objects.get()
    assert (channel.failing_since, channel.last_error, Notice.objects.get().state) == (None, "", SENT)


def test_pauses_double_up_to_an_hour_and_take_about_a_day_in_all():
    pauses = [notices.pause_after(attempts).total_seconds() / 60 for attempts in range(1, notices.TRIES)]
    for pause, minutes in zip(pauses, [1, 2, 4, 8, 16, 32, 60, 60], strict=False):
        assert 0.8 * minutes <= pause <= 1.2 * minutes
    assert 20 < sum(pauses) / 60 < 30
    assert notices.pause_after(30_000) <= timedelta(hours=1.2)


def test_after_the_last_try_a_notice_is_given_up_and_says_why(account, webhook, hook):
    notice(webhook, alert(account))
    Notice.objects.update(attempts=notices.TRIES - 1)
    hook.answer = lambda post: 500
    send_all()
    given_up = Notice.objects.get()
    assert (given_up.state, given_up.attempts) == (GIVEN_UP, notices.TRIES)
    assert "answered 500" in given_up.last_error


def test_a_receiver_that_says_gone_is_told_no_more(account, webhook, hook):
    for number in range(2):
        notice(webhook, alert(account, number))
    hook.answer = lambda post: 410
    send_all()
    channel = Channel.objects.get()
    assert not channel.is_active
    assert channel.last_error == "127.0.0.1 answered 410: it wants no more notices."
    assert set(Notice.objects.values_list("state", flat=True)) == {GIVEN_UP}
    assert len(hook.posts) == 1


def test_a_message_that_is_never_taken_holds_no_other_up(account, webhook, hook):
    for number in range(3):
        notice(webhook, alert(account, number))
    hook.answer = lambda post: 400 if json.loads(post.body)["data"]["subject"] == "0" else 200
    send_all()
    send_all()
    assert list(Notice.objects.order_by("pk").values_list("state", flat=True)) == [DUE, SENT, SENT]


def test_a_fault_of_ours_is_a_failure_like_any_other(account, webhook, caplog):
    notice(webhook, alert(account))
    Channel.objects.update(kind="pigeon")
    send_all()
    assert Notice.objects.get().last_error == "It could not be sent because of an error in Ringledger (KeyError)."
    assert Notice.objects.get().due_at > timezone.now()


def test_no_secret_is_kept_or_logged(account, hook, caplog, settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_HOST_PASSWORD = "127.0.0.1", 9, "hunter2"
    hook.answer = lambda post: 401
    targets = {
        "webhook": [f"{hook.url}/hunter2", "http://127.0.0.1:9/hunter2", "http://example.com/hunter2"],
        "apprise": [f"json://me:hunter2@127.0.0.1:{hook.port}/hunter2", "json://nowhere.invalid/hunter2"],
        "email": ["boss@example.com"],
    }
    one = alert(account)
    for kind, those in targets.items():
        for number, target in enumerate(those):
            channel = Channel.objects.create(name=f"{kind} {number}", kind=kind, target=target, secret="aHVudGVyMg==")
            notice(channel, one)
    send_all()
    errors = [
        *Notice.objects.values_list("last_error", flat=True),
        *Channel.objects.values_list("last_error", flat=True),
    ]
    assert len(errors) == 12
    assert all(errors)
    for secret in ("hunter2", "aHVudGVyMg"):
        assert secret not in "".join(errors) + caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_receiver_that_hangs_delays_no_other_channel(account, webhook, mail, hook, mailbox):
    is_over, is_hanging, mailed_meanwhile = threading.Event(), threading.Event(), threading.Event()

    def hang(post):
        is_hanging.set()
        is_over.wait(30)
        return 200

    def note(message):
        mailed_meanwhile.set()
        return "250 OK"

    hook.answer, mailbox.answer = hang, note
    one = alert(account)
    for channel in (webhook, mail):
        notice(channel, one)

    def turn(channel_id):
        notices.send_to(channel_id)
        connection.close()

    turns = [threading.Thread(target=turn, args=(channel_id,)) for channel_id in notices.waiting()]
    for thread in turns:
        thread.start()
    assert mailed_meanwhile.wait(9)  # less than the time that a post may take
    assert is_hanging.wait(9)
    assert Notice.objects.get(channel=webhook).state == DUE
    is_over.set()
    for thread in turns:
        thread.join()
    assert set(Notice.objects.values_list("state", flat=True)) == {SENT}


def test_a_test_message_says_what_became_of_it(webhook, hook):
    assert notices.send_test(webhook) == ""
    assert json.loads(hook.posts[0].body)["type"] == "test"
    hook.answer = lambda post: 403
    assert "answered 403" in notices.send_test(webhook)
    assert Channel.objects.get().failing_since is not None
    hook.answer = lambda post: 200
    assert notices.send_test(webhook) == ""
    assert Channel.objects.get().failing_since is None
