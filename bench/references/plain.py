"""The reference for receiving: what a webhook costs in an ordinary Django view that stores one row through the ORM."""

import hashlib
import json
import os

from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = get_asgi_application()

from django.conf import settings  # noqa: E402
from django.utils import timezone  # noqa: E402

from webhooks.models import Delivery, Endpoint, digest_of  # noqa: E402

settings.ROOT_URLCONF = __name__


@csrf_exempt
def receive(request: HttpRequest, provider: str, token: str) -> HttpResponse:
    """Find the account by its token and store the body."""
    endpoint = Endpoint.objects.select_related("account").get(digest=digest_of(token), account__provider=provider)
    delivery = Delivery.objects.create(
        account=endpoint.account,
        received_at=timezone.now(),
        method=request.method,
        content_type=request.content_type,
        body=request.body,
        size=len(request.body),
        digest=hashlib.sha256(request.body).hexdigest(),
    )
    return HttpResponse(json.dumps({"delivery": str(delivery.pk)}), content_type="application/json")


urlpatterns = [path("webhooks/<provider>/<token>/", receive)]
