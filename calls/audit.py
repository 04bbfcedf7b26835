"""The one writer of the audit log: who revealed, played, exported or changed what."""

from django.db import models
from django.http import HttpRequest

from calls.models import AuditEntry


def record(
    request: HttpRequest,
    action: AuditEntry.Action,
    target: models.Model | None = None,
    name: str = "",
    **details: object,
) -> AuditEntry:
    """Write down that the viewer of ``request`` did ``action``, to ``target`` if it was done to one row.

    ``name`` is for people and must hold no full number or secret; ``details`` must be JSON.
    """
    user = request.user if request.user.is_authenticated else None
    return AuditEntry.objects.create(
        user=user,
        action=action,
        target_type=target._meta.label_lower if target else "",
        target_id=str(target.pk) if target else "",
        target_name=(name or (type(target)._meta.verbose_name if target else ""))[:200],
        details=details,
        address=request.META.get("REMOTE_ADDR") or None,
    )
