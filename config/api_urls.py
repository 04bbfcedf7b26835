"""Addresses of the API. They stand here because they join both apps."""

from csp.constants import SELF, UNSAFE_INLINE
from csp.decorators import csp_replace
from django.urls import path, re_path
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView
from rest_framework.routers import SimpleRouter

from calls.api import views
from calls.api.problems import UnknownPath
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

# Swagger UI sets style attributes; its scripts come from files.
docs = csp_replace({"style-src": [SELF, UNSAFE_INLINE]})(SpectacularSwaggerSplitView.as_view())

urlpatterns = [
    *router.urls,
    path(
        "accounts/<str:slug>/statement/",
        views.StatementViewSet.as_view({"get": "retrieve"}, detail=True),
        name="statement",
    ),
    path("stats/summary/", views.SummaryViewSet.as_view({"get": "retrieve"}), name="summary"),
    path("schema/", SpectacularJSONAPIView.as_view(), name="schema"),
    path("docs/", docs, name="docs"),
    re_path("", UnknownPath.as_view()),
]
