"""One masked number shown in full, on a click: each is written in the audit log."""

from datetime import timedelta
from http import HTTPStatus
from typing import Any

from django.apps import apps
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.views.decorators.http import require_POST

from calls import audit
from calls.access import masked, visible
from calls.models import AuditEntry
from calls.numbers import display

MOST_PER_HOUR = 60
"""Reveals of one person; whoever needs more should have the permission to see numbers."""
FIELDS = {"customer_number", "did", "from_number", "to_number", "phone", "number", "external_id"}
"""Columns that hold a number."""


@require_POST
def reveal(request: HttpRequest, label: str, pk: str, field: str) -> HttpResponse:
    """Answer with the number in ``field`` of one row that the viewer may look at, and write down who asked."""
    if not request.user.has_perm("calls.reveal_numbers"):
        raise PermissionDenied
    row = _row(request, label, pk)
    if field not in FIELDS or not isinstance(number := getattr(row, field, None), str):
        raise Http404
    an_hour_ago = timezone.now() - timedelta(hours=1)
    revealed = AuditEntry.objects.filter(user=request.user, action=AuditEntry.Action.REVEAL, at__gte=an_hour_ago)
    if revealed.count() >= MOST_PER_HOUR:
        problem = f"You have revealed {MOST_PER_HOUR} numbers within an hour. Try again later, or ask an administrator."
        return JsonResponse({"problem": problem}, status=HTTPStatus.TOO_MANY_REQUESTS)
    name = f"{row._meta.verbose_name}, {masked(number)}"
    audit.record(request, AuditEntry.Action.REVEAL, row, name, field=field)
    answer = JsonResponse({"number": display(number), "digits": number})
    answer["Cache-Control"] = "no-store"
    answer.is_revealing = True  # the one answer that the wall in config.middleware leaves as it is
    return answer


def _row(request: HttpRequest, label: str, pk: str) -> Any:
    """Return the row, if it is among those of its table that the viewer may look at."""
    try:
        model = apps.get_model(label)
        rows = visible(request.user, model._default_manager.filter(pk=pk))
    except (LookupError, ValueError, ValidationError) as error:
        raise Http404 from error
    if not request.user.has_perm(f"{model._meta.app_label}.view_{model._meta.model_name}"):
        raise PermissionDenied
    return get_object_or_404(rows)
