"""Contacts: whom we talk to, under which numbers."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html_join
from django.views.decorators.http import require_POST
from unfold.decorators import display

from calls import contacts
from calls.admin.base import BaseAdmin
from calls.admin.export import ExportMixin
from calls.exports import tables
from calls.models import Account, Contact
from calls.numbers import normalize
from calls.templatetags import words


@admin.register(Contact)
class ContactAdmin(ExportMixin, BaseAdmin):
    """Name, company, note and numbers; each number leads to its page."""

    list_display = ["contact_name", "company", "number_links", "created"]
    list_display_links = ["contact_name"]
    search_fields = ["name"]  # shows the box; get_search_results says what it finds
    search_help_text = "Name, company, or a number or part of it"
    sortable_by = ["contact_name", "company", "created"]
    fields = ["name", "company", "note"]
    export_columns = tables.CONTACTS
    change_form_outer_after_template = "calls/contact_numbers.html"

    @display(description="name", ordering="name")
    def contact_name(self, contact: Contact) -> str:
        return contact.name or str(contact)

    @display(description="numbers")
    def number_links(self, contact: Contact) -> str:
        rows = [(reverse("calls_number", args=[row.pk]), words.phone(row.number)) for row in contact.numbers.all()]
        return format_html_join(", ", '<a class="rl-link rl-number" href="{}">{}</a>', rows) or words.EMPTY

    @display(description="added", ordering="created_at")
    def created(self, contact: Contact) -> str:
        return words.moment(contact.created_at)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Contact]:
        return super().get_queryset(request).prefetch_related("numbers")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Contact], search_term: str
    ) -> tuple[QuerySet[Contact], bool]:
        found = contacts.find(search_term.strip()) if search_term.strip() else Contact.objects.all()
        return queryset.filter(pk__in=found.order_by().values("pk")), False

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.add_number))
        return [path("<int:pk>/number/", view, name="calls_contact_number"), *super().get_urls()]

    def add_number(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Make a number, typed in any spelling, one of the contact's."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        contact = get_object_or_404(self.get_queryset(request), pk=pk)
        account = Account.objects.first()
        number = normalize(request.POST.get("number", ""), account.phone_region if account else "")
        if any(char.isdecimal() for char in number) and len(number) <= 64:
            contacts.join(contact, contacts.first_sight(number))
            self.log_change(request, contact, "A number was added")
        else:
            self.message_user(request, "Type a phone number such as +919000000001.", messages.ERROR)
        return redirect("admin:calls_contact_change", pk)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        contact = kwargs.get("obj")
        context |= {
            "contact": contact,
            "numbers": contact.numbers.all() if contact else [],
            "may_change": self.has_change_permission(request),
        }
        return super().render_change_form(request, context, **kwargs)
