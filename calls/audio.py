"""Audio from where a provider keeps it, or a part of it, passed on piece by piece. Imports no model and no settings.

Of what the provider answers nothing gets through but audio and the few headers that describe it: no address, no
cookie, no text of its own.
"""

import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from calls import byte_range, outgoing
from calls.addresses import AddressRefused, Network
from calls.byte_range import Part, Range, Unsatisfiable

MOST_BYTES = 500 * 1024 * 1024
"""Of one recording: about nine hours of uncompressed telephone audio."""
MOST_SECONDS = 2 * 3600
"""How long one answer may take; a browser that pauses for longer asks for the rest anew."""
_MOST_REFUSAL_BYTES = 4096

_AUDIO = re.compile(r"audio/[a-z0-9.+-]{1,60}", re.ASCII)
_BY_ENDING = {"mp3": "audio/mpeg", "wav": "audio/wav", "ogg": "audio/ogg", "m4a": "audio/mp4", "aac": "audio/aac"}
_UNTYPED = {"", "application/octet-stream", "binary/octet-stream"}
_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]{0,200}"', re.ASCII)
_DATE = re.compile(r"[A-Za-z]{3}, [0-9A-Za-z :]{10,40}", re.ASCII)


class NoAudio(Exception):
    """There is nothing to play; the text says why, without the address."""

    def __init__(self, words: str, status: int | None = None) -> None:
        super().__init__(words)
        self.status = status
        """What the provider answered, as an HTTP status; ``None`` when it gave no answer that makes sense."""


