"""What views that write have in common."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.http import Http404
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from calls import audit, changes, intake
from calls.access import visible
from calls.api.etags import etag_of
from calls.choices import Scope
from calls.models import AuditEntry, Conversation, ConversationRedirect

ANSWER_HEADERS = [
    OpenApiParameter(
        "ETag", str, OpenApiParameter.HEADER, response=[200, 201], description="Its new version, for If-Match."
    ),
    OpenApiParameter(
        "Location", OpenApiTypes.URI, OpenApiParameter.HEADER, response=[201], description="Where it is from now on."
    ),
]
"""What the answers of ``tagged`` have, for the schema."""
MOVED = OpenApiResponse(description="It was found to be part of an older conversation, whose address is in `Location`.")
LOCATION_OF_SURVIVOR = OpenApiParameter("Location", OpenApiTypes.URI, OpenApiParameter.HEADER, response=[308])


class Writes:
    """A view set some of whose actions are ``calls.api.idempotency.write``: these need the scope manage."""

    http_method_names = ["get", "head", "post", "patch", "delete"]
    action: str | None

    @property
    def is_write(self) -> bool:
        """Whether the request is to change something."""
        return getattr(getattr(self, self.action or "", None), "is_write", False)

    @property
    def required_scope(self) -> Scope:
        return Scope.MANAGE if self.is_write else Scope.READ

    def parameter_names(self) -> list[str]:
        return [] if self.is_write else super().parameter_names()  # type: ignore[misc]


def tagged(shown: Mapping[str, Any], code: int = status.HTTP_200_OK, location: str = "") -> Response:
    """Return the answer that shows a row as it is now, with the entity tag for the next ``If-Match``."""
    headers = {"ETag": etag_of(shown)} | ({"Location": location} if location else {})
    return Response(shown, code, headers=headers)


def locked_call(request: Request, pk: str) -> Conversation:
    """Return the conversation, and have nobody else write anything of its account until the transaction ends.

    Raises ``Http404`` when there is none that the key may see.
    """
    calls = visible(request.auth, Conversation.objects.all())
    for call in calls.filter(pk=id_of(pk)):
        intake.lock_account(call.account_id)
        # Again: it may have been merged into another one before the lock was had.
        for locked in calls.filter(pk=call.pk):
            return locked
    raise Http404


def moved(request: Request, pk: str, name: str) -> Response:
    """Return the redirect from a merged conversation to the survivor's page called ``name``. Raises ``Http404``."""
    survivors = Conversation.objects.filter(
        pk__in=ConversationRedirect.objects.filter(pk=id_of(pk)).values("conversation")
    )
    for survivor in visible(request.auth, survivors):
        address = request.build_absolute_uri(reverse(name, args=[survivor.pk]))
        return Response(status=status.HTTP_308_PERMANENT_REDIRECT, headers={"Location": address})
    raise Http404


def note_change(
    request: Request, action: AuditEntry.Action, row: Any, call: Conversation, before: Mapping, after: Mapping
) -> None:
    """Write down, in the audit log and in the feed of changes, what was done to a call or to what stands beside it."""
    name = str(call) if row == call else f"{row._meta.verbose_name} of {call}"
    changed = audit.changed(before, after)
    details = {} if row == call else {"conversation": str(call.pk)}
    audit.record(request, action, row, name, changes=changed, **details)
    changes.edited([call.pk], call.account_id)


def id_of(text: str) -> UUID | None:
    """Return the id that an address names, ``None`` when it is no id."""
    try:
        return UUID(text)
    except ValueError:
        return None


def number_of(text: str) -> int | None:
    """Return the number that an address names, ``None`` when it is none that a row can have."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None
