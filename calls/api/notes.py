"""Notes on conversations, and the tags that can be put on them."""

from django.db.models import QuerySet
from django.http import Http404
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django_filters.rest_framework import FilterSet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from calls import audit
from calls.access import visible
from calls.api.bodies import Body, TextInput, checked
from calls.api.etags import check_if_match, etag_of
from calls.api.idempotency import Conflict, write
from calls.api.serializers import Moment, Text
from calls.api.views import ReadViewSet
from calls.api.writing import (
    ANSWER_HEADERS,
    LOCATION_OF_SURVIVOR,
    MOVED,
    Writes,
    id_of,
    locked_call,
    moved,
    note_change,
    number_of,
    tagged,
)
from calls.models import AuditEntry, CallNote, Conversation, Tag

LONGEST_NOTE = 2000
NOTES_PAGE = "conversation-notes"
_OF_CALL = OpenApiParameter("conversation", OpenApiTypes.UUID, OpenApiParameter.PATH, description="Id of the call.")


class NoteBody(Body):
    """What there is to say."""

    text = TextInput(max_length=LONGEST_NOTE)


class NoteSerializer(serializers.Serializer):
    """What a member of staff or a program has to say of a call."""

    id = serializers.IntegerField(read_only=True)
    conversation = serializers.UUIDField(source="conversation_id", read_only=True)
    text = Text()
    author = serializers.CharField(
        source="author.username", default=None, read_only=True, allow_null=True, help_text="Login of who wrote it."
    )
    api_key = serializers.CharField(
        source="api_key.name", default=None, read_only=True, allow_null=True, help_text="Or the key that wrote it."
    )
    created_at = Moment()
    edited_at = Moment(allow_null=True)


class NotOwn(Conflict):
    """A note that somebody else wrote."""

    default_detail = "Somebody else wrote this note. A key changes only what it wrote itself; add a note instead."


class ConversationNotesViewSet(Writes, ListModelMixin, ReadViewSet):
    """Notes on one conversation, oldest first."""

    serializer_class = NoteSerializer
    filterset_class = FilterSet
    orderings = {"created_at": ("created_at", "id")}

    def get_queryset(self) -> QuerySet[CallNote]:
        return _notes().filter(conversation=id_of(self.kwargs.get("conversation", "")))

    def parameter_names(self) -> list[str]:
        return [] if self.is_write else self.paginator.parameter_names(self)

    @extend_schema(parameters=[_OF_CALL, LOCATION_OF_SURVIVOR], responses={200: NoteSerializer(many=True), 308: MOVED})
    def list(self, request: Request, conversation: str) -> Response:
        """Return what staff and programs have said of a conversation."""
        if not visible(request.auth, Conversation.objects.filter(pk=id_of(conversation))).exists():
            return moved(request, conversation, NOTES_PAGE)
        return super().list(request)

    @extend_schema(
        request=NoteBody,
        parameters=[_OF_CALL, *ANSWER_HEADERS, LOCATION_OF_SURVIVOR],
        responses={201: NoteSerializer, 308: MOVED},
    )
    @write
    def create(self, request: Request, conversation: str) -> Response:
        """Add a note to a conversation."""
        try:
            call = locked_call(request, conversation)
        except Http404:
            return moved(request, conversation, NOTES_PAGE)
        text = checked(NoteBody, request.data)["text"]
        note = CallNote.objects.create(conversation=call, api_key=request.auth, text=text)
        note_change(request, AuditEntry.Action.ADD, note, call, {}, {"text": text})
        address = request.build_absolute_uri(reverse("note-detail", args=[note.pk]))
        return tagged(NoteSerializer(note).data, status.HTTP_201_CREATED, address)


class NoteViewSet(Writes, ReadViewSet):
    """One note."""

    serializer_class = NoteSerializer
    pagination_class = None

    def get_queryset(self) -> QuerySet[CallNote]:
        return _notes()

    def retrieve(self, request: Request, pk: str) -> Response:
        """Return a note."""
        return Response(NoteSerializer(self._found(pk)).data)

    @extend_schema(request=NoteBody, parameters=ANSWER_HEADERS, responses=NoteSerializer)
    @write
    def partial_update(self, request: Request, pk: str) -> Response:
        """Change a note that this key wrote."""
        note, call = self._own(pk)
        before = note.text
        note.text = checked(NoteBody, request.data, partial=True).get("text", before)
        if note.text != before:
            note.edited_at = timezone.now()
            note.save(update_fields=["text", "edited_at"])
            note_change(request, AuditEntry.Action.CHANGE, note, call, {"text": before}, {"text": note.text})
        return tagged(NoteSerializer(note).data)

    @extend_schema(responses={204: None})
    @write
    def destroy(self, request: Request, pk: str) -> Response:
        """Take back a note that this key wrote."""
        note, call = self._own(pk)
        note_change(request, AuditEntry.Action.DELETE, note, call, {"text": note.text}, {})
        note.delete()
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _found(self, pk: str) -> CallNote:
        return get_object_or_404(visible(self.request.auth, self.get_queryset()), pk=number_of(pk))

    def _own(self, pk: str) -> tuple[CallNote, Conversation]:
        """Return a note of the key's own and its conversation, locked, as the request knows them."""
        call = locked_call(self.request, str(self._found(pk).conversation_id))
        note = self._found(pk)
        if note.api_key != self.request.auth:
            raise NotOwn
        check_if_match(self.request, etag_of(NoteSerializer(note).data))
        return note, call


class TagBody(Body):
    """A new tag."""

    name = TextInput(max_length=50)


class TagSerializer(serializers.Serializer):
    """A word that can be put on conversations."""

    name = Text()


class TagViewSet(Writes, ListModelMixin, ReadViewSet):
    """Tags, by name."""

    queryset = Tag.objects.all()
    serializer_class = TagSerializer
    filterset_class = FilterSet
    orderings = {"name": ("name",)}

    @extend_schema(request=TagBody, responses={201: TagSerializer, 200: TagSerializer})
    @write
    def create(self, request: Request) -> Response:
        """Make a tag that can then be put on conversations; 200: there is one of this name already."""
        tag, is_new = Tag.objects.get_or_create(name=checked(TagBody, request.data)["name"])
        if is_new:
            audit.record(request, AuditEntry.Action.ADD, tag, str(tag))
        return Response(TagSerializer(tag).data, status.HTTP_201_CREATED if is_new else status.HTTP_200_OK)


def _notes() -> QuerySet[CallNote]:
    return CallNote.objects.select_related("author", "api_key")
