"""The ASGI application: ahead of Django the receiver, and streams.

Django would cost a delivery more than the storing does, and hold a thread and a database connection for each stream.
"""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django = get_asgi_application()

from calls.api.live import FEED, MOST_STREAMS  # noqa: E402 - needs Django set up
from calls.live import BOARD  # noqa: E402
from calls.live_streams import Streams  # noqa: E402
from webhooks.receiver import drain_spool, receiver  # noqa: E402

STREAMS = {
    "/admin/live/stream/": Streams(django, BOARD),
    "/api/v1/live/stream/": Streams(django, FEED, most=MOST_STREAMS),
}

drain_spool()  # what a process before this one may have left there


async def application(scope, receive, send):
    """Send what is under /webhooks/ to the receiver, streams to their keeper, all else to Django."""
    if scope["type"] == "http" and scope["path"].startswith("/webhooks/"):
        await receiver(scope, receive, send)
    elif scope["type"] == "http" and scope["path"] in STREAMS:
        await STREAMS[scope["path"]](scope, receive, send)
    else:
        await django(scope, receive, send)
