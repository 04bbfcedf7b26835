"""Channels: what targets are refused, and what comes out at the other end."""

import json
import re
import subprocess
import sys

import pytest
from django.core.exceptions import ValidationError
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from calls.alerting import channels
from calls.ids import new_id
from calls.models import Channel
from tests.serving import ROOT

pytestmark = pytest.mark.django_db
SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/"


def message() -> channels.Message:
    return channels.Message(
        id=new_id(),
        subject="Ringledger: low balance,\r\nBcc: everybody@example.com",
        text="The balance is ₹ 3.",
        html="<p>The balance is ₹ 3.</p>",
        payload={"type": "alert.opened", "data": {"message": "₹ 3"}},
    )


def refusal(kind: str, target: str) -> str:
    with pytest.raises(ValidationError) as refused:
        Channel(name="team", kind=kind, target=target).full_clean()
    assert list(refused.value.message_dict) == ["target"]
    return refused.value.message_dict["target"][0]


# --- What is refused -------------------------------------------------------------------------------------------------


def test_an_unknown_recipient_is_refused_by_name():
    assert refusal("email", "boss@example.com\nnobody") == (
        "“nobody” is not an e-mail address. Give addresses such as name@example.com, one a line."
    )


def test_mail_to_administrators_needs_one_that_has_an_address(django_user_model):
    assert "No administrator has an e-mail address" in refusal("email", " \n")
    django_user_model.objects.create_superuser("root", "root@example.com")
    Channel(name="team", kind="email").full_clean()


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("http://example.com/x", "cannot be looked up|not encrypted"),
        ("https://127.0.0.1/x", "127.0.0.1"),
        ("https://localhost/x", "not on the public internet"),
        ("https://[::ffff:10.0.0.1]/x", "10.0.0.1"),
        ("https://169.254.169.254/latest/meta-data", "169.254.169.254"),
        ("ftp://example.com", "https://"),
        ("", "https://"),
    ],
)
def test_a_webhook_goes_nowhere_inside(target, reason):
    assert re.search(reason, refusal("webhook", target))


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("json://127.0.0.1/", "127.0.0.1"),
        ("xmls://10.0.0.1/", "10.0.0.1"),
        ("jsons://2130706433/", "127.0.0.1"),
        ("workflows://127.0.0.1/a/b/c", "127.0.0.1"),
        ("rockets://user:word@169.254.169.254/room", "169.254.169.254"),
        ("mailto://me:word@127.0.0.1", "e-mail"),
        ("dbus://", "dbus://"),
        ("gnome://", "gnome://"),
        ("windows://", "windows://"),
        ("macosx://", "macosx://"),
        ("syslog://", "syslog://"),
        ("file:///etc/passwd", "file://"),
        ("exec://rm", "exec://"),
        ("slack://nothing", "cannot read this as Slack"),
        (SLACK + "?template=/etc/passwd", "template="),
        ("hello", "no service"),
        ("", "no service"),
    ],
)
def test_an_apprise_address_that_points_inside_or_nowhere_is_refused(target, reason):
    assert reason in refusal("apprise", target)


@pytest.mark.parametrize(
    "target",
    [SLACK, "tgram://123456789:abcdefg_hijklmnop/12315544/", "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js"],
)
def test_well_known_services_are_taken(target):
    Channel(name="team", kind="apprise", target=target).full_clean()


def test_a_refused_apprise_address_is_not_logged(caplog, capfd):
    refusal("apprise", "slack://the-token")
    assert "the-token" not in caplog.text + "".join(capfd.readouterr())


# --- Mail ------------------------------------------------------------------------------------------------------------


def test_a_mail_has_both_forms_a_lasting_id_and_one_subject(mailbox, settings):
    settings.PUBLIC_URL = "https://calls.example.com"
    sent = message()
    channels.send(Channel(kind="email", target="boss@example.com\nshift@example.com"), sent)
    (recipients, mail) = mailbox.mails[0]
    assert recipients == ["boss@example.com", "shift@example.com"]
    assert mail["Message-ID"] == f"<{sent.id}@calls.example.com>"
    assert mail["Subject"] == "Ringledger: low balance, Bcc: everybody@example.com"
    assert mail["Bcc"] is None
    assert [part.get_content_type() for part in mail.walk()][1:] == ["text/plain", "text/html"]


