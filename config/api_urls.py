"""Addresses of the API. They stand here because they join both apps."""

from csp.constants import SELF, UNSAFE_INLINE
from csp.decorators import csp_replace
from django.urls import path, re_path
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.routers import SimpleRouter

from calls.api import views
from calls.api.about import Schema, UnknownPath
from calls.api.changes import ChangeViewSet
from calls.api.exporting import ConversationExport
from calls.api.live import LiveStreamViewSet
from calls.api.notes import ConversationNotesViewSet, NoteViewSet, TagViewSet
from calls.api.people import AgentViewSet, ContactViewSet
from calls.api.stats import TimeSeries
from calls.api.subscriptions import MessageViewSet, SubscriptionViewSet
from calls.api.worklist import StepsViewSet, WorklistViewSet
from webhooks.api import DeliveryViewSet

router = SimpleRouter()
router.register("accounts", views.AccountViewSet, "account")
router.register("conversations", views.ConversationViewSet, "conversation")
router.register("legs", views.LegViewSet, "leg")
router.register("events", views.EventViewSet, "event")
router.register("balances", views.BalanceViewSet, "balance")
router.register("alerts", views.AlertViewSet, "alert")
router.register("deliveries", DeliveryViewSet, "delivery")
router.register("live", views.LiveViewSet, "live")
router.register("notes", NoteViewSet, "note")
router.register("tags", TagViewSet, "tag")
router.register("agents", AgentViewSet, "agent")
router.register("contacts", ContactViewSet, "contact")
router.register("worklist", WorklistViewSet, "worklist")
router.register("subscriptions", SubscriptionViewSet, "subscription")
router.register(r"subscriptions/(?P<subscription>[^/]+)/messages", MessageViewSet, "subscription-message")

# Swagger UI sets style attributes; its scripts come from files.
docs = csp_replace({"style-src": [SELF, UNSAFE_INLINE]})(SpectacularSwaggerSplitView.as_view())

urlpatterns = [
    path("conversations/export/", ConversationExport.as_view({"get": "retrieve"}), name="conversation-export"),
    path("changes/", ChangeViewSet.as_view({"get": "retrieve"}), name="changes"),
    path("live/stream/", LiveStreamViewSet.as_view({"get": "retrieve"}), name="live-changes"),
    *router.urls,
    path(
        "conversations/<str:conversation>/notes/",
        ConversationNotesViewSet.as_view({"get": "list", "post": "create"}, detail=True),
        name="conversation-notes",
    ),
    path(
        "worklist/<str:pk>/steps/",
        StepsViewSet.as_view({"get": "list", "post": "create"}, detail=True),
        name="worklist-steps",
    ),
    path(
        "accounts/<str:slug>/statement/",
        views.StatementViewSet.as_view({"get": "retrieve"}, detail=True),
        name="statement",
    ),
    path("stats/timeseries/", TimeSeries.as_view({"get": "retrieve"}), name="timeseries"),
    path("stats/summary/", views.SummaryViewSet.as_view({"get": "retrieve"}), name="summary"),
    path("schema/", Schema.as_view(), name="schema"),
    path("docs/", docs, name="docs"),
    re_path("", UnknownPath.as_view()),
]
