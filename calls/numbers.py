"""Phone numbers as text: E.164 where a number can be read, else the digits as sent. Pure."""

import re
from functools import lru_cache

import phonenumbers

WHOLE_NUMBER = 7
"""Digits from which a typed number is taken for a whole one, not for a part."""

NO_PREFIX = ""
"""The destination of a number that is not in E.164, such as a short code: it says nothing of the country."""
_COUNTRY_CODES = frozenset(f"+{code}" for code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE)
_LONGEST_COUNTRY_CODE = 3
_NORTH_AMERICA = "+1"

_NOT_DIGITS = re.compile(r"[^0-9]", re.ASCII)


@lru_cache(maxsize=65_536)
def normalize(number: str, region: str) -> str:
    """Return ``number`` as E.164 (``+919000000001``) where it is a valid number, else as it was sent, blanks removed.

    Providers send the country code without ``+``, national numbers with and without the leading 0, and plain digits;
    ``region`` (ISO 3166) tells how a national number is read.
    """
    text = number.strip()
    digits = _NOT_DIGITS.sub("", text)
    if not digits or any(char.isalpha() for char in text):
        return text
    candidates = [(text, None)] if text.startswith("+") else [(digits, region), ("+" + digits, None)]
    for candidate, candidate_region in candidates:
        try:
            parsed = phonenumbers.parse(candidate, candidate_region)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(parsed):
            return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    return digits


@lru_cache(maxsize=65_536)
def display(number: str) -> str:
    """Return an E.164 number grouped for reading (``+91 90000 00001``); anything else as it is."""
    if not number.startswith("+"):
        return number
    try:
        parsed = phonenumbers.parse(number, None)
    except phonenumbers.NumberParseException:
        return number
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.INTERNATIONAL)


def destination_prefix(number: str) -> str:
    """Return the head of an E.164 number that tells where it leads: ``+9190`` of ``+919000000001``.

    It is the country code and the two digits after it, or the three after +1, which many countries share. No prefix is
    the head of another, so that the numbers that begin with it are the numbers that have it. ``NO_PREFIX`` for any
    other number. The first six characters of a number tell its prefix.
    """
    if not number.startswith("+"):
        return NO_PREFIX
    code = country_code(number)
    if not code:
        return number[: 1 + _LONGEST_COUNTRY_CODE]
    return number[: len(code) + (3 if code == _NORTH_AMERICA else 2)]


def country_code(number: str) -> str:
    """Return the country calling code with which an E.164 number begins, such as ``+91``; empty for any other."""
    heads = (number[: 1 + length] for length in range(1, _LONGEST_COUNTRY_CODE + 1))
    return next((head for head in heads if head in _COUNTRY_CODES), "")


def search_digits(query: str) -> str:
    """Return the digits by which a typed number, in any spelling or in part, is found inside a stored one.

    Zeros at the head of a whole number are only dialled; at the head of a part, such as the last 0001, they count.
    """
    digits = _NOT_DIGITS.sub("", query.replace("(0)", ""))  # as in +44 (0)7700 900123
    whole = digits.lstrip("0")
    return whole if len(whole) >= WHOLE_NUMBER else digits
