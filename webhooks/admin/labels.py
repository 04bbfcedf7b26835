"""Words that several pages of the inbox show."""

from django.utils.html import format_html

from calls.models import Account
from webhooks.models import Delivery
from webhooks.providers import PROVIDERS

ADVICE = {
    "UndecodableBody": "The body is neither JSON nor a form. Look at it; ask the provider when it looks cut off.",
    "UnrecognizedPayload": "No notification that the adapter knows. If it should be one, the adapter needs an update.",
    "UnknownWord": "A status word that is new to us. The adapter's table needs it; afterwards, process it again.",
    "BadField": "The field holds a value that makes no sense. When it does make sense, the adapter needs an update.",
    "WrongAccount": "It speaks of another account of the provider. Compare the account's app id, or give the provider "
    "the other account's webhook URL; then process it again.",
    "Crash": "A fault of ours; the traceback is below. After it is mended, process it again.",
    "TooSlow": "Reading it took too long, which is the adapter's fault. After that is mended, process it again.",
    "TooLarge": "The body was over the limit, so only its beginning was kept. It cannot be processed.",
}
"""What staff can do about a quarantined delivery, by the class of its error."""


def label_of(account: Account) -> str:
    """Return the name of the account's provider; its slug when the adapter is gone."""
    provider = PROVIDERS.get(account.provider)
    return provider.label if provider else account.provider


def status_word(delivery: Delivery) -> str:
    """Return the status of a delivery as a coloured word."""
    return format_html('<span class="rl-word rl-{}">{}</span>', delivery.status, delivery.get_status_display())
