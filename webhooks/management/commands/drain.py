import json

from django.core.management.base import BaseCommand

from webhooks import processing, spool
from webhooks.models import Delivery


class Command(BaseCommand):
    help = "Processes everything pending in the inbox, then prints how much there was and exits."

    def handle(self, **options) -> None:
        spool.drain_spools()
        counts = processing.drain().counts
        statuses = ("processed", "ignored", "quarantined", "repeats")
        result = {status: counts[status] for status in statuses}
        result["pending"] = Delivery.objects.filter(status=Delivery.Status.PENDING).count()
        self.stdout.write(json.dumps(result))
