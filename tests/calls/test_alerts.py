from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model

from calls import alerts
from calls.models import Alert
from calls.tasks import review_balances
from tests.calls.reports import NOON, paid_call, take


@pytest.fixture
def watched(account):
    account.low_balance_mark = 50
    account.alert_emails = "owner@example.com\nmanager@example.com"
    account.save()
    return account


def test_it_mails_once_when_the_balance_crosses_the_mark(watched, mailoutbox):
    take(watched, paid_call(1, balance="50.20"))
    review_balances()
    assert not mailoutbox
    take(watched, paid_call(2, balance="49.75"))
    for _ in range(3):
        review_balances([watched.pk])
    take(watched, paid_call(3, balance="49.30"))
    review_balances()
    (mail,) = mailoutbox
    assert mail.to == ["owner@example.com", "manager@example.com"]
    assert "49.75 INR" in mail.body
    assert "50.00 INR" in mail.body
    assert f"/admin/calls/alert/{Alert.objects.get().pk}/" in mail.body


def test_it_mails_again_only_after_the_balance_has_been_above(watched, mailoutbox):
    for number, balance in enumerate(["49", "48", "500", "499", "30"]):
        take(watched, paid_call(number, balance=balance))
        review_balances()
    assert len(mailoutbox) == 2
    first, second = Alert.objects.order_by("opened_at")
    assert first.cleared_at == NOON + timedelta(minutes=2)
    assert second.cleared_at is None


def test_a_late_report_of_an_old_low_balance_alerts_nobody(watched, mailoutbox):
    take(watched, paid_call(10, balance="80"))
    take(watched, paid_call(1, balance="10"), received_at=NOON + timedelta(hours=1))
    review_balances()
    assert not mailoutbox


def test_an_account_without_a_mark_never_alerts(account, mailoutbox):
    take(account, paid_call(1, balance="-5"))
    review_balances()
    assert not Alert.objects.exists()


def test_without_addresses_the_administrators_are_told(watched, mailoutbox):
    watched.alert_emails = ""
    watched.save()
    get_user_model().objects.create_superuser("boss", "boss@example.com", "a long password")
    get_user_model().objects.create_user("agent", "agent@example.com", "a long password", is_staff=True)
    take(watched, paid_call(1, balance="1"))
    review_balances()
    assert [mail.to for mail in mailoutbox] == [["boss@example.com"]]


def test_a_mail_server_that_is_away_is_tried_again_later(watched, mailoutbox, settings, time_machine):
    time_machine.move_to(NOON, tick=False)
    take(watched, paid_call(1, balance="1"))
    working = settings.EMAIL_BACKEND
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    alerts.review_balance(watched)
    assert alerts.send_due() == 0
    settings.EMAIL_BACKEND = working
    assert alerts.send_due() == 0, "not before its pause is over"
    time_machine.move_to(NOON + timedelta(minutes=10), tick=False)
    assert alerts.send_due() == 1
    assert alerts.send_due() == 0
    assert len(mailoutbox) == 1