def test_mail_without_a_target_goes_to_the_active_administrators(mailbox, django_user_model):
    django_user_model.objects.create_superuser("root", "root@example.com")
    django_user_model.objects.create_superuser("gone", "gone@example.com", is_active=False)
    django_user_model.objects.create_user("agent", "agent@example.com", is_staff=True)
    channels.send(Channel(kind="email"), message())
    assert [recipients for recipients, _ in mailbox.mails] == [["root@example.com"]]


def test_mail_to_nobody_fails_with_the_remedy():
    with pytest.raises(channels.SendFailed, match="Give addresses here"):
        channels.send(Channel(kind="email"), message())


def test_a_mail_server_that_refuses_is_told_by_its_code_and_not_its_words(mailbox):
    mailbox.answer = lambda mail: "554 Your password is hunter2"
    with pytest.raises(channels.SendFailed) as failed:
        channels.send(Channel(kind="email", target="boss@example.com"), message())
    assert str(failed.value) == "The mail server answered 554 (SMTPDataError)."


# --- Webhook ---------------------------------------------------------------------------------------------------------


def test_a_webhook_is_signed_as_the_public_library_checks_it(hook):
    channel = Channel.objects.create(name="ours", kind="webhook", target=hook.url)
    sent = message()
    channels.send(channel, sent)
    path, headers, body = hook.posts[0]
    assert (path, headers["Content-Type"]) == ("/hook", "application/json")
    assert headers["webhook-id"] == headers["Idempotency-Key"] == str(sent.id)
    assert Webhook(channel.secret).verify(body, dict(headers)) == sent.payload == json.loads(body)
    with pytest.raises(WebhookVerificationError):
        Webhook(channel.secret).verify(body + b" ", dict(headers))


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 500, 503])
def test_what_is_not_taken_by_the_receiver_has_failed_and_no_redirect_is_followed(hook, status):
    hook.answer = lambda post: status
    with pytest.raises(channels.SendFailed, match=f"answered {status}"):
        channels.send(Channel(kind="webhook", target=hook.url), message())
    assert [post.path for post in hook.posts] == ["/hook"]


def test_a_name_that_leads_inside_by_now_is_not_sent_to(hook, settings):
    settings.ALLOWED_PRIVATE_TARGETS = []
    for kind, target in [("webhook", hook.url), ("apprise", f"json://localhost:{hook.port}/")]:
        with pytest.raises(channels.SendFailed, match="not on the public internet"):
            channels.send(Channel(kind=kind, target=target), message())
    assert hook.posts == []


# --- Apprise ---------------------------------------------------------------------------------------------------------


def test_apprise_sends_where_the_setting_allows_it(hook):
    channels.send(Channel(kind="apprise", target=f"json://127.0.0.1:{hook.port}/hook"), message())
    assert json.loads(hook.posts[0].body)["message"] == "The balance is ₹ 3."


def test_apprise_follows_no_redirect_and_says_what_the_service_answered(hook):
    hook.answer = lambda post: 302
    with pytest.raises(channels.SendFailed, match="answered 302"):
        channels.send(Channel(kind="apprise", target=f"json://127.0.0.1:{hook.port}/hook?redirect=yes"), message())
    assert len(hook.posts) == 1


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("json://127.0.0.1:{port}/", "127.0.0.1"),
        (SLACK + "?template={file}", "a file of this server"),
        ("mailtos://me:word@example.com?smtp=127.0.0.1&port={port}&from=me@example.com&to=me@example.com", "127.0.0.1"),
    ],
)
def test_apprise_is_kept_from_this_server_whatever_its_address_hides(hook, tmp_path, url, reason):
    """The form refuses these; were one to get past it, the process that sends is guarded."""
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    order = {"url": url.format(port=hook.port, file=secret), "subject": "s", "text": "t", "allowed": []}
    done = subprocess.run(
        [sys.executable, "-m", "calls.alerting.apprise_sender"],
        cwd=ROOT, input=json.dumps(order), capture_output=True, text=True, check=True,
    )  # fmt: skip
    answer = json.loads(done.stdout)
    assert not answer["is_sent"]
    assert reason in answer["refusals"][0]
    assert hook.posts == []
