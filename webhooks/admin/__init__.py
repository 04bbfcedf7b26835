"""The admin of the inbox, and of accounts with the URLs by which their deliveries come in."""

from webhooks.admin import account, delivery, rebuild

__all__ = ["account", "delivery", "rebuild"]
