"""The admin of channels and notices: what staff see of them, may try, and are refused."""

import json

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from standardwebhooks.webhooks import Webhook

from calls.models import Channel, Notice
from tests.calls.alerting.telling import alert, notice

pytestmark = pytest.mark.django_db
LIST, NOTICES = "/admin/calls/channel/", "/admin/calls/notice/"


@pytest.fixture
def webhook(hook) -> Channel:
    return Channel.objects.create(name="ours", kind="webhook", target=hook.url)


def page_of(channel: Channel) -> str:
    return reverse("admin:calls_channel_change", args=[channel.pk])


def staff(*permissions: str) -> Client:
    """Return the browser of somebody who may do only this."""
    user = User.objects.create_user("shift", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=[*permissions, "see_all_calls"]))
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.parametrize(
    ("kind", "target", "reason"),
    [
        ("email", "nobody", "“nobody” is not an e-mail address."),
        ("webhook", "https://127.0.0.1/", "not on the public internet"),
        ("apprise", "json://127.0.0.1/", "not on the public internet"),
        ("apprise", "hello", "Apprise knows no service"),
    ],
)
def test_the_form_refuses_a_target_with_the_reason(admin_client, kind, target, reason):
    answer = admin_client.post(f"{LIST}add/", {"name": "team", "kind": kind, "target": target, "is_active": "on"})
    assert reason in answer.content.decode()
    assert not Channel.objects.exists()


def test_the_form_takes_a_good_one(admin_client):
    form = {"name": "team", "kind": "email", "target": "boss@example.com", "is_active": "on"}
    assert admin_client.post(f"{LIST}add/", form).status_code == 302
    assert Channel.objects.get().target == "boss@example.com"


def test_the_list_tells_how_each_does_without_its_target_or_secret(admin_client, account, webhook):
    off = Channel.objects.create(name="off", kind="email", is_active=False)
    failing = Channel.objects.create(
        name="failing", kind="webhook", failing_since=timezone.now(), last_error="answered 500"
    )
    sent = notice(webhook, alert(account))
    Notice.objects.filter(pk=sent.pk).update(sent_at=timezone.now())
    page = admin_client.get(LIST).content.decode()
    for word in ("Working", "Off", "Failing", "answered 500", "just now"):
        assert word in page
    for channel in (webhook, off, failing):
        assert channel.secret not in page
    assert webhook.target not in page


def test_a_test_message_is_sent_at_once_and_its_outcome_told(admin_client, webhook, hook):
    url = reverse("admin:calls_channel_test", args=[webhook.pk])
    assert "The test message went out." in admin_client.post(url, follow=True).content.decode()
    assert json.loads(hook.posts[0].body)["type"] == "test"
    hook.answer = lambda post: 404
    page = admin_client.post(url, follow=True).content.decode()
    assert "did not go out. 127.0.0.1 answered 404." in page
    assert "Failing" in page
    assert admin_client.get(url).status_code == 405


def test_a_new_secret_signs_from_now_on(admin_client, webhook, hook):
    old = webhook.secret
    page = admin_client.post(reverse("admin:calls_channel_new_secret", args=[webhook.pk]), follow=True).content.decode()
    webhook.refresh_from_db()
    assert webhook.secret != old
    assert webhook.secret in page
    admin_client.post(reverse("admin:calls_channel_test", args=[webhook.pk]))
    Webhook(webhook.secret).verify(hook.posts[0].body, dict(hook.posts[0].headers))


def test_who_may_only_look_sees_neither_secret_nor_target_and_tries_nothing(webhook, hook):
    client = staff("view_channel")
    page = client.get(page_of(webhook)).content.decode()
    assert "Working" in page
    assert webhook.secret not in page
    assert webhook.target not in page
    for name in ("test", "new_secret"):
        assert client.post(reverse(f"admin:calls_channel_{name}", args=[webhook.pk])).status_code == 403
    assert hook.posts == []


def test_switching_a_channel_off_gives_up_what_is_due(admin_client, account, webhook):
    notice(webhook, alert(account))
    form = {"name": "ours", "kind": "webhook", "target": webhook.target}
    assert admin_client.post(page_of(webhook), form).status_code == 302
    given_up = Notice.objects.get()
    assert (given_up.state, given_up.last_error) == ("given_up", "The channel was switched off.")


def test_saving_another_target_clears_what_was_wrong_with_the_last(admin_client, webhook, hook):
    Channel.objects.update(failing_since=timezone.now(), last_error="answered 500")
    form = {"name": "ours", "kind": "webhook", "target": f"{hook.url}/new", "is_active": "on"}
    assert admin_client.post(page_of(webhook), form).status_code == 302
    assert Channel.objects.get().failing_since is None


def test_a_channel_that_was_used_is_kept(admin_client, account, webhook):
    assert "Delete" in admin_client.get(page_of(webhook)).content.decode()
    notice(webhook, alert(account))
    assert "cannot be deleted" in admin_client.get(page_of(webhook)).content.decode()
    assert admin_client.post(f"{LIST}{webhook.pk}/delete/", {"post": "yes"}).status_code == 403


def test_the_log_shows_tries_next_try_and_error_and_is_read_only(admin_client, account, webhook):
    due, sent = notice(webhook, alert(account, 1)), notice(webhook, alert(account, 2))
    Notice.objects.filter(pk=due.pk).update(attempts=7, last_error="answered 500")
    Notice.objects.filter(pk=sent.pk).update(state="sent", sent_at=timezone.now())
    page = admin_client.get(NOTICES).content.decode()
    for word in ("next try", "answered 500", "The balance is 1.00 INR", "The balance is 2.00 INR", ">7<"):
        assert word in page
    assert "balance is 1.00" in admin_client.get(f"{NOTICES}?state__exact=due").content.decode()
    assert "balance is 2.00" not in admin_client.get(f"{NOTICES}?state__exact=due").content.decode()
    one_alert = admin_client.get(f"{NOTICES}?alert__id__exact={sent.alert_id}").content.decode()
    assert "balance is 2.00" in one_alert
    assert "balance is 1.00" not in one_alert
    assert admin_client.get(f"{NOTICES}{due.pk}/change/").status_code == 200
    assert admin_client.post(f"{NOTICES}{due.pk}/change/", {}).status_code == 403


@pytest.mark.parametrize("url", [LIST, NOTICES])
def test_lists_take_no_more_queries_for_more_rows(admin_client, account, url):
    counts = []
    for size in (2, 22):
        for number in range(size):
            channel = Channel.objects.create(name=f"{size} {number}", kind="email")
            notice(channel, alert(account, size * 100 + number))
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(url)
        counts.append(len(queries))
    assert counts[0] == counts[1]
