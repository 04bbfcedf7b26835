"""How a message goes out: by e-mail, by signed webhook, or through Apprise."""

import json
import smtplib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives
from django.core.validators import validate_email
from django.utils import timezone

from calls import outgoing, signing
from calls.addresses import AddressRefused, Outgoing, check_outgoing
from calls.models import Channel

APPRISE_SECONDS = 20
"""How long Apprise may take for a message, its start included."""

_FILES = {"template", "keyfile", "subfile", "pgpkey", "pgppub", "pgpprv"}
"""Parameters by which Apprise reads files of this server."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message, in the form of each kind of channel."""

    id: UUID
    """The same at every try: by it a receiver knows a copy."""
    subject: str
    text: str
    html: str
    payload: dict[str, Any]
    """What a webhook gets, apart from the signature."""


class SendFailed(Exception):
    """The message did not go out, or nobody can tell whether it did. The text is safe to show: it holds no secret."""


class Gone(SendFailed):
    """The receiver wants no more messages."""


def check_target(channel: Channel) -> None:
    """Raise ``ValidationError`` for a target that cannot or must not be sent to."""
    try:
        _WAYS[channel.kind].check(channel.target)
    except AddressRefused as error:
        raise ValidationError({"target": str(error)}) from None


def send(channel: Channel, message: Message) -> None:
    """Send ``message``, or raise ``SendFailed``. Takes up to about half a minute."""
    try:
        _WAYS[channel.kind].send(channel, message)
    except AddressRefused as error:
        raise SendFailed(str(error)) from None


def _check_recipients(target: str) -> None:
    for line in target.split():
        try:
            validate_email(line)
        except ValidationError:
            raise ValidationError(
                {"target": f"“{line}” is not an e-mail address. Give addresses such as name@example.com, one a line."}
            ) from None
    if not target.split() and not _administrators():
        raise ValidationError({"target": NOBODY})


NOBODY = "No administrator has an e-mail address. Give addresses here, or one to an administrator."


def _administrators() -> list[str]:
    people = get_user_model().objects.filter(is_superuser=True, is_active=True).exclude(email="")
    return list(people.order_by("pk").values_list("email", flat=True))


def _send_mail(channel: Channel, message: Message) -> None:
    recipients = channel.target.split() or _administrators()
    if not recipients:
        raise SendFailed(NOBODY)
    mail = EmailMultiAlternatives(
        subject=" ".join(message.subject.split()),
        body=message.text,
        to=recipients,
        headers={
            "Message-ID": f"<{message.id}@{urlsplit(settings.PUBLIC_URL).hostname}>",
            "Auto-Submitted": "auto-generated",
        },
    )
    mail.attach_alternative(message.html, "text/html")
    try:
        mail.send()
    except smtplib.SMTPRecipientsRefused as error:
        refused = ", ".join(f"{address} ({code})" for address, (code, _) in error.recipients.items())
        raise SendFailed(f"The mail server refused every recipient: {refused}.") from None
    except smtplib.SMTPResponseException as error:
        raise SendFailed(f"The mail server answered {error.smtp_code} ({type(error).__name__}).") from None
    except (OSError, smtplib.SMTPException) as error:  # their texts may quote what was sent
        raise SendFailed(f"The mail server could not be used ({type(error).__name__}).") from None


def _check_webhook(target: str) -> Outgoing:
    return check_outgoing(target.strip(), allowed=settings.ALLOWED_PRIVATE_TARGETS)


def _post(channel: Channel, message: Message) -> None:
    target = _check_webhook(channel.target)
    content = json.dumps(message.payload, ensure_ascii=False).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Ringledger",
        "Idempotency-Key": str(message.id),
        **signing.headers(message.id, timezone.now(), content, [channel.secret]),
    }
    try:
        status = outgoing.post(target, content, headers).status
    except outgoing.Failure as error:
        raise SendFailed(f"{target.host} could not be reached or did not answer ({type(error).__name__}).") from None
    if status == HTTPStatus.GONE:
        raise Gone(f"{target.host} answered 410: it wants no more notices.")
    if not HTTPStatus(200) <= status < HTTPStatus.MULTIPLE_CHOICES:
        raise SendFailed(f"{target.host} answered {status}. An answer of 200 to 299 is taken for received.")


def _check_apprise(target: str) -> None:
    from apprise import Apprise  # takes its time, and few need it
    from apprise.plugins import N_MGR

    target = target.strip()
    schema = target.partition("://")[0].lower()
    if schema in {"mailto", "mailtos"}:
        raise AddressRefused(f"{schema}:// is e-mail. Make a channel of the kind e-mail.")
    N_MGR.load_modules()
    if schema not in N_MGR:
        raise AddressRefused(f"Apprise knows no service “{schema[:30]}://”. Its addresses are listed at appriseit.com.")
    plugin = N_MGR[schema]
    tokens = {"host", "port"} & set(plugin.template_tokens)
    if not plugin.enabled or not (tokens or plugin.secure_protocol):
        raise AddressRefused(
            f"{schema}:// does not go to a service on the internet that can be used here. Use another."
        )
    parts = plugin.parse_url(target)
    if not parts or not Apprise.instantiate(target):
        raise AddressRefused(f"Apprise cannot read this as {plugin.service_name}. Its form is at {plugin.setup_url}.")
    if files := _FILES & {name.lower() for name in parts.get("qsd", {})}:
        raise AddressRefused(f"“{min(files)}=” makes Apprise read a file of this server. Leave it out.")
    if tokens == {"host", "port"}:
        is_secure = schema in _words(plugin.secure_protocol)
        address = f"{'https' if is_secure else 'http'}://{parts['host']}:{parts['port'] or (443 if is_secure else 80)}"
        check_outgoing(address, allowed=settings.ALLOWED_PRIVATE_TARGETS)


def _words(schemas: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (schemas,) if isinstance(schemas, str) else tuple(schemas or ())


def _send_by_apprise(channel: Channel, message: Message) -> None:
    _check_apprise(channel.target)
    order = {
        "url": channel.target.strip(),
        "subject": message.subject,
        "text": message.text,
        "allowed": [str(network) for network in settings.ALLOWED_PRIVATE_TARGETS],
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "calls.alerting.apprise_sender"], input=json.dumps(order), text=True,
            capture_output=True, timeout=APPRISE_SECONDS, cwd=settings.BASE_DIR, env={"PATH": "/usr/bin:/bin"},
            check=True,
        )  # fmt: skip
        answer = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise SendFailed(f"The service did not take it within {APPRISE_SECONDS} s.") from None
    except (subprocess.CalledProcessError, ValueError) as error:
        raise SendFailed(f"Apprise broke off ({type(error).__name__}).") from None
    if not answer["is_sent"]:
        statuses = [f"The service answered {status}." for status in answer["statuses"][-1:]]
        reasons = answer["refusals"][:1] or statuses or ["The service could not be reached or did not take it."]
        raise SendFailed(reasons[0])


@dataclass(frozen=True, slots=True)
class _Way:
    check: Callable[[str], object]
    send: Callable[[Channel, Message], None]


_WAYS = {
    Channel.Kind.EMAIL: _Way(_check_recipients, _send_mail),
    Channel.Kind.WEBHOOK: _Way(_check_webhook, _post),
    Channel.Kind.APPRISE: _Way(_check_apprise, _send_by_apprise),
}
