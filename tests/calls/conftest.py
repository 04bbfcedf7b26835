"""Sinks on this machine that notices and messages are sent to."""

import ipaddress

import pytest

from tests.sinks import mail_sink, web_sink


@pytest.fixture
def hook(settings):
    """A web server that takes what is sent to it, at an address that may be sent to."""
    settings.ALLOWED_PRIVATE_TARGETS = [ipaddress.ip_network("127.0.0.0/8")]
    with web_sink() as sink:
        yield sink


@pytest.fixture
def mailbox(settings):
    """A mail server that our mails go to."""
    with mail_sink() as (sink, port):
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"  # tests have another otherwise
        settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = "127.0.0.1", port, 1
        yield sink
