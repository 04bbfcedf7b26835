"""Channels: where notices of alerts go, whether they get through, and a test of each."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import OuterRef, QuerySet, Subquery
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.views.decorators.http import require_POST
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextareaWidget

from calls.admin.base import BaseAdmin
from calls.alerting import notices
from calls.models import Channel, Notice
from calls.models.channel import new_secret
from calls.templatetags import words


class ChannelForm(ModelForm):
    """A target takes a line, or a few."""

    class Meta:
        widgets = {"target": UnfoldAdminTextareaWidget({"rows": 3})}


@admin.register(Channel)
class ChannelAdmin(BaseAdmin):
    """Where notices of alerts go, and whether they get through."""

    form = ChannelForm
    list_display = ["name", "kind_text", "state", "last_sent"]
    search_fields = ["name"]
    fields = ["name", "kind", "target", "is_active"]
    change_form_outer_before_template = "calls/channel.html"

    @display(description="kind", ordering="kind")
    def kind_text(self, channel: Channel) -> str:
        return channel.get_kind_display()

    @display(description="state")
    def state(self, channel: Channel) -> str:
        return state_of(channel)

    @display(description="last sent")
    def last_sent(self, channel: Channel) -> str:
        return words.moment(channel.last_sent_at)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Channel]:
        newest = Notice.objects.filter(channel=OuterRef("pk"), sent_at__isnull=False).order_by("-sent_at")
        return super().get_queryset(request).annotate(last_sent_at=Subquery(newest.values("sent_at")[:1]))

    def get_fields(self, request: HttpRequest, obj: Channel | None = None) -> list[str]:
        """Keep the target, which often holds a token, from those who may only look."""
        may_see = obj is None or obj.kind == Channel.Kind.EMAIL or self.has_change_permission(request, obj)
        return [name for name in self.fields if name != "target" or may_see]

    def has_delete_permission(self, request: HttpRequest, obj: Channel | None = None) -> bool:
        is_used = obj is None or obj.notices.exists()  # they are the log of who was told; it can be switched off
        return not is_used and super().has_delete_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: Channel, form: ModelForm, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if not obj.is_active:
            notices.give_up(obj, "The channel was switched off.")
        elif {"target", "kind", "is_active"} & set(form.changed_data):
            Channel.objects.filter(pk=obj.pk).update(failing_since=None, last_error="")

    def get_urls(self) -> list[URLPattern]:
        def post(name: str, view: Any) -> URLPattern:
            view = self.admin_site.admin_view(require_POST(view))
            return path(f"<int:pk>/{name.replace('_', '-')}/", view, name=f"calls_channel_{name}")

        return [post("test", self.test), post("new_secret", self.new_secret), *super().get_urls()]

    def test(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Send a test message now and say what became of it."""
        channel = self._channel(request, pk)
        if error := notices.send_test(channel):
            self.message_user(request, f"The test message did not go out. {error}", messages.ERROR)
        else:
            self.message_user(request, "The test message went out.")
        self.log_change(request, channel, "Tested")
        return redirect("admin:calls_channel_change", pk)

    def new_secret(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Sign with another secret from now on."""
        channel = self._channel(request, pk)
        Channel.objects.filter(pk=pk).update(secret=new_secret())
        self.log_change(request, channel, "New secret")
        text = "The secret is new. Give it to the receiver, which cannot check notices with the old one any more."
        self.message_user(request, text, messages.WARNING)
        return redirect("admin:calls_channel_change", pk)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        channel = kwargs.get("obj")
        if channel:
            context |= {
                "channel": channel,
                "channel_state": state_of(channel),
                "is_webhook": channel.kind == Channel.Kind.WEBHOOK,
                "may_change": self.has_change_permission(request, channel),
                "has_notices": channel.notices.exists(),
            }
        return super().render_change_form(request, context, **kwargs)

    def _channel(self, request: HttpRequest, pk: int) -> Channel:
        if not self.has_change_permission(request):
            raise PermissionDenied
        return get_object_or_404(Channel, pk=pk)


def state_of(channel: Channel) -> str:
    """Return whether a channel works: a coloured word, and why not."""
    if not channel.is_active:
        word, label = "unknown", "Off"
    elif channel.failing_since:
        word, label = "missed", "Failing"
    else:
        word, label = "answered", "Working"
    state = format_html('<span class="rl-word rl-{}">{}</span>', word, label)
    if channel.failing_since:
        state = format_html("{} since {}", state, words.moment(channel.failing_since))
    if channel.last_error:
        state = format_html('{}<div class="rl-reason">{}</div>', state, channel.last_error)
    return state
