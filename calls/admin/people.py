"""Staff: logins, what each is concerned with, teams and roles. Nobody can hand out more than they hold themselves."""

import contextlib
from typing import Any

from axes.models import AccessAttempt
from django.contrib import admin, messages
from django.contrib.admin.exceptions import NotRegistered
from django.contrib.auth.admin import GroupAdmin as StockGroupAdmin
from django.contrib.auth.admin import UserAdmin as StockUserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Field, ManyToManyField, Q, QuerySet
from django.forms import Field as FormField
from django.forms import ModelMultipleChoiceField
from django.http import HttpRequest
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice
from unfold.admin import StackedInline
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from calls.access import reach_of
from calls.admin.base import BaseAdmin
from calls.admin.second_step import forget_devices
from calls.models import StaffAccess, StaffSession, Team
from calls.templatetags import words

for model in (User, Group):
    admin.site.unregister(model)
for model in (TOTPDevice, StaticDevice):  # their pages would show secrets
    with contextlib.suppress(NotRegistered):
        admin.site.unregister(model)


class AccessInline(StackedInline):
    """What somebody is concerned with. Only who sees everything may say it."""

    model = StaffAccess
    fields = ["accounts", "team", "agents", "is_code_required"]
    autocomplete_fields = ["accounts", "agents"]
    can_delete = False
    verbose_name_plural = "what this person is concerned with"

    def has_add_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return reach_of(request.user).is_everything and super().has_add_permission(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return reach_of(request.user).is_everything and super().has_change_permission(request, obj)


@admin.register(User)
class UserAdmin(StockUserAdmin, BaseAdmin):
    """Members of staff. One who may do more than the viewer can be looked at, not changed."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    inlines = [AccessInline]
    filter_horizontal = []
    list_display = ["username", "full_name", "roles", "has_app", "is_active", "seen"]
    list_filter = ["is_active", "groups"]
    actions = ["forget_app", "log_out"]
    fieldsets = [
        (None, {"fields": ["username", "password"]}),
        ("Person", {"fields": ["first_name", "last_name", "email"]}),
        (
            "Role",
            {
                "fields": ["is_active", "is_staff", "groups"],
                "description": "Viewer and manager: the accounts below. Supervisor: the team below. Agent: the own "
                "calls, by the agents below. Auditor: everything, to look at. Administrator: everything.",
            },
        ),
        ("Beyond roles", {"fields": ["is_superuser", "user_permissions"], "classes": ["collapse"]}),
        ("Dates", {"fields": ["last_login", "date_joined"]}),
    ]

    @display(description="name")
    def full_name(self, user: User) -> str:
        return user.get_full_name() or words.EMPTY

    @display(description="roles")
    def roles(self, user: User) -> str:
        names = [group.name for group in user.groups.all()]
        return ", ".join(["superuser"] * user.is_superuser + names) or words.EMPTY

    @display(description="app with codes", boolean=True)
    def has_app(self, user: User) -> bool:
        return bool(user.devices)

    @display(description="last log-in", ordering="last_login")
    def seen(self, user: User) -> str:
        return words.moment(user.last_login)

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        devices = Count("totpdevice", filter=Q(totpdevice__confirmed=True))
        return super().get_queryset(request).annotate(devices=devices).prefetch_related("groups")

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> list:
        """Leave what goes beyond roles to superusers."""
        fieldsets = super().get_fieldsets(request, obj)
        return [one for one in fieldsets if request.user.is_superuser or one[0] != "Beyond roles"]

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        return ["last_login", "date_joined"]

    def formfield_for_dbfield(self, db_field: Field, request: HttpRequest, **kwargs: Any) -> FormField | None:
        if db_field.name != "groups":
            return super().formfield_for_dbfield(db_field, request, **kwargs)
        field = super().formfield_for_dbfield(
            db_field, request, **kwargs, widget=UnfoldAdminCheckboxSelectMultipleWidget, help_text=""
        )
        field.label = "Roles"
        field.widget = getattr(field.widget, "widget", field.widget)  # without the buttons to add and edit those
        return field

    def formfield_for_manytomany(
        self, db_field: ManyToManyField, request: HttpRequest, **kwargs: Any
    ) -> ModelMultipleChoiceField | None:
        if db_field.name == "groups" and not request.user.is_superuser:
            beyond = Permission.objects.exclude(pk__in=held_by(request.user))
            kwargs["queryset"] = Group.objects.exclude(permissions__in=beyond)
        if db_field.name == "user_permissions":
            kwargs["widget"] = UnfoldAdminCheckboxSelectMultipleWidget()
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_change_permission(request, obj) and may_manage(request.user, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        # What somebody did stays in the audit log under the name: a login is switched off, not deleted.
        return False

    @admin.action(description="Forget the app with codes (lost phone)", permissions=["change"])
    def forget_app(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        for user in self._manageable(request, queryset):
            forget_devices(request, user)
            self.message_user(request, f"{user} logs in with the password alone until the app is set up again.")

    @admin.action(description="Log out everywhere", permissions=["change"])
    def log_out(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        for user in self._manageable(request, queryset):
            StaffSession.objects.filter(user=user).delete()
            self.log_change(request, user, "Logged out everywhere")
            self.message_user(request, f"{user} is logged out everywhere.", messages.WARNING)

    def _manageable(self, request: HttpRequest, queryset: QuerySet[User]) -> list[User]:
        users = list(queryset)
        if not all(may_manage(request.user, user) for user in users):
            raise PermissionDenied
        return users


@admin.register(Group)
class GroupAdmin(StockGroupAdmin, BaseAdmin):
    """Roles. The six that are made with the program get what they lack back at every update."""

    filter_horizontal = []

    def formfield_for_manytomany(
        self, db_field: ManyToManyField, request: HttpRequest, **kwargs: Any
    ) -> ModelMultipleChoiceField | None:
        if db_field.name == "permissions" and not request.user.is_superuser:
            kwargs["queryset"] = held_by(request.user)
        # Tick boxes work by keyboard, with a screen reader and on a phone; the two lists side by side do not.
        kwargs["widget"] = UnfoldAdminCheckboxSelectMultipleWidget()
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return super().has_change_permission(request, obj) and _holds_all_of(request.user, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return super().has_delete_permission(request, obj) and _holds_all_of(request.user, obj)


@admin.register(Team)
class TeamAdmin(BaseAdmin):
    """Agents who work together, and the staff who see their calls. Only who sees everything may change one."""

    list_display = ["name", "agent_count", "staff_count"]
    search_fields = ["name"]
    autocomplete_fields = ["agents"]

    @display(description="agents")
    def agent_count(self, team: Team) -> int:
        return team.agents_in

    @display(description="staff")
    def staff_count(self, team: Team) -> int:
        return team.staff_in

    def get_queryset(self, request: HttpRequest) -> QuerySet[Team]:
        counts = {"agents_in": Count("agents", distinct=True), "staff_in": Count("staff", distinct=True)}
        teams = super().get_queryset(request).annotate(**counts)
        return teams if reach_of(request.user).is_everything else teams.filter(staff__user=request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return reach_of(request.user).is_everything and super().has_add_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Team | None = None) -> bool:
        return reach_of(request.user).is_everything and super().has_change_permission(request, obj)


@admin.register(AccessAttempt)
class LockAdmin(BaseAdmin):
    """Failed log-ins that count towards a lock. To delete them is to unlock."""

    list_display = ["username", "ip_address", "failures_since_start", "when"]
    search_fields = ["username"]
    fields = readonly_fields = ["username", "ip_address", "failures_since_start", "when"]
    actions = ["unlock"]

    @display(description="last")
    def when(self, attempt: AccessAttempt) -> str:
        return words.moment(attempt.attempt_time)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: AccessAttempt | None = None) -> bool:
        return False

    @admin.action(description="Unlock", permissions=["delete"])
    def unlock(self, request: HttpRequest, queryset: QuerySet[AccessAttempt]) -> None:
        self.log_deletions(request, queryset)
        names = ", ".join(sorted(set(queryset.values_list("username", flat=True))))
        queryset.delete()
        self.message_user(request, f"Unlocked: {names}.")


def held_by(user: User) -> QuerySet[Permission]:
    """Return the permissions that ``user`` holds."""
    if user.is_superuser:
        return Permission.objects.all()
    return Permission.objects.filter(Q(user=user) | Q(group__user=user)).distinct()


def may_manage(user: User, other: User | None) -> bool:
    """Return whether ``user`` holds all that ``other`` does: whoever sets a password can log in with it."""
    if user.is_superuser or other is None:
        return True
    return not other.is_superuser and not held_by(other).exclude(pk__in=held_by(user)).exists()


def _holds_all_of(user: User, group: Group | None) -> bool:
    if user.is_superuser or group is None:
        return True
    return not group.permissions.exclude(pk__in=held_by(user)).exists()
