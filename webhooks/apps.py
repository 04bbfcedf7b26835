from django.apps import AppConfig


class WebhooksConfig(AppConfig):
    name = "webhooks"
    verbose_name = "Inbox"

    def ready(self) -> None:
        """Add the kinds of alert that watch deliveries."""
        from calls.alerting.kinds import KINDS  # they read models, which are loaded by now
        from webhooks.alert_kinds import DELIVERY_KINDS

        KINDS.update(DELIVERY_KINDS)
