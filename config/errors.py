"""What is answered when no view could: to programs as problem documents, to people as Django's own pages."""

import logging
from uuid import uuid4

from django.conf import settings
from django.core.exceptions import TooManyFieldsSent
from django.http import HttpRequest, HttpResponse
from django.views import defaults

from calls.api.problems import problem

logger = logging.getLogger(__name__)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 400 to what Django itself refuses, such as a host that is not ours."""
    if is_for_a_program(request):
        if isinstance(exception, TooManyFieldsSent):
            return problem(400, f"There are more than {settings.DATA_UPLOAD_MAX_NUMBER_FIELDS} parameters. Send fewer.")
        return problem(400, "This request is malformed, or sent to a host name that this server does not serve.")
    return defaults.bad_request(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 404."""
    if is_for_a_program(request):
        return problem(404, "There is nothing at this address. The addresses are listed at /api/v1/schema/.")
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer 500 to a bug. The number of the incident is all that is told; the log has the rest under it."""
    if not is_for_a_program(request):
        return defaults.server_error(request)
    incident = uuid4().hex[:12]
    logger.error("incident %s: %s %s", incident, request.method, request.path, exc_info=True)
    return problem(500, f"This is a fault of the server. Tell whoever runs it the number of the incident: {incident}.")


def is_for_a_program(request: HttpRequest) -> bool:
    """Return whether the request is for the API."""
    return request.path_info.startswith("/api/")
