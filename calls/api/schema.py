"""How the OpenAPI schema is made: every operation tells of its errors too."""

from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiExample, OpenApiResponse

from calls.api.problems import MEDIA_TYPE
from calls.api.serializers import ProblemSerializer

_ERRORS = {
    "400": "A parameter is unknown or its value is wrong; `errors` names it and says what is allowed.",
    "401": "The key is missing, not known, or no longer active.",
    "403": "The key lacks the scope that is needed.",
    "404": "There is no such row.",
    "default": "Any other error, such as 405 and 406.",
}
_EXAMPLE = OpenApiExample(
    "A wrong value",
    {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "page_size: Give a whole number from 1 to 500.",
        "errors": [{"field": "page_size", "value": "1000", "message": "Give a whole number from 1 to 500."}],
    },
)


class ApiSchema(AutoSchema):
    """Adds the errors that every operation may answer with, and says which scope it needs."""

    def get_description(self) -> str:
        return f"{super().get_description()}\n\nNeeds a key with the scope `{self.view.required_scope}`.".strip()

    def _get_parameters(self) -> list[dict[str, Any]]:
        parameters = super()._get_parameters()
        for parameter in parameters:
            if parameter["schema"].get("type") == "array":
                parameter["schema"]["minItems"] = 1  # a blank parameter is refused
        return parameters

    def _get_response_bodies(self, direction: str = "response") -> dict[str, Any]:
        bodies = super()._get_response_bodies(direction)
        for code, description in _ERRORS.items():
            if code == "404" and not self.view.detail:
                continue
            response = OpenApiResponse(ProblemSerializer, description, [_EXAMPLE] if code == "400" else None)
            bodies[code] = self._get_response_for_code(response, code, [MEDIA_TYPE], direction)
        bodies["401"]["headers"] = {
            "WWW-Authenticate": {"schema": {"type": "string"}, "description": "The scheme to use: Bearer."}
        }
        return bodies
