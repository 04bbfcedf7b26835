"""Recordings: where each is kept, whether it can be played, and the watch over those of new calls.

A recording stays at its provider. Its address, which for some holds the account's secret, is worked out here for each
request and leaves this process only towards the provider.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from calls.audio import Audio, NoAudio, open_audio
from calls.byte_range import Range
from calls.choices import State
from calls.models import AuditEntry, Conversation, Recording
from calls.records import RecordingSource
from calls.sealing import SealBroken, unseal

logger = logging.getLogger(__name__)

SOURCES: dict[str, RecordingSource] = {}
"""By provider, of those that give names of files; ``webhooks`` fills it when it starts."""

READY_WITHIN = timedelta(hours=2)
"""How long after a call its recording may be on its way; one that is not there later is gone."""
ASK_AFTER = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=1), READY_WITHIN)
"""When the watch asks again for one that could not be had, counted from the last time."""
WATCH_CALLS_OF = timedelta(days=2)
"""Calls that came in longer ago are not looked through for recordings that nobody has asked for yet."""
AT_A_TIME = 20
ONE_PLAYBACK = timedelta(minutes=10)
"""Within this time all requests of one listener for one recording are one playback in the audit log."""

_NOT_THERE = {403, 404, 410}
_NOT_KNOWN = {401, 407}


class Unplayable(Exception):
    """A recording cannot be played now; ``state`` and the text, which is for staff, say why and what to do."""

    def __init__(self, state: Recording.State, words: str, *, is_account_at_fault: bool = False) -> None:
        super().__init__(words)
        self.state = state
        self.is_account_at_fault = is_account_at_fault
        """Whether it is mended on the account's page."""


def address_of(call: Conversation) -> str:
    """Return where the provider keeps the recording of ``call``. It may hold the account's secret: tell nobody.

    Raises ``Unplayable``.
    """
    if not is_file_name(call):
        return call.recording
    account = call.account
    source = SOURCES.get(account.provider)
    if source is None:
        raise Unplayable(Recording.State.FAILED, "The provider names a file and no address to fetch it from.")
    if problem := _missing_credentials(call):
        raise Unplayable(Recording.State.FAILED, problem, is_account_at_fault=True)
    try:
        secret = unseal(account.sealed_secret, settings.SECRET_KEY)
    except SealBroken as error:
        words = f"The API secret of “{account}” is of no use. {error}"
        raise Unplayable(Recording.State.FAILED, words, is_account_at_fault=True) from None
    return source.address(call.recording, app_id=account.app_id, secret=secret, api_base=account.api_base)


async def fetch(
    call: Conversation, address: str, now: datetime, *, asked: Range | None = None, if_range: str = ""
) -> Audio:
    """Ask the provider for the recording, or for a part of it. Raises ``Unplayable``."""
    source = SOURCES.get(call.account.provider)
    more: dict[str, Any] = {"refusal": source.refusal} if source else {}
    try:
        return await open_audio(
            address, name=call.recording, allowed=settings.ALLOWED_PRIVATE_TARGETS, asked=asked, if_range=if_range,
            **more,
        )  # fmt: skip
    except NoAudio as problem:
        raise _judged(call, problem, now) from None


def note_playable(call: Conversation, audio: Audio, now: datetime) -> None:
    """Note that the recording can be played; many requests of one playback write once."""
    values = {"content_type": audio.content_type, "size_bytes": audio.total, "words": "", "due_at": None}
    state = Recording.State.READY
    known = Recording.objects.filter(conversation=call, state=state, **values)
    if not known.filter(checked_at__gte=now - timedelta(minutes=1)).exists():
        Recording.objects.update_or_create(conversation=call, defaults={**values, "state": state, "checked_at": now})


def note_unplayable(call: Conversation, problem: Unplayable, now: datetime) -> None:
    """Note why it cannot be played. When the watch asks again stays as it was."""
    values = {"state": problem.state, "words": str(problem)[:300], "checked_at": now}
    Recording.objects.update_or_create(conversation=call, defaults=values)


def claim_playback(call: Conversation, user: Any, now: datetime, write: Callable[[], object]) -> None:
    """Call ``write`` unless a playback of ``call`` by ``user`` is in the audit log since ``ONE_PLAYBACK``.

    Of requests at the same moment, as players make them, one writes.
    """
    with transaction.atomic():
        Recording.objects.select_for_update().get(conversation=call)
        if not plays_of(call).filter(user=user, at__gte=now - ONE_PLAYBACK).exists():
            write()


def plays_of(call: Conversation) -> QuerySet[AuditEntry]:
    """Return who has played the recording of ``call``, also before other calls turned out to be it; newest first."""
    ids = [call.pk, *call.redirects.values_list("pk", flat=True)]
    return AuditEntry.objects.filter(
        action=AuditEntry.Action.PLAY, target_type=Conversation._meta.label_lower, target_id__in=map(str, ids)
    )


