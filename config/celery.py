import os
import warnings

from celery import Celery
from celery.exceptions import SecurityWarning
from kombu.transport import TRANSPORT_ALIASES, virtual

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
# It warns root of pickled tasks; ours are JSON only (CELERY_ACCEPT_CONTENT).
warnings.filterwarnings("ignore", category=SecurityWarning)
# A worker that loses its broker would put back what it has not finished, over the connection that is gone, and dump
# what it cannot put back into a file. A nudge is not worth it.
virtual.QoS.restore_at_shutdown = False

TRANSPORT_ALIASES["folder"] = "config.file_queue:Transport"
app = Celery("ringledger")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
