"""Agents, who are our people, and contacts, whom we talk to."""

from collections.abc import Iterable
from typing import Any

from django.db.models import Exists, OuterRef, Prefetch, Q, QuerySet
from django.urls import reverse
from django_filters.rest_framework import FilterSet
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_serializer
from rest_framework import serializers, status
from rest_framework.generics import get_object_or_404
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from calls import audit, contacts
from calls.access import visible
from calls.api.bodies import Body, TextInput, checked
from calls.api.etags import check_if_match, etag_of
from calls.api.filters import AccountFilters, spellings
from calls.api.idempotency import Conflict, write
from calls.api.parameters import TextParameter, TextsParameter
from calls.api.problems import BadRequest, FieldError
from calls.api.serializers import Moment, Number, Text
from calls.api.views import ReadViewSet
from calls.api.writing import ANSWER_HEADERS, Writes, number_of, tagged
from calls.models import Account, Agent, AuditEntry, Contact, ContactNumber
from calls.numbers import normalize
from calls.worklist import is_diallable

MOST_NUMBERS = 50
LONGEST_NUMBER = 64


# --- Agents -----------------------------------------------------------------------------------------------------------


class AgentFilters(AccountFilters):
    """Which agents."""

    external_id = TextsParameter("The provider's id of the agent, or several.")


class PersonSerializer(serializers.Serializer):
    """One of our people, as an account's provider knows them."""

    id = serializers.IntegerField(read_only=True)
    account = Text(source="account.slug")
    external_id = Text(help_text="The provider's id of the agent.")
    name = Text()
    extension = Text()
    phone = Number(help_text="Calls to it are counted as this agent's.")


@extend_schema_serializer(examples=[OpenApiExample("A name", {"name": "Asha", "phone": "+919000000001"})])
class PersonBody(Body):
    """What is to be changed; what is left out stays as it is."""

    name = TextInput(max_length=120, allow_blank=True, required=False)
    extension = TextInput(max_length=32, allow_blank=True, required=False)
    phone = TextInput(
        max_length=LONGEST_NUMBER, allow_blank=True, required=False, help_text="In any usual spelling; blank: none."
    )


class AgentViewSet(Writes, ListModelMixin, ReadViewSet):
    """Agents, in the order in which they were first seen."""

    queryset = Agent.objects.select_related("account")
    serializer_class = PersonSerializer
    filterset_class = AgentFilters
    orderings = {"id": ("id",)}

    def retrieve(self, request: Request, pk: str) -> Response:
        """Return one agent."""
        return Response(PersonSerializer(self._found(self.get_queryset(), pk)).data)

    @extend_schema(request=PersonBody, parameters=ANSWER_HEADERS, responses=PersonSerializer)
    @write
    def partial_update(self, request: Request, pk: str) -> Response:
        """Change an agent's name, extension or phone.

        Their calls show the new name from now on, past ones too; the feed of changes does not tell of that.
        """
        agent = self._found(self.get_queryset().select_for_update(of=("self",)), pk)
        wanted = checked(PersonBody, request.data)
        before = PersonSerializer(agent).data
        check_if_match(request, etag_of(before))
        if phone := wanted.get("phone"):
            wanted["phone"] = normalize(phone, agent.account.phone_region)
            if not is_diallable(wanted["phone"]):
                raise BadRequest(FieldError("phone", phone, "Give a phone number such as +919000000001, or a blank."))
        for name, value in wanted.items():
            setattr(agent, name, value)
        after = PersonSerializer(agent).data
        if after != before:
            agent.save(update_fields=list(wanted))
            audit.record(request, AuditEntry.Action.CHANGE, agent, str(agent), changes=audit.changed(before, after))
        return tagged(after)

    def _found(self, agents: QuerySet[Agent], pk: str) -> Agent:
        return get_object_or_404(visible(self.request.auth, agents), pk=number_of(pk))


# --- Contacts ---------------------------------------------------------------------------------------------------------


class ContactFilters(FilterSet):
    """Which contacts."""

    name = TextParameter("Part of the name or of the company.", method="with_name")
    number = TextsParameter("A whole number of theirs, in any usual spelling, or several.", method="with_number")

    def with_name(self, queryset: QuerySet[Contact], name: str, text: str) -> QuerySet[Contact]:
        return queryset.filter(Q(name__icontains=text) | Q(company__icontains=text))

    def with_number(self, queryset: QuerySet[Contact], name: str, texts: list[str]) -> QuerySet[Contact]:
        known = visible(self.request.auth, ContactNumber.objects.order_by())
        return queryset.filter(Exists(known.filter(contact=OuterRef("pk"), number__in=spellings(texts))))


class ContactSerializer(serializers.Serializer):
    """Somebody we talk to, with the numbers of theirs that the key may know."""

    id = serializers.IntegerField(read_only=True)
    name = Text()
    company = Text()
    note = Text()
    numbers = serializers.SerializerMethodField()
    created_at = Moment()

    def get_numbers(self, contact: Contact) -> list[str]:
        return [row.number for row in contact.numbers.all()]


@extend_schema_serializer(
    examples=[OpenApiExample("A customer", {"name": "Ravi", "company": "Acme", "numbers": ["+919000000001"]})]
)
class ContactBody(Body):
    """What is to be kept of a contact; what is left out is blank in a new one, and stays in one that there is."""

    name = TextInput(max_length=120, allow_blank=True, required=False)
    company = TextInput(max_length=120, allow_blank=True, required=False)
    note = TextInput(max_length=4000, allow_blank=True, required=False)
    numbers = serializers.ListField(
        child=TextInput(max_length=LONGEST_NUMBER),
        max_length=MOST_NUMBERS,
        required=False,
        help_text="All their numbers from now on, best as E.164. One that is another contact's is refused.",
    )


