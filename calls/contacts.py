"""Whose number it is: names for lists and pages, numbers joined to one contact and separated again."""

from collections.abc import Iterable
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet

from calls.access import visible
from calls.masking import is_masking, may_search
from calls.models import Contact, ContactNumber, Conversation
from calls.numbers import search_digits


def names(numbers: Iterable[str]) -> dict[str, str]:
    """Return the names of those of ``numbers`` that have one, by number; one query, whatever their number."""
    wanted = {number for number in numbers if number}
    if not wanted:
        return {}
    known = ContactNumber.objects.filter(number__in=wanted, contact__isnull=False).select_related("contact")
    return {row.number: str(row.contact) for row in known if row.contact.name or row.contact.company}


def add_names(calls: Iterable[Conversation]) -> None:
    """Set ``contact_name`` of each call: whose number it is with, or an empty string; one query for all."""
    calls = list(calls)
    found = names(call.customer_number for call in calls)
    for call in calls:
        call.contact_name = found.get(call.customer_number, "")  # type: ignore[attr-defined]


def find(text: str) -> QuerySet[Contact]:
    """Return the contacts whose name or company holds ``text``, or that have a number in which its digits stand.

    For who sees numbers masked: a number that ends in them, and see ``calls.masking.may_search``.
    """
    wanted = Q(name__icontains=text) | Q(company__icontains=text)
    digits = search_digits(text)
    if digits and may_search(digits):
        place = "endswith" if is_masking() else "contains"
        numbers = ContactNumber.objects.filter((f"number__{place}", digits))
        wanted |= Q(pk__in=numbers.values("contact"))
    return Contact.objects.filter(wanted)


def first_sight(number: str) -> ContactNumber:
    """Return the row of a number as conversations have it, made if there is none."""
    return ContactNumber.objects.get_or_create(number=number)[0]


def known_to(user: Any, pk: int) -> ContactNumber | None:
    """Return a number that ``user`` sees a call with, or that is a contact's if they see contacts; else ``None``."""
    number = ContactNumber.objects.select_related("contact").filter(pk=pk).first()
    if number is None:
        return None
    if user.has_perm("calls.view_contact") and visible(user, Contact.objects.filter(pk=number.contact_id)).exists():
        return number
    calls = visible(user, Conversation.objects.filter(customer_number__in=numbers_of(number)))
    return number if calls.exists() else None


def numbers_of(number: ContactNumber) -> list[str]:
    """Return all numbers of the party that has this one, this one included."""
    if number.contact_id is None:
        return [number.number]
    return list(number.contact.numbers.values_list("number", flat=True))


@transaction.atomic
def join(contact: Contact, number: ContactNumber) -> None:
    """Make ``number`` one of the contact's. What is known of a contact that this leaves without a number moves too."""
    former = number.contact
    if former == contact:
        return
    number.contact = contact
    number.save(update_fields=["contact"])
    if former and not former.numbers.exists():
        contact.name = contact.name or former.name
        contact.company = contact.company or former.company
        contact.note = "\n".join(filter(None, [contact.note, former.note]))
        contact.save(update_fields=["name", "company", "note"])
        former.delete()


def separate(number: ContactNumber) -> None:
    """Make ``number`` nobody's; its contact stays."""
    number.contact = None
    number.save(update_fields=["contact"])
