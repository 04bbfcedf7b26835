"""How the API behaves: settings of Django REST framework and drf-spectacular."""

REST_FRAMEWORK: dict[str, object] = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["calls.api.keys.BearerKey"],
    "DEFAULT_PERMISSION_CLASSES": ["calls.api.keys.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["calls.api.rendering.FastJSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["calls.api.parsing.StrictJsonParser"],
    "DEFAULT_PAGINATION_CLASS": "calls.api.pages.CursorPages",
    "DEFAULT_FILTER_BACKENDS": ["calls.api.parameters.StrictFilters"],
    "DEFAULT_SCHEMA_CLASS": "calls.api.schema.ApiSchema",
    "DEFAULT_METADATA_CLASS": None,
    "EXCEPTION_HANDLER": "calls.api.problems.problem_response",
    "URL_FORMAT_OVERRIDE": None,
}
SPECTACULAR_SETTINGS: dict[str, object] = {
    "TITLE": "Ringledger",
    "VERSION": "1",
    "DESCRIPTION": (
        "Calls, legs, events and money, derived from what telephony providers sent.\n\n"
        "Send an API key with every request: `Authorization: Bearer <key>`. Times are UTC, money and credits are "
        "decimal strings, phone numbers are E.164 where they can be read. Lists come in pages: follow `next` as it is. "
        "A row that stays where it is in the order while you page is met exactly once; of those that come, go or move "
        "meanwhile, `changes/` tells. "
        "Several values of one filter are written with commas. Errors are `application/problem+json` (RFC 9457). "
        "Answers say in `RateLimit` how many requests are left; at 429, wait as long as `Retry-After` says.\n\n"
        "Pages that show how to begin, to keep a copy of all calls, and to verify webhooks: `docs/api` in the source."
    ),
    "OAS_VERSION": "3.1.1",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "calls.api.pages.partial_rows",
        "calls.api.schema.completed",
        "calls.api.webhooks.with_headers",
    ],
    "WEBHOOKS": "calls.api.webhooks.ALL",
    "SERVE_AUTHENTICATION": [],
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "validatorUrl": None},
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_NAME_OVERRIDES": {
        "Direction": "calls.choices.Direction",
        "State": "calls.choices.State",
        "Disposition": "calls.choices.Disposition",
        "Label": "calls.choices.Label",
        "Role": "calls.choices.Role",
        "EventKind": "calls.choices.EventKind",
        "Reason": "calls.choices.Reason",
        "AlertKind": "calls.choices.AlertKind",
        "DeliveryStatus": "webhooks.models.Delivery.Status",
        "Flag": "calls.choices.Flag",
        "GapKind": "calls.choices.GapKind",
        "ChangeKind": "calls.models.Change.Kind",
        "EventType": "calls.choices.EventType",
        "SubscriptionState": "calls.models.Subscription.State",
        "MessageState": "calls.models.Message.State",
        "Encoding": ["text", "base64"],
        "OutcomeKind": "calls.models.StaffOutcome.Kind",
        "StepKind": "calls.models.WorklistStep.Kind",
        "Closing": "calls.models.MissedCaller.Closing",
        "Standing": "calls.api.worklist.Standing",
    },
}