@dataclass
class Audio:
    """An answer for the browser: 200, 206 or, without a body, 416. Has to be closed."""

    status: int
    headers: dict[str, str]
    content_type: str = ""
    total: int | None = None
    """Bytes of the whole recording; ``None`` when the provider does not say."""
    _answer: outgoing.Answer | None = None
    _part: Part | None = None
    """The part of the provider's answer that is wanted; ``None``: all of it."""

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body. Ends early, as a connection that breaks does, when the provider sends too much or stalls."""
        if self._answer is None:
            return
        until = time.monotonic() + MOST_SECONDS
        part = self._part or Part(0, MOST_BYTES - 1)
        at = 0
        async for piece in self._answer.pieces():
            wanted = piece[max(0, part.first - at) : part.last + 1 - at]
            at += len(piece)
            if wanted:
                yield wanted
            if at > part.last or time.monotonic() > until:
                break

    async def aclose(self) -> None:
        """Let go of the provider, also in the middle."""
        if self._answer is not None:
            await self._answer.aclose()


async def open_audio(
    address: str,
    *,
    name: str,
    allowed: Sequence[Network] = (),
    asked: Range | None = None,
    if_range: str = "",
    refusal: Callable[[bytes], int | None] = lambda body: None,
) -> Audio:
    """Ask for the recording at ``address``, or for a part of it, and return the answer with its body still to come.

    ``name`` is what the provider calls it; its ending tells what it is where the answer does not.
    A provider that knows no ranges is read from the beginning, and what is before the part is thrown away.
    ``if_range`` is the browser's, passed on. ``refusal`` reads the status out of an answer that is no audio.
    Raises ``NoAudio``.
    """
    headers = {"Accept": "audio/*", "Accept-Encoding": "identity", "User-Agent": "Ringledger"}
    if asked:
        headers["Range"] = str(asked)
        if _TAG.fullmatch(if_range) or _DATE.fullmatch(if_range):
            headers["If-Range"] = if_range
    try:
        answer = await outgoing.get(address, headers, allowed=allowed)
    except AddressRefused as error:
        # Without its advice, which is for those who have typed an address.
        reason = str(error).partition(". ")[0].rstrip(".")
        raise NoAudio(f"The recording cannot be fetched from where it is kept. {reason}.") from None
    except outgoing.Failure as error:
        # Without its own text, which might name what was asked for.
        raise NoAudio(
            f"The provider could not be asked for the recording ({type(error).__name__}). Try again later."
        ) from None
    try:
        return await _read(answer, asked, headers.get("If-Range", ""), refusal, name)
    except BaseException:
        await answer.aclose()
        raise


async def _read(
    answer: outgoing.Answer, asked: Range | None, if_range: str, refusal: Callable[[bytes], int | None], name: str
) -> Audio:
    if answer.status == 416 and asked:
        found = re.fullmatch(r"bytes \*/(\d{1,18})", answer.headers.get("content-range", ""))
        return await _beyond_the_end(answer, int(found[1]) if found else None)
    if answer.status not in ({200, 206} if asked else {200}):
        raise NoAudio(f"The provider answered {answer.status}. Try again later.", answer.status)
    content_type = _content_type(answer.headers.get("content-type", ""), name)
    if not content_type:
        status = refusal(await _beginning(answer))
        said = f" and said {status}" if status else ""
        raise NoAudio(f"The provider sent something that is not audio{said}.", status)
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise NoAudio("The provider sent the recording packed, which was not asked for.")
    headers = {}
    if _TAG.fullmatch(tag := answer.headers.get("etag", "")):
        headers["ETag"] = tag
    if _DATE.fullmatch(changed := answer.headers.get("last-modified", "")):
        headers["Last-Modified"] = changed
    if answer.status == 206:
        return _part_of(answer, content_type, headers)
    length = answer.headers.get("content-length", "")
    total = int(length) if length.isascii() and length.isdecimal() and len(length) < 19 else None
    if total is None:
        return Audio(200, headers, content_type, None, answer)
    _check_size(total)
    headers["Accept-Ranges"] = "bytes"
    # The provider answers with all of it because it knows no ranges, or because the recording has changed.
    if asked and (not if_range or if_range in (tag, changed)):
        try:
            part = asked.of(total)
        except Unsatisfiable:
            return await _beyond_the_end(answer, total)
        headers |= {"Content-Range": f"bytes {part.first}-{part.last}/{total}", "Content-Length": str(part.size)}
        return Audio(206, headers, content_type, total, answer, part)
    return Audio(200, headers | {"Content-Length": str(total)}, content_type, total, answer, Part(0, total - 1))


def _part_of(answer: outgoing.Answer, content_type: str, headers: dict[str, str]) -> Audio:
    content = byte_range.parse_content(answer.headers.get("content-range", ""))
    if content is None:
        raise NoAudio("The provider sent a part of the recording without saying which.")
    part, total = content
    _check_size(total or part.last + 1)
    headers |= {
        "Accept-Ranges": "bytes",
        "Content-Range": f"bytes {part.first}-{part.last}/{'*' if total is None else total}",
        "Content-Length": str(part.size),
    }
    return Audio(206, headers, content_type, total, answer, Part(0, part.size - 1))


async def _beyond_the_end(answer: outgoing.Answer, total: int | None) -> Audio:
    await answer.aclose()
    return Audio(416, {} if total is None else {"Content-Range": f"bytes */{total}"}, total=total)


def _content_type(stated: str, name: str) -> str:
    """Return the kind of audio; ``""`` when it is none. Stores that do not know what they keep have it by the name."""
    stated = stated.partition(";")[0].strip().lower()
    if stated in _UNTYPED:
        return _BY_ENDING.get(re.split("[?#]", name)[0].rpartition(".")[2].lower(), "")
    return stated if _AUDIO.fullmatch(stated) else ""


async def _beginning(answer: outgoing.Answer) -> bytes:
    body = b""
    try:
        async for piece in answer.pieces():
            body += piece
            if len(body) >= _MOST_REFUSAL_BYTES:
                break
    except outgoing.Failure:
        pass
    return body[:_MOST_REFUSAL_BYTES]


def _check_size(size: int) -> None:
    if size > MOST_BYTES:
        raise NoAudio(f"The recording is {size} bytes long; at most {MOST_BYTES} are played.")
