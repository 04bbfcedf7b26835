"""Finding calls by what somebody typed: a number in any spelling or in part, or an id.

PostgreSQL has indexes for it (see the migration ``0002_postgresql_indexes``): of the numbers read from their ends, and
of the groups of three characters in the customers' numbers.
"""

import re
from collections.abc import Iterable, Sequence

from django.db import connection
from django.db.models import Q, QuerySet
from django.db.models.functions import Reverse

from calls.masking import is_masking, may_search
from calls.models import Account, Conversation, ConversationAlias
from calls.numbers import search_digits

TELLING = 4
"""Digits from which a part of a number tells calls apart so well that an index is of use."""
MANY = 1000
"""DIDs beyond which they are not listed."""

LETTER = re.compile(r"[^\W\d_]")
UUID_TEXT = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def find(calls: QuerySet[Conversation], query: str) -> QuerySet[Conversation]:
    """Return the calls that ``query`` names: by a number, the customer's or the DID, or by any id of the provider's.

    A number may be typed with or without country code, leading zeros and blanks, and in part. A part of four digits and
    more stands for the end of a number; when no number of the log ends so, or with a ``*`` before or after it, for any
    part. Fewer digits stand for any part. Who sees numbers masked finds them by their ends only, and not by every one:
    see ``is_refused``.
    """
    text = query.strip()
    if not text:
        return calls
    aliases = ConversationAlias.objects.filter(account__in=Account.objects.values("pk"), value=text)
    wanted = Q(pk__in=list(aliases.values_list("conversation", flat=True)))
    if UUID_TEXT.fullmatch(text):
        wanted |= Q(pk=text)
    calls = _with_ends(calls)
    if digits := "" if LETTER.search(text) else search_digits(text):
        wanted |= _in_numbers(digits, is_anywhere="*" in text)
    return calls.filter(wanted)


def is_refused(query: str) -> bool:
    """Return whether ``query`` is a part of a number by which this viewer may not search: see ``calls.masking``."""
    digits = "" if LETTER.search(query) else search_digits(query)
    return bool(digits) and ("*" in query or not may_search(digits)) and is_masking()


def with_did(calls: QuerySet[Conversation], dids: Sequence[str]) -> QuerySet[Conversation]:
    """Return the calls by one of these DIDs, each as it is stored."""
    return _with_ends(calls).filter(did_end__in=[did[::-1] for did in dids])


def with_part_of_number(calls: QuerySet[Conversation], parts: Iterable[str]) -> QuerySet[Conversation]:
    """Return the calls in whose numbers, the customer's or the DID, one of these ``parts`` is, each of digits."""
    condition = Q()
    for digits in parts:
        condition |= _in_numbers(digits, is_anywhere=True)
    return _with_ends(calls).filter(condition)


def with_part_of_did(calls: QuerySet[Conversation], parts: Sequence[str]) -> QuerySet[Conversation]:
    """Return the calls by a DID that holds one of these ``parts``, each of digits."""
    condition, dids = Q(), _dids()
    for digits in parts:
        condition |= _did_holds(digits, dids)
    return _with_ends(calls).filter(condition)


def _in_numbers(digits: str, *, is_anywhere: bool) -> Q:
    """Return the condition for calls in whose numbers the digits are. It needs ``_with_ends``."""
    ends = Q(customer_end__startswith=digits[::-1]) | Q(did_end__startswith=digits[::-1])
    if is_masking():
        return ends if may_search(digits) else Q(pk=None)
    if len(digits) < TELLING:
        return Q(customer_number__contains=digits) | Q(did__contains=digits)
    customers = _with_ends(Conversation.objects.order_by()).filter(customer_end__startswith=digits[::-1])
    if not is_anywhere and customers[:1].values("pk"):
        return ends
    dids = _dids()
    if not is_anywhere and any(did.endswith(digits) for did in dids):
        return ends
    return Q(customer_number__contains=digits) | _did_holds(digits, dids)


def _did_holds(digits: str, dids: Sequence[str]) -> Q:
    """Return the condition for calls by a DID that holds the digits; ``dids`` are what ``_dids`` returns."""
    if len(dids) > MANY:
        return Q(did__contains=digits)
    return Q(did_end__in=[did[::-1] for did in dids if digits in did])


def _with_ends(calls: QuerySet[Conversation]) -> QuerySet[Conversation]:
    return calls.alias(customer_end=Reverse("customer_number"), did_end=Reverse("did"))


def _dids() -> list[str]:
    """Return the DIDs there are, or more than ``MANY`` of them.

    PostgreSQL has no way of its own to go through an index from value to value.
    """
    if connection.vendor != "postgresql":
        return list(Conversation.objects.order_by().values_list("did", flat=True).distinct()[: MANY + 1])
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH RECURSIVE next (did_end, place) AS (
                (SELECT reverse(did), 0 FROM calls_conversation ORDER BY reverse(did) USING ~<~ LIMIT 1)
                UNION ALL
                SELECT (
                    SELECT reverse(did) FROM calls_conversation WHERE reverse(did) ~>~ did_end
                    ORDER BY reverse(did) USING ~<~ LIMIT 1
                ), place + 1
                FROM next WHERE did_end IS NOT NULL AND place <= %s
            )
            SELECT reverse(did_end) FROM next WHERE did_end IS NOT NULL
            """,
            [MANY],
        )
        return [did for (did,) in cursor.fetchall()]
