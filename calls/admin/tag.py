from uuid import UUID

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from calls import intake
from calls.admin.base import BaseAdmin
from calls.models import Conversation, Tag


@admin.register(Tag)
class TagAdmin(BaseAdmin):
    """The words that staff put on calls."""

    search_fields = ["name"]

    def save_model(self, request: HttpRequest, obj: Tag, form: forms.ModelForm, change: bool) -> None:
        with intake.editing(_tagged([obj]) if change and form.has_changed() else []):
            super().save_model(request, obj, form, change)

    def delete_model(self, request: HttpRequest, obj: Tag) -> None:
        with intake.editing(_tagged([obj])):
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Tag]) -> None:
        with intake.editing(_tagged(queryset)):
            super().delete_queryset(request, queryset)


def _tagged(tags: QuerySet[Tag] | list[Tag]) -> list[UUID]:
    """Return the calls that look different when something becomes of these tags."""
    return list(Conversation.objects.filter(tags__in=tags).order_by().values_list("pk", flat=True).distinct())