def watch(now: datetime, budget: timedelta) -> int:
    """Ask for the recordings of new calls, and again for those that were not there; return how many were asked for.

    Two watches at a time do no harm: each takes what is due, and puts it off before it asks.
    """
    _take_note_of_new(now)
    until = time.monotonic() + budget.total_seconds()
    asked = 0
    while time.monotonic() < until and (due := _take_due(now)):
        answers = async_to_sync(_try_all)(due, now)
        for recording, answer in zip(due, answers, strict=True):
            _note(recording, answer, now)
        asked += len(due)
    return asked


def ask_again(rows: QuerySet[Recording], now: datetime) -> int:
    """Have the watch ask for these as for new ones, at its next turn; return how many they are."""
    return rows.update(due_at=now, attempts=0)


def _take_note_of_new(now: datetime) -> None:
    # Ids of conversations begin with the time at which they were made: the primary key finds the new ones.
    oldest = UUID(int=int((now - WATCH_CALLS_OF).timestamp() * 1000) << 80)
    new = Conversation.objects.filter(pk__gte=oldest, state=State.ENDED, recording_state=None).exclude(recording="")
    rows = [Recording(conversation_id=pk, due_at=now) for pk in new.order_by("pk").values_list("pk", flat=True)[:5000]]
    Recording.objects.bulk_create(rows, ignore_conflicts=True)


def _take_due(now: datetime) -> list[Recording]:
    with transaction.atomic():
        due = Recording.objects.filter(due_at__lte=now).order_by("due_at").select_for_update(skip_locked=True)
        taken = list(due[:AT_A_TIME])
        for recording in taken:
            recording.due_at = now + ASK_AFTER[min(recording.attempts, len(ASK_AFTER) - 1)]
            recording.attempts += 1
        Recording.objects.bulk_update(taken, ["due_at", "attempts"])
    calls = Conversation.objects.select_related("account").in_bulk([recording.pk for recording in taken])
    for recording in taken:
        recording.conversation = calls[recording.pk]
    return taken


async def _try_all(due: Sequence[Recording], now: datetime) -> list[Audio | Unplayable]:
    return await asyncio.gather(*(_try(recording.conversation, now) for recording in due))


async def _try(call: Conversation, now: datetime) -> Audio | Unplayable:
    try:
        audio = await fetch(call, address_of(call), now, asked=Range(0, 0))
    except Unplayable as problem:
        return problem
    await audio.aclose()
    return audio if audio.total != 0 else Unplayable(Recording.State.FAILED, "The recording is empty.")


def _note(recording: Recording, answer: Audio | Unplayable, now: datetime) -> None:
    call = recording.conversation
    if isinstance(answer, Audio):
        note_playable(call, answer, now)
        return
    note_unplayable(call, answer, now)
    if answer.state == Recording.State.EXPIRED or recording.attempts >= len(ASK_AFTER):
        Recording.objects.filter(pk=recording.pk).update(due_at=None)


def _judged(call: Conversation, problem: NoAudio, now: datetime) -> Unplayable:
    """Return what it means that the provider did not serve the recording."""
    is_by_name = is_file_name(call)
    if problem.status in _NOT_KNOWN:
        words = f"The provider refuses app id and API secret ({problem.status}). Check them on the account's page."
        if not is_by_name:
            words = f"The provider wants a login for it ({problem.status}), which an address alone cannot give."
        return Unplayable(Recording.State.FAILED, words, is_account_at_fault=is_by_name)
    if problem.status not in _NOT_THERE:
        return Unplayable(Recording.State.FAILED, str(problem))
    if now - (call.ended_at or call.last_heard_at) < READY_WITHIN and problem.status != 410:
        words = f"The provider has not got it ready yet ({problem.status}). Try again in some minutes."
        return Unplayable(Recording.State.PENDING, words)
    words = f"The provider does not have it any more ({problem.status})."
    if is_by_name:
        words += " It says the same when app id or API secret are wrong: if others do not play either, check them."
    return Unplayable(Recording.State.EXPIRED, words, is_account_at_fault=is_by_name)


def _missing_credentials(call: Conversation) -> str:
    account = call.account
    if not account.sealed_secret:
        return (
            f"“{account}” has no API secret, without which its recordings cannot be fetched. "
            "Enter app id and API secret on the account's page."
        )
    if not (account.app_id.isascii() and account.app_id.isdecimal()):
        return f"The app id “{account.app_id}” is not a number. Correct it on the account's page."
    return ""


def is_file_name(call: Conversation) -> bool:
    """Return whether the provider names a file, which takes the account's credentials, rather than an address."""
    try:
        return urlsplit(call.recording).scheme not in {"http", "https"}
    except ValueError:
        return True
