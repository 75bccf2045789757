"""Django's settings, made from the settings of the service and its apps.

If the environment sets none, this is a development copy, with embedded servers, its own secret key,
and visitors without an account. `PRODUCTION=true` requires some settings, and an error names those
that are missing.
"""

import os
from urllib.parse import quote

from config.data_dir import make_writable, socket_path
from config.settings.database import database
from config.settings.env import REQUIRED, ServiceSettings
from config.settings.framework import *  # noqa: F403  # the same in every copy
from config.settings.redis_urls import broker_url, redis_urls
from config.settings.renamed import refuse_old_names
from config.settings.secret_key import development_key
from streams.conf import is_embedded
from streams.environment import load

refuse_old_names(os.environ)
env = load(ServiceSettings)
values = env.model_dump(exclude={"CELERY_QUEUE"})  # Celery would read it as its own setting
globals().update(values)  # the code reads each as `django.conf.settings.NAME`

# ── The data folder ──────────────────────────────────────────────────────────────────────────
DATA_DIR = env.DATA_DIR.resolve()
# If one of these is not set, its replacement stores files in the data folder.
unset = [names for names in REQUIRED if not env.model_fields_set.intersection(names)]
if unset not in ([], [("ALLOWED_HOSTS",)]) or not DATA_DIR.is_dir():
    make_writable(DATA_DIR)
SECRET_KEY = env.SECRET_KEY or development_key(DATA_DIR)
ALLOWED_HOSTS = env.ALLOWED_HOSTS
if env.PRODUCTION:
    ALLOWED_HOSTS = [*ALLOWED_HOSTS, "127.0.0.1", "[::1]"]  # health checks from this machine
DATABASE_URL = env.DATABASE_URL or f"sqlite:///{quote(str(DATA_DIR / 'db.sqlite3'))}"
DATABASES = {"default": database(DATABASE_URL, connections=env.DATABASE_CONNECTIONS)}

# ── The model ────────────────────────────────────────────────────────────────────────────────
EMBEDDED_MODEL = is_embedded(values)  # SmolLM2, on this machine's CPU
MODEL_URL_FILE = DATA_DIR / "model.url"  # the embedded model writes its URL to this file
# Bytes of the longest body: a message and a system text in JSON, as in request_limits.py.
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 12 * env.MAX_MESSAGE_CHARS + 16_384
# Django would write a longer body to a file, and all streams would wait for the disk.
FILE_UPLOAD_MAX_MEMORY_SIZE = DATA_UPLOAD_MAX_MEMORY_SIZE

# ── The log and the broker ───────────────────────────────────────────────────────────────────
EMBEDDED_VALKEY = not env.REDIS_URL
VALKEY_SOCKET = socket_path(DATA_DIR, "valkey.sock")
REDIS_URL = env.REDIS_URL or redis_urls(f"unix://{quote(str(VALKEY_SOCKET))}")
REDIS_IS_BROKER = not env.CELERY_BROKER_URL
CELERY_BROKER_URL = broker_url(env.CELERY_BROKER_URL or REDIS_URL.partition(",")[0])
CELERY_TASK_DEFAULT_QUEUE = env.CELERY_QUEUE
CELERY_WORKER_CONCURRENCY = env.WORKER_CONCURRENCY
if CELERY_BROKER_URL.startswith("rediss:"):
    CELERY_BROKER_USE_SSL = {"ssl_cert_reqs": "required"}  # by default kombu checks no certificate
if CELERY_BROKER_URL.startswith("redis"):
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "socket_connect_timeout": env.REDIS_TIMEOUT,
        "socket_timeout": 5.0,  # seconds; a worker's blocking pop lasts 1 s
        "health_check_interval": 5,  # seconds
    }

# ── Pushpin: it can hold the readers' connections ────────────────────────────────────────────
PUSHPIN_ORIGIN = env.PUSHPIN_ORIGIN or f"127.0.0.1:{env.PORT}"
# The folder of Pushpin's internal sockets, whose names have at most 35 bytes.
PUSHPIN_RUN = socket_path(DATA_DIR, "pushpin-run", longest=70)
BRIDGE_BIND = env.BRIDGE_BIND or f"ipc://{socket_path(DATA_DIR, 'bridge.sock')}"
BRIDGE_URLS = env.BRIDGE_URLS or [BRIDGE_BIND]

# ── Browsers ─────────────────────────────────────────────────────────────────────────────────
CSRF_TRUSTED_ORIGINS = env.CORS_ALLOWED_ORIGINS + env.CSRF_TRUSTED_ORIGINS
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = env.HTTPS or bool(env.CORS_ALLOWED_ORIGINS)
# Browsers send cookies from other sites' pages only with SameSite=None, which requires Secure.
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "None" if env.CORS_ALLOWED_ORIGINS else "Lax"
SECURE_SSL_REDIRECT = env.HTTPS
SECURE_HSTS_SECONDS = env.HSTS_SECONDS
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = bool(SECURE_HSTS_SECONDS)

# ── The log of the process ───────────────────────────────────────────────────────────────────
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "request": {"()": "streams.observability.request_id.RequestIdFilter"},
        "refused": {"()": "streams.observability.refused_requests.Refused"},
    },
    "formatters": {
        "plain": {"format": "%(asctime)s %(levelname)s %(name)s [%(request)s] %(message)s"},
        "json": {"()": "streams.observability.json_log.JsonFormatter"},
    },
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "json" if env.LOG_JSON else "plain",
            "filters": ["refused", "request"],  # "request" replaces `record.request` by its id
        }
    },
    "root": {"handlers": ["stderr"], "level": env.LOG_LEVEL},
    "loggers": {
        # Their debug output holds prompts and keys.
        "httpx": {"level": "WARNING"},
        "httpcore": {"level": "WARNING"},
        "openai": {"level": "WARNING"},
    },
}
