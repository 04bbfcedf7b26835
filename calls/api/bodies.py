"""What writes take: names and values of a JSON body, read strictly, with errors that say what to send instead."""

from datetime import datetime
from typing import Any

from django.core.validators import RegexValidator
from django.db.models import TextChoices
from drf_spectacular.extensions import OpenApiSerializerExtension
from rest_framework import serializers

from calls.api.parameters import suggestion

_TEXT = RegexValidator(r"^[^\u0000]*[^\s\u0000][^\u0000]*$", "It is blank or holds a NUL. Give a text.")
_TEXT_OR_BLANK = RegexValidator(r"^[^\u0000]*$", "It holds a NUL. Leave that out.")
_MESSAGES = {
    "required": "It is missing. Give it.",
    "null": "It is null. Give a value, or leave it out.",
    "blank": "It is blank. Give a text.",
    "invalid": "It is no text. Give one, in quotes.",
    "max_length": "It is too long. Give at most {max_length} characters.",
}


class Body(serializers.Serializer):
    """An object of a body. A name that it does not know is refused, with the known one nearest to it."""

    default_error_messages = {"invalid": "It is no object. Give names and values in braces."}

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if isinstance(data, dict) and (unknown := data.keys() - self.fields.keys()):
            raise serializers.ValidationError(
                {name: [f"There is no such field.{suggestion(name, self.fields)}"] for name in sorted(unknown)}
            )
        return super().to_internal_value(data)


class TextInput(serializers.CharField):
    """A text; blanks around it are taken away. Anything but a text, such as a number, is refused."""

    def __init__(self, *, max_length: int, allow_blank: bool = False, **options: Any) -> None:
        super().__init__(
            max_length=max_length,
            allow_blank=allow_blank,
            validators=[_TEXT_OR_BLANK if allow_blank else _TEXT],
            error_messages=_MESSAGES,
            **options,
        )

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class WordInput(serializers.ChoiceField):
    """One word of a fixed set."""

    def __init__(self, choices: type[TextChoices] | list[TextChoices], **options: Any) -> None:
        super().__init__(choices=[(word.value, word.label) for word in choices], error_messages=_MESSAGES, **options)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str) or data not in self.choices:
            hint = suggestion(data, self.choices) if isinstance(data, str) else ""
            raise serializers.ValidationError(f"Give one of: {', '.join(self.choices)}.{hint}")
        return data


class MomentInput(serializers.DateTimeField):
    """A moment with its offset from UTC."""

    def __init__(self, **options: Any) -> None:
        message = "Give a date and a time with their offset from UTC, such as 2021-09-22T13:48:30Z."
        super().__init__(error_messages={"invalid": message, "date": message, "overflow": message}, **options)

    def enforce_timezone(self, value: datetime) -> datetime:
        if value.tzinfo is None:
            self.fail("invalid", format="")
        return super().enforce_timezone(value)

    def to_internal_value(self, value: Any) -> datetime:
        if not isinstance(value, str):
            self.fail("invalid", format="")
        return super().to_internal_value(value)


class BodyScheme(OpenApiSerializerExtension):
    """Tells the schema that a body takes no other names, and a blank text only as the text's own pattern does."""

    target_class = Body
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        schema = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        for part in schema.get("properties", {}).values():
            # What is told apart here by "oneOf" overlaps, so that a blank text would be neither.
            if part.get("oneOf", [None])[-1] == {"type": "string", "maxLength": 0}:
                part |= part.pop("oneOf")[0]
        return schema | {"additionalProperties": False}


def checked(body: type[Body], data: Any, *, partial: bool = False) -> dict[str, Any]:
    """Return the values of ``data`` as ``body`` reads them; with ``partial``, of the names that are there.

    Raises ``ValidationError``, which the API answers with a problem that names each field.
    """
    read = body(data=data, partial=partial)
    read.is_valid(raise_exception=True)
    return read.validated_data
