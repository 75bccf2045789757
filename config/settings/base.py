"""Every setting of Unspool, one line each, read from the environment, with its unit and reason.

Without any of them this is a development copy: embedded parts, a key of its own, visitors
welcome. `PRODUCTION=true` takes nothing for granted and says what is missing. Which kind of copy
this is, the model's settings and the limits have modules of their own.
"""

import logging
import re
from ipaddress import ip_network
from urllib.parse import parse_qs, quote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from config.data_dir import socket_path
from config.settings.deployment import *  # noqa: F403
from config.settings.deployment import DATA_DIR, PRODUCTION
from config.settings.env import Environment
from config.settings.framework import *  # noqa: F403  # what is the same in every copy
from config.settings.limits import *  # noqa: F403
from config.settings.model import *  # noqa: F403
from config.settings.redis_urls import broker_url, redis_url

env = Environment()
MODEL_URL_FILE = DATA_DIR / "model.url"  # where the embedded model says at which URL it listens

# ── Where it listens, and for how long ───────────────────────────────────────────────────────
HOST = env.str("HOST", "127.0.0.1")  # address that the web process binds
PORT = env.int("PORT", 8000)  # TCP port of the web process
TRUSTED_PROXIES = env.list("TRUSTED_PROXIES", default=[])  # addresses, or networks as 10.0.0.0/8
for proxy in TRUSTED_PROXIES:
    try:
        ip_network(proxy)
    except ValueError:
        raise ImproperlyConfigured(
            f"TRUSTED_PROXIES must be addresses or networks with commas between, not {proxy!r}."
        ) from None
METRICS_PORT = env.int("METRICS_PORT", 0)  # where a process tells its own counts; 0: nowhere else
WEB_DRAIN = env.float("WEB_DRAIN", 3.0)  # seconds that plain requests may take to end at SIGTERM
CONNECTION_TIMEOUT = env.float("CONNECTION_TIMEOUT", 30.0)  # seconds without a word of a peer's
if CONNECTION_TIMEOUT <= 0:
    raise ImproperlyConfigured("CONNECTION_TIMEOUT must be more than 0 seconds.")

# ── The log and the broker ───────────────────────────────────────────────────────────────────
REDIS_URL = env.str("REDIS_URL", "")  # or several, with commas between
EMBEDDED_VALKEY = not REDIS_URL
REDIS_URL = ",".join(filter(None, map(str.strip, REDIS_URL.split(","))))
if not (EMBEDDED_VALKEY or re.fullmatch("(,?(redis|rediss|unix)://[^,;]+)+", REDIS_URL)):
    raise ImproperlyConfigured("REDIS_URL must be redis://…, rediss://… or unix://…, or several.")
VALKEY_SOCKET = socket_path(DATA_DIR, "valkey.sock")
if EMBEDDED_VALKEY:
    REDIS_URL = f"unix://{quote(str(VALKEY_SOCKET))}"
REDIS_URL = ",".join(redis_url("REDIS_URL", url) for url in REDIS_URL.split(","))
REDIS_TIMEOUT = env.float("REDIS_TIMEOUT", 0.6)  # seconds for one trip; a POST makes at most three
REDIS_MEMORY_LIMIT = env.float("REDIS_MEMORY_LIMIT", 0.9)  # of maxmemory; above it no run begins
if not 0 < REDIS_MEMORY_LIMIT <= 1:
    raise ImproperlyConfigured("REDIS_MEMORY_LIMIT must be more than 0 and at most 1.")
LOG_EVENTS = env.int("LOG_EVENTS", 20_000)  # about how many events a channel's log keeps
LOG_TTL = env.int("LOG_TTL", 24 * 3600)  # seconds from its last event until a log expires
LOG_STATE_TTL = env.int("LOG_STATE_TTL", 30 * 24 * 3600)  # seconds that its place is remembered

CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", "")
REDIS_IS_BROKER = not CELERY_BROKER_URL
CELERY_BROKER_URL = CELERY_BROKER_URL or REDIS_URL.partition(",")[0]
if re.fullmatch("(redis|rediss|unix)://[^;]+", CELERY_BROKER_URL):
    CELERY_BROKER_URL = broker_url(redis_url("CELERY_BROKER_URL", CELERY_BROKER_URL))