class NumberTaken(Conflict):
    """A number that cannot be made this contact's; what it is of another account's is not told."""


class ContactViewSet(Writes, ListModelMixin, ReadViewSet):
    """Contacts, in the order in which they were made."""

    serializer_class = ContactSerializer
    filterset_class = ContactFilters
    orderings = {"id": ("id",)}

    def get_queryset(self) -> QuerySet[Contact]:
        if self.request is None or self.request.auth is None:  # the schema asks for the table only
            return Contact.objects.all()
        return Contact.objects.prefetch_related(Prefetch("numbers", self._known_numbers()))

    def retrieve(self, request: Request, pk: str) -> Response:
        """Return one contact."""
        return Response(self._shown(self._found(pk)))

    @extend_schema(request=ContactBody, parameters=ANSWER_HEADERS, responses={201: ContactSerializer})
    @write
    def create(self, request: Request) -> Response:
        """Make a contact."""
        wanted = checked(ContactBody, request.data)
        numbers = wanted.pop("numbers", [])
        contact = Contact.objects.create(**wanted)
        self._set_numbers(contact, numbers)
        shown = self._shown(self._found(str(contact.pk)))
        self._record(AuditEntry.Action.ADD, contact, {}, shown)
        address = request.build_absolute_uri(reverse("contact-detail", args=[contact.pk]))
        return tagged(shown, status.HTTP_201_CREATED, address)

    @extend_schema(request=ContactBody, parameters=ANSWER_HEADERS, responses=ContactSerializer)
    @write
    def partial_update(self, request: Request, pk: str) -> Response:
        """Change what is kept of a contact."""
        contact = self._locked(pk)
        wanted = checked(ContactBody, request.data)
        before = self._shown(contact)
        check_if_match(request, etag_of(before))
        numbers = wanted.pop("numbers", None)
        for name, value in wanted.items():
            setattr(contact, name, value)
        contact.save(update_fields=list(wanted))
        if numbers is not None:
            self._set_numbers(contact, numbers)
        after = self._shown(self.get_queryset().get(pk=contact.pk))
        if after != before:
            self._record(AuditEntry.Action.CHANGE, contact, before, after)
        return tagged(after)

    @extend_schema(responses={204: None})
    @write
    def destroy(self, request: Request, pk: str) -> Response:
        """Delete a contact. Their numbers and calls stay, as nobody's.

        Of a contact whose numbers the key may know only in part, those are taken away and the rest stays as it is.
        """
        contact = self._locked(pk)
        before = self._shown(contact)
        check_if_match(request, etag_of(before))
        self._record(AuditEntry.Action.DELETE, contact, before, {})
        for number in contact.numbers.all():
            contacts.separate(number)
        if not ContactNumber.objects.filter(contact=contact).exists():
            contact.delete()
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _known_numbers(self) -> QuerySet[ContactNumber]:
        return visible(self.request.auth, ContactNumber.objects.all())

    def _found(self, pk: str) -> Contact:
        return get_object_or_404(visible(self.request.auth, self.get_queryset()), pk=number_of(pk))

    def _locked(self, pk: str) -> Contact:
        Contact.objects.select_for_update().filter(pk=number_of(pk)).first()
        return self._found(pk)

    def _shown(self, contact: Contact) -> dict[str, Any]:
        return ContactSerializer(contact).data

    def _record(self, action: AuditEntry.Action, contact: Contact, before: dict, after: dict) -> None:
        changed = audit.changed(
            *({name: row[name] for name in ContactBody().fields if name in row} for row in (before, after))
        )
        audit.record(self.request, action, contact, str(contact), changes=changed)

    def _set_numbers(self, contact: Contact, texts: Iterable[str]) -> None:
        """Make these the contact's numbers, in place of those that the key may know."""
        wanted = [self._read_number(f"numbers[{i}]", text) for i, text in enumerate(texts)]
        for row in self._known_numbers().filter(contact=contact).exclude(number__in=wanted):
            contacts.separate(row)
        for number in sorted(set(wanted)):
            row = ContactNumber.objects.select_for_update().get(pk=contacts.first_sight(number).pk)
            if not self._known_numbers().filter(pk=row.pk).exists():
                raise NumberTaken(f"{number} cannot be given to a contact by this key. Leave it out.")
            if row.contact_id not in (None, contact.pk):
                raise NumberTaken(f"{number} is a number of contact {row.contact_id}. Take it from that one first.")
            contacts.join(contact, row)

    def _read_number(self, field: str, text: str) -> str:
        """Return a number as conversations have it. Raises ``BadRequest`` where it could be several."""
        accounts = visible(self.request.auth, Account.objects.order_by())
        regions = accounts.values_list("phone_region", flat=True).distinct()
        found = {normalize(text, region) for region in regions} or {normalize(text, "")}
        if len(found) > 1:
            message = "It is another number in each country of your accounts. Give it with + and the country's code."
        elif not is_diallable(number := found.pop()):
            message = "This is no phone number. Give one such as +919000000001."
        else:
            return number
        raise BadRequest(FieldError(field, text, message))
