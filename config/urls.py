from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from calls.admin import agents_report, live, second_step
from calls.admin.reveal import reveal
from config import health

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/code/", second_step.ask, name="second_step"),
    path("admin/code/set-up/", second_step.set_up, name="second_step_set_up"),
    path("admin/reveal/<str:label>/<str:pk>/<str:field>/", admin.site.admin_view(reveal), name="reveal"),
    path("admin/calls/number/", include("calls.admin.number")),
    *live.urls,
    *agents_report.urls,
    path("admin/", admin.site.urls),
    path("api/v1/", include("config.api_urls")),
    path("webhooks/", include("webhooks.urls")),
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("metrics", health.metrics),
]
handler400 = "config.errors.bad_request"
handler404 = "config.errors.not_found"
handler500 = "config.errors.server_error"
