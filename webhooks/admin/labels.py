"""Words that several pages of the inbox show."""

from django.utils.html import format_html

from calls.models import Account
from webhooks.models import Delivery
from webhooks.providers import PROVIDERS


def label_of(account: Account) -> str:
    """Return the name of the account's provider; its slug when the adapter is gone."""
    provider = PROVIDERS.get(account.provider)
    return provider.label if provider else account.provider


def status_word(delivery: Delivery) -> str:
    """Return the status of a delivery as a coloured word."""
    return format_html('<span class="rl-word rl-{}">{}</span>', delivery.status, delivery.get_status_display())
