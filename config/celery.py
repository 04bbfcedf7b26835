import os
import warnings

from celery import Celery
from celery.exceptions import SecurityWarning

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
# It warns root of pickled tasks; ours are JSON only (CELERY_ACCEPT_CONTENT).
warnings.filterwarnings("ignore", category=SecurityWarning)

app = Celery("ringledger")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
