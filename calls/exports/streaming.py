"""Downloads of any length, sent as they are made."""

from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse


def download(request: HttpRequest, pieces: Iterator[bytes], content_type: str, name: str) -> StreamingHttpResponse:
    """Return an answer that sends the pieces, none of them empty, one after the other as a file called ``name``."""
    # Under ASGI Django would read a plain iterator to its end before it sent anything.
    streamed = _asynchronously(pieces) if isinstance(request, ASGIRequest) else pieces
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return StreamingHttpResponse(streamed, content_type=content_type, headers=headers)


async def _asynchronously(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while piece := await sync_to_async(next)(pieces, b""):
        yield piece