CELERY_TASK_DEFAULT_QUEUE = env.str("CELERY_QUEUE", "unspool")  # no other application's queue
if CELERY_BROKER_URL.startswith("rediss:"):
    CELERY_BROKER_USE_SSL = {"ssl_cert_reqs": "required"}  # left alone, kombu trusts anybody
if CELERY_BROKER_URL.startswith("redis"):
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "socket_connect_timeout": REDIS_TIMEOUT,
        "socket_timeout": 5.0,  # seconds; above the second that a worker's blocking pop lasts
        "health_check_interval": 5,  # seconds
    }

# ── Runs ─────────────────────────────────────────────────────────────────────────────────────
RUN_LEASE = env.float("RUN_LEASE", 10.0)  # seconds a worker may be silent before another takes over
LEASE_CHECK_INTERVAL = env.float(
    "LEASE_CHECK_INTERVAL", 1.0
)  # seconds between a worker's looks at what it still holds
RUN_ATTEMPTS = env.int("RUN_ATTEMPTS", 3)  # tries that may be lost before a run fails
RUN_TIMEOUT = env.float("RUN_TIMEOUT", 900.0)  # seconds that one attempt may write
SWEEP_INTERVAL = env.float("SWEEP_INTERVAL", 3.0)  # seconds between looks for what nobody is doing
REDISPATCH_AFTER = env.float(
    "REDISPATCH_AFTER", 5.0
)  # seconds a queued run may wait before it is rung again
WORKER_DRAIN = env.float("WORKER_DRAIN", 2.5)  # seconds that replies may finish at SIGTERM

# ── Streams ──────────────────────────────────────────────────────────────────────────────────
STREAM_HEARTBEAT = env.float("STREAM_HEARTBEAT", 15.0)  # seconds without an event
STREAM_MAX_AGE = env.float(
    "STREAM_MAX_AGE", 3600.0
)  # seconds, ± a fifth, until readers are sent round
STREAM_WRITE_TIMEOUT = env.float(
    "STREAM_WRITE_TIMEOUT", 30.0
)  # seconds that a reader may take nothing
ACCESS_CHECK_INTERVAL = env.float(
    "ACCESS_CHECK_INTERVAL", 2.0
)  # seconds between looks at who may still read
STREAM_RETRY = env.tuple("STREAM_RETRY", cast=int, default=[500, 2000])  # ms, least and most
if len(STREAM_RETRY) != 2 or not 0 <= STREAM_RETRY[0] <= STREAM_RETRY[1]:
    raise ImproperlyConfigured("STREAM_RETRY must be two numbers of ms, the least and the most.")
STREAM_BUFFER = env.int(
    "STREAM_BUFFER", 512
)  # frames of a channel that a web process holds for all

# ── Pushpin, which holds the connections where there are many ────────────────────────────────
GRIP_URL = env.str("GRIP_URL", "")  # http://127.0.0.1:5561/?key=…: its control port, the shared key
if GRIP_URL and len(parse_qs(urlsplit(GRIP_URL).query).get("key", [""])[0]) < 32:
    # Without a key any signature counts; RFC 7518 §3.2 wants 256 bits.
    raise ImproperlyConfigured("GRIP_URL must end in ?key= and a secret of 32 characters or more.")
PUSHPIN_PORT = env.int("PUSHPIN_PORT", 7999)  # TCP port of Pushpin, at HOST, for everybody
PUSHPIN_MAX_CONNECTIONS = env.int(
    "PUSHPIN_MAX_CONNECTIONS", 50_000
)  # connections that one Pushpin takes
# host:port of the web processes
PUSHPIN_ORIGIN = env.str("PUSHPIN_ORIGIN", "") or f"127.0.0.1:{PORT}"
# Pushpin's inner sockets are in it: it adds up to 35 bytes.
PUSHPIN_RUN = socket_path(DATA_DIR, "pushpin-run", longest=70)
BRIDGE_BIND = env.str("BRIDGE_BIND", "")  # ZeroMQ address at which the bridge listens
if not BRIDGE_BIND:
    BRIDGE_BIND = f"ipc://{socket_path(DATA_DIR, 'bridge.sock')}"
BRIDGE_URLS = env.list("BRIDGE_URLS", default=[]) or [
    BRIDGE_BIND
]  # all that Pushpin hears; any of them may die

