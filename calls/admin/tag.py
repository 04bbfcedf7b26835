from django.contrib import admin

from calls.admin.base import BaseAdmin
from calls.models import Tag


@admin.register(Tag)
class TagAdmin(BaseAdmin):
    search_fields = ["name"]
