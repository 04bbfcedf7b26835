"""Settings. Everything that differs between installations comes from the environment, through ``config.env`` only."""

from datetime import timedelta
from pathlib import Path

from csp.constants import NONCE, NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE

from config import env
from config.admin_theme import UNFOLD  # noqa: F401 - read by the admin theme
from config.rest import REST_FRAMEWORK, SPECTACULAR_SETTINGS  # noqa: F401 - read by the API

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = env.directory("DATA_DIR", BASE_DIR / "var")

# --- Where it runs --------------------------------------------------------------------------------------------------

DEBUG = env.flag("DEBUG", default=False)
PORT = env.integer("PORT", 8000, low=1, high=65535)
SECRET_KEY = env.secret_key("SECRET_KEY", debug=DEBUG, directory=DATA_DIR)
ALLOWED_HOSTS = env.names("ALLOWED_HOSTS") or ["localhost", "127.0.0.1", "[::1]"]
CSRF_TRUSTED_ORIGINS = env.origins("CSRF_TRUSTED_ORIGINS")
PUBLIC_URL = env.text("PUBLIC_URL", CSRF_TRUSTED_ORIGINS[0] if CSRF_TRUSTED_ORIGINS else f"http://127.0.0.1:{PORT}")
"""Address under which providers reach this server; webhook URLs start with it."""
IS_HTTPS = PUBLIC_URL.startswith("https://")
TRUSTED_PROXIES = env.integer("TRUSTED_PROXIES", 0, low=0, high=10)
"""How many proxies of ours stand in front and add to X-Forwarded-For; 0 takes the address of the connection."""
METRICS = env.flag("METRICS", default=False)
"""Whether /metrics answers."""
API_RATE_PER_MINUTE = env.integer("API_RATE_PER_MINUTE", 1200, low=1, high=1_000_000)
"""Requests that an API key without a limit of its own may make in a minute."""
API_UNKNOWN_KEYS_PER_MINUTE = 60
"""Keys that there never were which one address may try in a minute; then it is not heard until the minute is over."""

# --- Parts ----------------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "csp",
    "rest_framework",
    "django_filters",
    "axes",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "calls",
    "webhooks",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "config.middleware.RefuseUnstorableText",
    "config.middleware.RefuseBodiesOfUnknownLength",
    "config.middleware.RateLimitHeaders",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "config.middleware.ViewerZone",
    "config.middleware.NumbersAsTheViewerMaySee",
    "config.sessions.StaffSessions",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
WSGI_APPLICATION = "config.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# --- Storage --------------------------------------------------------------------------------------------------------

DATABASES = {"default": env.database("DATABASE_URL", f"sqlite:///{DATA_DIR / 'ringledger.sqlite3'}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        # A transaction that starts to read and then writes cannot wait for another writer: it fails at once.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        # FULL: what was acknowledged to a provider survives a power cut.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    }
else:
    # What the URL says, such as sslmode, comes on top.
    DATABASES["default"]["OPTIONS"] = {
        "pool": {"min_size": 1, "max_size": 8, "timeout": 10},
        "connect_timeout": 2,
        "keepalives_idle": 5,
        "tcp_user_timeout": 5000,
    } | DATABASES["default"].get("OPTIONS", {})

REDIS_URL = env.redis_url("REDIS_URL")
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}
    if REDIS_URL
    else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
}

# --- People ---------------------------------------------------------------------------------------------------------

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
# Of both together: of the name alone, anybody could lock others out; of the address alone, one office would share it.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_CLIENT_IP_CALLABLE = "calls.senders.address_of"
AXES_LOCKOUT_CALLABLE = "config.sessions.locked_out"
AXES_ENABLE_ADMIN = False
AXES_DISABLE_ACCESS_LOG = True  # the audit log has them
AXES_VERBOSE = False
REQUIRE_TOTP = env.flag("REQUIRE_TOTP", default=False)
"""Whether all staff must give a code from an app after their password; else those who set it up or are told to."""
OTP_TOTP_ISSUER = "Ringledger"
SESSION_IDLE_SECONDS = 3600
"""After this long without a page asked for, staff must log in again; so they must, at the latest, after a shift."""
MOST_SESSIONS = 3
"""Places at which a member of staff may be logged in at a time; one more ends the oldest."""
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
SESSION_COOKIE_AGE = 12 * 3600
LANGUAGE_CODE = "en"
USE_TZ = True
TIME_ZONE = "UTC"
TIME_ZONE_DISPLAY = env.time_zone("TIME_ZONE_DISPLAY", "Asia/Kolkata")
"""Zone in which staff see times until their browser has told its own."""
DEFAULT_FROM_EMAIL = env.text("DEFAULT_FROM_EMAIL", "ringledger@localhost")
vars().update(env.email("EMAIL_URL", "consolemail://"))
EMAIL_TIMEOUT = 10  # seconds for each step; without it a mail server that hangs holds a worker
ALLOWED_PRIVATE_TARGETS = env.networks("ALLOWED_PRIVATE_TARGETS")
"""Networks that notices may be sent to, and recordings had from, although they are not on the public internet."""

# --- Security -------------------------------------------------------------------------------------------------------

SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = IS_HTTPS
SESSION_COOKIE_SAMESITE = "Lax"
SECURE_HSTS_SECONDS = 31_536_000 if IS_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = IS_HTTPS
SECURE_HSTS_PRELOAD = IS_HTTPS
if TRUSTED_PROXIES:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
# Plain http is refused or redirected by the proxy: a redirect here would turn a provider's POST into a GET.
SILENCED_SYSTEM_CHECKS = ["security.W008"]
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF, NONCE],
        "style-src": [SELF, NONCE],
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
        "base-uri": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}
# The admin theme evaluates Alpine expressions and sets style attributes; config.middleware applies this to /admin/.
ADMIN_CSP = {"script-src": [SELF, NONCE, UNSAFE_EVAL], "style-src": [SELF, UNSAFE_INLINE]}

# --- Static files ---------------------------------------------------------------------------------------------------

STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
STATIC_ROOT.mkdir(exist_ok=True)
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

# --- Work behind the scenes -----------------------------------------------------------------------------------------

CELERY_BROKER_URL = REDIS_URL or "folder://localhost"  # see config.file_queue
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = "UTC"
# Nobody waits for a nudge: a lost one is made good by the sweep, a blocked caller is not.
CELERY_TASK_PUBLISH_RETRY = False
CELERY_BROKER_CONNECTION_TIMEOUT = 2
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # the default gives up after 100 and leaves a worker that does nothing
CELERY_BROKER_CHANNEL_ERROR_RETRY = True  # a Redis without memory, or one that is loading, must not end the worker
CELERY_TASK_ACKS_LATE = True  # so that a worker takes no more than it is working on
# A task whose process was killed is not run again by the broker, where it would loop; the sweep does it.
CELERY_TASK_REJECT_ON_WORKER_LOST = False
# The last wall: what hangs where no other limit reaches. No soft limit: it would be raised in the middle of whatever
# runs, and would look like a fault of the delivery there.
CELERY_TASK_TIME_LIMIT = 60
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# Work needs no broker. Were it killed whenever Redis goes away, deliveries would be taken for what kills workers.
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
# SIGQUIT ends a worker at once; with this it may first finish the batch at hand.
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 5
CELERY_WORKER_MAX_MEMORY_PER_CHILD = 500_000  # kB; Python keeps what one batch of large bodies has taken
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
if REDIS_URL:
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        # Redis keeps no list of what is being worked on: the sweep does better. With it, a task that ends while the
        # connection is made anew ends its worker too (AttributeError in kombu 5.7, seen in one of two restarts).
        "ack_emulation": False,
        "socket_timeout": 10,  # without these a frozen Redis holds a caller for minutes
        "socket_connect_timeout": 2,
        "socket_keepalive": True,
        # A worker asks for the next task and waits; after this much longer than it should it connects anew.
        "health_check_interval": 5,
        "global_keyprefix": "ringledger:",
    }
else:
    _QUEUE = DATA_DIR / "queue"
    for _name in ("messages", "control"):
        (_QUEUE / _name).mkdir(parents=True, exist_ok=True)
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(_QUEUE / "messages"),
        "data_folder_out": str(_QUEUE / "messages"),
        "control_folder": str(_QUEUE / "control"),
        "polling_interval": 0.1,
    }


def _every(seconds: int, task: str) -> dict[str, object]:
    """Return a schedule's entry: one turn per slot of ``seconds``, however many schedulers run.

    It expires before the next one, so that a worker that was away does not run a backlog of the same.
    """
    return {
        "task": "calls.tasks.in_turn",
        "schedule": seconds,
        "args": [task, seconds],
        "options": {"expires": seconds},
    }


CELERY_BEAT_SCHEDULE = {
    "sweep the inbox": _every(5, "webhooks.tasks.drain"),
    "go on with rebuilds": _every(3, "webhooks.tasks.rebuild"),
    "pull lists of calls": _every(900, "webhooks.tasks.pull"),
    "close silent calls": _every(60, "calls.tasks.close_silent_calls"),
    "refresh rollups": _every(60, "calls.tasks.refresh_rollups"),
    "review alerts": _every(30, "calls.tasks.review_alerts"),
    "watch recordings": _every(60, "calls.tasks.watch_recordings"),
    "see to exports": _every(5, "calls.tasks.sweep_exports"),
    "send notices": _every(10, "calls.tasks.send_notices"),
    "sweep changes": _every(86400, "calls.tasks.sweep_changes"),
    "forget answered requests": _every(600, "calls.tasks.forget_idempotent_requests"),
    "tell subscribers": _every(5, "calls.tasks.tell_subscribers"),
    "sweep messages": _every(300, "calls.tasks.sweep_messages"),
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"secrets": {"()": "config.logs.HideSecrets"}},
    "formatters": {"line": {"()": "config.logs.OneLine"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["secrets"]}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        # Its lines name every path in full, webhook tokens included.
        "uvicorn.access": {"level": "WARNING"},
        "httpx": {"level": "WARNING"},
        "axes": {"level": "WARNING"},  # the audit log has what it says
        # It names the addresses that it cannot read, tokens included.
        "apprise": {"level": "CRITICAL"},
        # The development server's own handler would print paths unmasked.
        "django.server": {"handlers": ["stderr"], "propagate": False},
    },
}
