"""Phone numbers written so that nobody can be called by them, for viewers who may not see them in full. Pure."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from calls.numbers import WHOLE_NUMBER, country_code

_DATE = r"(?<!\d)\d{4}-\d\d-\d\d(?!\d)"
_UUID = r"(?<![0-9a-fA-F])[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?![0-9a-fA-F])"
_NUMBER = r"\+?\d(?:[ ().-]{0,2}\d){6,}"
_DATE_UUID_OR_NUMBER = re.compile(f"{_DATE}|{_UUID}|(?P<number>{_NUMBER})")
# How a number in full stands in a page: plain, in a link, in JSON within a page. DIDs, which are ours, may stand there.
_IN_FULL = re.compile(
    r"(?<!rl-did\">)(?<!\bdid=)(?<!\bdid__exact=)"
    r"(?P<plus>\+|%2[Bb]|&#43;|&#x2[Bb];|\\u002[Bb])(?P<digits>[1-9](?:[ -]?\d){7,14})(?!\d)"
)
_NOT_DIGITS = re.compile(r"\D")

SEARCHABLE_END, SEARCHABLE_WHOLE = 4, 10

_is_masking: ContextVar[Callable[[], bool]] = ContextVar("is_masking", default=lambda: False)


@contextmanager
def masking(is_masking: Callable[[], bool]) -> Iterator[None]:
    """Mask numbers in this context if ``is_masking`` says so; it is asked when the first number is written."""
    token = _is_masking.set(is_masking)
    try:
        yield
    finally:
        _is_masking.reset(token)


def is_masking() -> bool:
    """Return whether numbers are masked in this context. Outside of requests they are not: a notice needs them."""
    return _is_masking.get()()


def may_search(digits: str) -> bool:
    """Return whether the viewer may look for numbers that end in ``digits``.

    Who sees numbers masked may by the last four or by a whole number: by any part, they could try out what is hidden,
    digit by digit.
    """
    return not is_masking() or len(digits) == SEARCHABLE_END or len(digits) >= SEARCHABLE_WHOLE


def shown(text: str) -> str:
    """Return ``text`` as the viewer may see it: as it is, or with the phone numbers in it masked."""
    return masked(text) if is_masking() else text


def masked(text: str) -> str:
    """Return ``text`` with every phone number in it replaced by dots and its last two digits.

    Whatever has seven digits or more, blanks and dashes left aside, is taken for one, unless it is a date or a UUID. Of
    a number that begins with +, the country's code is kept.
    """
    return _DATE_UUID_OR_NUMBER.sub(lambda found: masked_number(found[0]) if found["number"] else found[0], text)


def masked_number(number: str) -> str:
    """Return a number as ``+91 •••• ••01``; one that is too short to be anybody's, such as an extension, as it is."""
    digits = _NOT_DIGITS.sub("", number)
    if len(digits) < WHOLE_NUMBER:
        return number
    return f"{country_code(number)} •••• ••{digits[-2:]}".lstrip()


def masked_page(text: str) -> str:
    """Return a page or JSON text without the numbers in it that begin with +; nothing else in it is touched."""

    def mask(found: re.Match[str]) -> str:
        digits = _NOT_DIGITS.sub("", found["digits"])
        return f"{found['plus']}{country_code('+' + digits)[1:]} •••• ••{digits[-2:]}"

    return _IN_FULL.sub(mask, text)