# ── Who may ──────────────────────────────────────────────────────────────────────────────────
ALLOW_ANONYMOUS = env.bool("ALLOW_ANONYMOUS", not PRODUCTION)  # a visitor owns his session's own
ALLOW_SIGNUP = env.bool("ALLOW_SIGNUP", not PRODUCTION)  # anybody may make himself a user
AUTHENTICATION_BACKENDS = env.list(
    "AUTHENTICATION_BACKENDS", default=["django.contrib.auth.backends.ModelBackend"]
)  # Django's, or another application's own
STREAM_SIGNING_KEY = env.str("STREAM_SIGNING_KEY", "")  # shared with the application that signs
if 0 < len(STREAM_SIGNING_KEY) < 32:
    raise ImproperlyConfigured("STREAM_SIGNING_KEY can be guessed: take 32 characters or more.")
CORS_ALLOWED_ORIGINS = env.list("CORS_ALLOWED_ORIGINS", default=[])  # whose pages may call us
CSRF_TRUSTED_ORIGINS = CORS_ALLOWED_ORIGINS + env.list("CSRF_TRUSTED_ORIGINS", default=[])
HTTPS = env.bool("HTTPS", PRODUCTION)  # how browsers come; off, their passwords are in the clear
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS or bool(CORS_ALLOWED_ORIGINS)
# Another site's page gets no cookie of ours along unless it is said so, and then only a secure one.
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "None" if CORS_ALLOWED_ORIGINS else "Lax"

# ── What browsers are told to refuse ─────────────────────────────────────────────────────────
SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = env.int("HSTS_SECONDS", 31_536_000 if PRODUCTION else 0)  # never HTTP again
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = bool(SECURE_HSTS_SECONDS)

# ── The database ─────────────────────────────────────────────────────────────────────────────
DATABASE_URL = env.str("DATABASE_URL", "") or f"sqlite:///{quote(str(DATA_DIR / 'db.sqlite3'))}"
try:
    DATABASES = {"default": env.db_url_config(DATABASE_URL)}
except ValueError:
    DATABASES = {"default": {}}
if not DATABASES["default"].get("ENGINE"):  # what it is instead may hold a password
    raise ImproperlyConfigured("DATABASE_URL must be postgres://user:password@host:port/name.")
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["CONN_MAX_AGE"] = None  # a thread's, for as long as it lives
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",  # a transaction that will write waits at its start
        "timeout": 20,  # seconds
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; "
        "PRAGMA mmap_size=0; PRAGMA secure_delete=ON;",  # what is deleted is overwritten
    }
else:
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    DATABASES["default"].setdefault("OPTIONS", {})["pool"] = {
        "min_size": 1,
        "max_size": env.int("DATABASE_CONNECTIONS", 20),  # of one process
        "timeout": 10,  # seconds to wait for a free one
        # Seconds that one attempt to connect lasts. Its pauses double, and no other attempt begins
        # meanwhile: with the library's 300 s, a database that is back is not asked for minutes.
        "reconnect_timeout": 5,
    }

DATABASE_WAIT = env.float("DATABASE_WAIT", 5.0)  # seconds that a request waits for a lock
if DATABASE_WAIT <= 0:
    raise ImproperlyConfigured("DATABASE_WAIT must be more than 0 seconds.")

# ── What it tells its operators ──────────────────────────────────────────────────────────────
# Base URL of an OpenTelemetry collector (OTLP over HTTP), which the SDK reads for itself.
OTEL_EXPORTER_OTLP_ENDPOINT = env.str("OTEL_EXPORTER_OTLP_ENDPOINT", "")
LOG_LEVEL = env.str("LOG_LEVEL", "INFO")
if LOG_LEVEL not in logging.getLevelNamesMapping():
    raise ImproperlyConfigured("LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR.")
LOG_JSON = env.bool("LOG_JSON", PRODUCTION)  # one JSON object a line, for programs; else for people
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
            "formatter": "json" if LOG_JSON else "plain",
            "filters": ["refused", "request"],  # the latter replaces `record.request` by its id
        }
    },
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        # Their debug output holds prompts and keys.
        "httpx": {"level": "WARNING"},
        "httpcore": {"level": "WARNING"},
        "openai": {"level": "WARNING"},
    },
}
