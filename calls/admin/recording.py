"""Recordings: the list of them, and playing one through this server, part by part as its listener seeks."""

import asyncio
import mimetypes
from collections.abc import AsyncIterator, Coroutine, Iterator
from functools import partial
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync, sync_to_async
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.core.handlers.asgi import ASGIRequest
from django.db import close_old_connections
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.defaultfilters import filesizeformat, pluralize
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.views.decorators.http import require_safe
from unfold.contrib.filters.admin import BooleanRadioFilter, ChoicesDropdownFilter
from unfold.decorators import action, display

from calls import audit, byte_range, recordings
from calls.access import visible
from calls.admin.base import ReadOnlyAdmin, RelatedFilter, TimeRangeFilter
from calls.audio import Audio
from calls.models import AuditEntry, Conversation, Recording
from calls.templatetags import words
from calls.templatetags.recordings import recording_word

STATUSES = {Recording.State.PENDING: 404, Recording.State.EXPIRED: 410, Recording.State.FAILED: 502}
"""What the player is answered when there is nothing to play; the text beside it is for the listener."""
_ENDINGS = {"audio/mpeg": ".mp3", "audio/wav": ".wav", "audio/x-wav": ".wav"}
"""Where the system's own table of kinds says something unusual, or nothing."""


@require_safe
def play(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Send the recording of a call, or the part of it that is asked for, as it comes from the provider.

    With ``?download`` as a file, for those who may export. What cannot be played is told in a sentence.
    """
    is_download = "download" in request.GET
    if not request.user.has_perm("calls.play_recordings"):
        raise PermissionDenied
    if is_download and not request.user.has_perm("calls.export_calls"):
        raise PermissionDenied
    recorded = Conversation.objects.exclude(recording="").select_related("account")
    call = get_object_or_404(visible(request.user, recorded), pk=pk)
    now = timezone.now()
    asked = byte_range.parse(request.headers.get("Range", ""))
    try:
        address = recordings.address_of(call)
        if_range = request.headers.get("If-Range", "")
        opening = recordings.fetch(call, address, now, asked=asked, if_range=if_range)
        stream = _Stream(opening) if isinstance(request, ASGIRequest) else _BlockingStream(opening)
    except recordings.Unplayable as problem:
        recordings.note_unplayable(call, problem, now)
        return HttpResponse(str(problem), status=STATUSES[problem.state], content_type="text/plain; charset=utf-8")
    audio = stream.audio
    if audio.status == 416:
        stream.close()
        return HttpResponse(status=416, headers=audio.headers)
    recordings.note_playable(call, audio, now)
    placed = "attachment" if is_download else "inline"
    headers = audio.headers | {"Content-Disposition": f'{placed}; filename="{_file_name(call, audio)}"'}
    if request.method == "HEAD":
        stream.close()
        return HttpResponse(status=audio.status, headers=headers, content_type=audio.content_type)
    if is_download:
        audit.record(request, AuditEntry.Action.EXPORT, call, _noun(call))
    else:
        log = partial(audit.record, request, AuditEntry.Action.PLAY, call, _noun(call))
        recordings.claim_playback(call, request.user, now, log)
    return StreamingHttpResponse(stream, status=audio.status, headers=headers, content_type=audio.content_type)


class _Stream:
    """The body on its way, under ASGI: on the server's event loop, without a connection to the database."""

    def __init__(self, opening: Coroutine[Any, Any, Audio]) -> None:
        self.audio = self._run(opening)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        # Django gives it back only when the body has been sent; listeners would hold all that there are.
        await sync_to_async(close_old_connections)()
        async for piece in self.audio.pieces():
            yield piece

    def close(self) -> None:
        """Let go of the provider; Django calls it at the end, and when the listener has gone."""
        self._run(self.audio.aclose())

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        async def run() -> Any:
            return await coroutine

        return async_to_sync(run)()


class _BlockingStream:
    """The same under WSGI, on an event loop of its own."""

    def __init__(self, opening: Coroutine[Any, Any, Audio]) -> None:
        self._runner = asyncio.Runner()
        try:
            self.audio = self._runner.run(opening)
        except BaseException:
            self._runner.close()
            raise
        self._is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        pieces = self.audio.pieces()

        async def next_piece() -> bytes:
            return await anext(pieces, b"")

        while piece := self._runner.run(next_piece()):
            yield piece

    def close(self) -> None:
        """Let go of the provider."""
        if not self._is_closed:
            self._is_closed = True
            self._runner.run(self.audio.aclose())
            self._runner.close()


def _noun(call: Conversation) -> str:
    return "voicemail" if call.has_voicemail else "recording"


def _file_name(call: Conversation, audio: Audio) -> str:
    ending = _ENDINGS.get(audio.content_type) or mimetypes.guess_extension(audio.content_type) or ""
    return f"{_noun(call)}-{timezone.localtime(call.started_at):%Y-%m-%d-%H%M%S}{ending}"


_LOOKUPS = {"conversation__account__id__exact", "conversation__has_voicemail__exact"} | {
    f"conversation__started_at_{edge}_{part}" for edge in ("from", "to") for part in (0, 1)
}


@admin.register(Recording)
class RecordingAdmin(ReadOnlyAdmin):
    """Which calls have a recording, and which of them can be played. Each is played on the page of its call."""

    list_display = ["call", "kind", "state_word", "account", "agent", "started", "talk", "size", "checked"]
    list_display_links = None
    list_select_related = ["conversation__account", "conversation__agent"]
    list_filter = [
        ("state", ChoicesDropdownFilter),
        ("conversation__started_at", TimeRangeFilter),
        ("conversation__account", RelatedFilter),
        ("conversation__has_voicemail", BooleanRadioFilter),
    ]
    list_fullwidth = True
    list_disable_select_all = True
    sortable_by = ()
    actions = ["ask_again"]

    @display(description="call")
    def call(self, recording: Recording) -> str:
        call = recording.conversation
        url = reverse("admin:calls_conversation_change", args=[call.pk])
        return format_html(
            '<a class="rl-link rl-number" href="{}#rl-recording">{}</a> <span class="rl-muted">{}</span>',
            url, words.phone(call.customer_number), call.get_direction_display().lower(),
        )  # fmt: skip

    @display(description="what")
    def kind(self, recording: Recording) -> str:
        return _noun(recording.conversation).capitalize()

    @display(description="state", ordering="state")
    def state_word(self, recording: Recording) -> str:
        return recording_word(recording)

    @display(description="account")
    def account(self, recording: Recording) -> str:
        return str(recording.conversation.account)

    @display(description="agent")
    def agent(self, recording: Recording) -> str:
        return str(recording.conversation.agent or words.EMPTY)

    @display(description="started")
    def started(self, recording: Recording) -> str:
        return words.moment(recording.conversation.started_at)

    @display(description="talk")
    def talk(self, recording: Recording) -> str:
        return words.clock(recording.conversation.talk_seconds)

    @display(description="size")
    def size(self, recording: Recording) -> str:
        return words.EMPTY if recording.size_bytes is None else filesizeformat(recording.size_bytes)

    @display(description="asked for")
    def checked(self, recording: Recording) -> str:
        return words.moment(recording.checked_at)

    @action(description="Ask the provider again", permissions=["play"])
    def ask_again(self, request: HttpRequest, queryset: QuerySet[Recording]) -> None:
        count = recordings.ask_again(queryset, timezone.now())
        self.message_user(request, f"{count} recording{pluralize(count)} will be asked for within a minute or two.")

    def has_play_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("calls.play_recordings")

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # Those of the filters above; they ask for the call, beyond what lists may be asked otherwise.
        return lookup in _LOOKUPS or super().lookup_allowed(lookup, value, request)

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        """Lead to the page of the call, where the recording is played."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        recording = self.get_object(request, object_id)
        if recording is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        return redirect("admin:calls_conversation_change", recording.pk)
