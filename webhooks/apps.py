from django.apps import AppConfig


class WebhooksConfig(AppConfig):
    name = "webhooks"
    verbose_name = "Inbox"

    def ready(self) -> None:
        """Add the kinds of alert that watch deliveries, and how providers' recordings are had."""
        from calls.alerting.kinds import KINDS  # they read models, which are loaded by now
        from calls.recordings import SOURCES
        from webhooks.alert_kinds import DELIVERY_KINDS
        from webhooks.providers import PROVIDERS

        KINDS.update(DELIVERY_KINDS)
        SOURCES.update((slug, one.recordings) for slug, one in PROVIDERS.items() if one.recordings)
