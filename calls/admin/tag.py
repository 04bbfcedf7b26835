from django.contrib import admin

from calls.admin.base import BaseAdmin
from calls.models import Tag


@admin.register(Tag)
class TagAdmin(BaseAdmin):
    """The words that staff put on calls."""

    search_fields = ["name"]
