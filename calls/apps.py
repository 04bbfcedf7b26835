from django.apps import AppConfig
from django.db.models.signals import post_migrate


class CallsConfig(AppConfig):
    name = "calls"
    verbose_name = "Calls"

    def ready(self) -> None:
        """Have the roles made, and log-ins written down."""
        from calls import audit, staff_sessions  # they read models, which are loaded by now
        from calls.roles import make_roles

        post_migrate.connect(make_roles, dispatch_uid="calls.roles")
        audit.watch_logins()
        staff_sessions.watch_logins()
