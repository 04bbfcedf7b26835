"""Views about the API itself."""

from typing import Any

from django.http import HttpRequest, HttpResponsePermanentRedirect
from django.http.response import HttpResponseBase
from django.urls import resolve
from drf_spectacular.views import SpectacularJSONAPIView
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from calls.api.problems import shown


class Schema(SpectacularJSONAPIView):
    """The schema of this API, the same for everybody: it tells of no data and of no key, so it needs none."""

    _made: dict[str, Any] | None = None

    def _get_schema_response(self, request: Request) -> Response:
        cls = type(self)
        if cls._made is None:  # making it takes a second, and anybody may ask
            cls._made = super()._get_schema_response(request).data
        return Response(cls._made)


class UnknownPath(APIView):
    """Answers every address below the API's that is none of its own; one that lacks its last slash is redirected."""

    authentication_classes = ()
    permission_classes = ()
    schema = None

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method in ("GET", "HEAD") and not request.path.endswith("/"):
            meant = resolve(f"{request.path_info}/").func
            if getattr(meant, "cls", None) is not UnknownPath:
                return HttpResponsePermanentRedirect(request.get_full_path(force_append_slash=True))
        return super().dispatch(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise NotFound(f"There is nothing at {shown(request.path)}. The addresses are listed at /api/v1/schema/.")
