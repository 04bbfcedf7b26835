"""Saved views of the list of conversations: the menu above the list, and what its forms do."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

from django import forms
from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.contrib.admin.utils import label_for_field
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST

from calls import audit
from calls.access import masked, may_see_numbers
from calls.admin.conversation_list import (
    ALL,
    COLUMNS,
    COLUMNS_PARAMETER,
    VIEW,
    choice_of,
    columns_of,
    known_columns,
    state_of,
)
from calls.models import AuditEntry, ListChoice, SavedView

LIST = "admin:calls_conversation_changelist"
SHARING = "calls.share_savedview"


class SavedViewForm(forms.ModelForm):
    """A name for what the list shows."""

    class Meta:
        model = SavedView
        fields = ["owner", "name", "query", "is_shared"]

    def clean_query(self) -> str:
        return state_of(QueryDict(self.cleaned_data["query"]))


class SavedViewsMixin:
    """Puts saved views and the choice of columns on the list; it goes before ``BaseAdmin`` and its like."""

    list_before_template = "calls/conversation_list.html"

    def get_urls(self) -> list[URLPattern]:
        def route(address: str, view: Any, name: str) -> URLPattern:
            return path(address, self.admin_site.admin_view(view), name=f"calls_conversation_{name}")

        return [
            route("views/save/", require_POST(self.save_view), "save_view"),
            route("views/<int:pk>/", self.open_view, "view"),
            route("views/<int:pk>/change/", require_POST(self.change_saved_view), "change_view"),
            route("views/first/", require_POST(self.set_first_view), "first_view"),
            route("columns/", require_POST(self.set_columns), "columns"),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if request.method == "GET" and self.has_view_permission(request):
            first = choice_of(request).first_view
            if not request.GET and first and _may_see(request, first):
                return redirect(address_of(first))
            extra_context = menu(request, self) | (extra_context or {})
        return super().changelist_view(request, extra_context)

    def open_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Lead to the list as the view has it."""
        self._check(request)
        view = get_object_or_404(seen_views(request), pk=pk)
        if not may_see_numbers(request.user) and masked(view.query) != view.query and view.owner != request.user:
            messages.error(request, f"The view “{view}” looks for a number, which you may not see.")
            return _to_list("", ALL)
        return redirect(address_of(view))

    def save_view(self, request: HttpRequest) -> HttpResponse:
        """Keep what the list shows under a new name."""
        self._check(request)
        return self._save(request, SavedView(owner=request.user), AuditEntry.Action.ADD)

    def change_saved_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Change the name, the sharing or the query of a view, or delete it."""
        self._check(request)
        view = get_object_or_404(changeable_views(request), pk=pk)
        if "delete" not in request.POST:
            return self._save(request, view, AuditEntry.Action.CHANGE)
        audit.record(request, AuditEntry.Action.DELETE, view, f"saved view “{view}”")
        messages.success(request, f"The view “{view}” is deleted.")
        view.delete()
        return _to_list(state_of(QueryDict(request.POST.get("query", ""))), ALL)

    def set_first_view(self, request: HttpRequest) -> HttpResponse:
        """Have the list open with a view of the viewer's choice, or with all calls."""
        self._check(request)
        pk = request.POST.get("view", "")
        view = get_object_or_404(seen_views(request), pk=pk) if pk.isdecimal() else None
        ListChoice.objects.update_or_create(user=request.user, defaults={"first_view": view})
        messages.success(request, f"The list now opens with {f'“{view}”' if view else 'all calls'}.")
        return redirect(address_of(view)) if view else _to_list("", ALL)

    def set_columns(self, request: HttpRequest) -> HttpResponse:
        """Keep which columns the viewer wants, in their order."""
        self._check(request)
        columns = [] if "usual" in request.POST else known_columns(["customer", *request.POST.getlist("column")])
        ListChoice.objects.update_or_create(user=request.user, defaults={"columns": columns})
        query = QueryDict(request.POST.get("query", ""), mutable=True)
        query.pop(COLUMNS_PARAMETER, None)
        return _to_list(query.urlencode(), "" if VIEW in query else ALL)

    def _check(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied

    def _save(self, request: HttpRequest, view: SavedView, action: AuditEntry.Action) -> HttpResponse:
        may_share = request.user.has_perm(SHARING)
        is_shared = "is_shared" in request.POST if may_share else view.is_shared
        values = {"owner": view.owner_id, "name": request.POST.get("name"), "query": request.POST.get("query")}
        form = SavedViewForm(values | {"is_shared": is_shared}, instance=view)
        if not form.is_valid():
            messages.error(request, " ".join(text for texts in form.errors.values() for text in texts))
            return _to_list(request.POST.get("query", ""), "" if view.pk else ALL)
        form.save()
        audit.record(request, action, view, f"saved view “{view}”", is_shared=view.is_shared)
        messages.success(request, f"“{view}” is saved{' and shared' if view.is_shared else ''}.")
        return redirect(address_of(view))


def menu(request: HttpRequest, model_admin: ModelAdmin) -> dict[str, Any]:
    """Return what the menu above the list shows."""

    def labelled(names: Iterable[str]) -> list[tuple[str, str]]:
        return [(name, label_for_field(COLUMNS[name], model_admin.model, model_admin)) for name in names]

    views = list(seen_views(request).select_related("owner"))
    opened = next((view for view in views if str(view.pk) == request.GET.get(VIEW)), None)
    columns = columns_of(request)
    query = QueryDict(mutable=True)
    query.update(QueryDict(state_of(request.GET)))
    query[COLUMNS_PARAMETER] = ",".join(columns)
    state = state_of(query)
    return {
        "views": views,
        "opened_view": opened,
        "is_opened_view_changed": bool(opened) and state_of(request.GET) != opened.query,
        "may_change_view": bool(opened) and (opened.owner_id == request.user.pk or request.user.is_superuser),
        "may_share_views": request.user.has_perm(SHARING),
        "first_view": choice_of(request).first_view,
        "view_query": state,
        "list_query": request.GET.urlencode(),
        "list_parameters": [*parse_qsl(state_of(request.GET)), (VIEW, request.GET.get(VIEW) or ALL)],
        "chosen_columns": labelled(name for name in columns if name != "customer"),
        "other_columns": labelled(name for name in COLUMNS if name not in columns),
    }


def seen_views(request: HttpRequest) -> QuerySet[SavedView]:
    """Return the viewer's own views and those that are shared."""
    return SavedView.objects.filter(Q(owner=request.user) | Q(is_shared=True))


def changeable_views(request: HttpRequest) -> QuerySet[SavedView]:
    """Return the viewer's own views; an administrator may also tidy up what others share."""
    return seen_views(request) if request.user.is_superuser else SavedView.objects.filter(owner=request.user)


def address_of(view: SavedView) -> str:
    """Return the address of the list as the view has it."""
    return f"{reverse(LIST)}?{view.query}{'&' if view.query else ''}{VIEW}={view.pk}"


def _may_see(request: HttpRequest, view: SavedView) -> bool:
    return view.is_shared or view.owner_id == request.user.pk


def _to_list(query: str, view: str) -> HttpResponse:
    """Lead to the list; ``view`` is added to the query unless it is empty."""
    parts = [query, f"{VIEW}={view}" if view else ""]
    return redirect(f"{reverse(LIST)}?{'&'.join(filter(None, parts))}")
