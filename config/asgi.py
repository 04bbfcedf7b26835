"""The ASGI application: the receiver ahead of Django, which would cost its requests more than the storing does."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django = get_asgi_application()

from webhooks.receiver import drain_spool, receiver  # noqa: E402 - needs Django set up

drain_spool()  # what a process before this one may have left there


async def application(scope, receive, send):
    """Send what is under /webhooks/ to the receiver, all else to Django."""
    is_webhook = scope["type"] == "http" and scope["path"].startswith("/webhooks/")
    await (receiver if is_webhook else django)(scope, receive, send)
