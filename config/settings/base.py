"""The settings of Unspool, read from the environment, each with its unit and reason.

Without any of them this is a development copy: embedded servers, a key of its own, and visitors
without an account. `PRODUCTION=true` requires some settings and names those that are missing. The
modules `deployment`, `model`, `agents` and `limits` hold further settings.
"""

import logging
import re
from ipaddress import ip_network
from urllib.parse import parse_qs, quote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from config.data_dir import socket_path
from config.settings.agents import *  # noqa: F403
from config.settings.deployment import *  # noqa: F403
from config.settings.deployment import DATA_DIR, PRODUCTION
from config.settings.env import Environment
from config.settings.framework import *  # noqa: F403  # what is the same in every copy
from config.settings.limits import *  # noqa: F403
from config.settings.model import *  # noqa: F403
from config.settings.redis_urls import broker_url, redis_url

env = Environment()
MODEL_URL_FILE = DATA_DIR / "model.url"  # here the embedded model writes its URL

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
METRICS_PORT = env.int("METRICS_PORT", 0)  # of this process's own metrics; 0: none
WEB_DRAIN = env.float("WEB_DRAIN", 3.0)  # seconds for requests to finish after SIGTERM
CONNECTION_TIMEOUT = env.float("CONNECTION_TIMEOUT", 30.0)  # seconds that a peer may be silent
if CONNECTION_TIMEOUT <= 0:
    raise ImproperlyConfigured("CONNECTION_TIMEOUT must be more than 0 seconds.")

# ── The log and the broker ───────────────────────────────────────────────────────────────────
REDIS_URL = env.str("REDIS_URL", "")  # or several, separated by commas
EMBEDDED_VALKEY = not REDIS_URL
REDIS_URL = ",".join(filter(None, map(str.strip, REDIS_URL.split(","))))
if not (EMBEDDED_VALKEY or re.fullmatch("(,?(redis|rediss|unix)://[^,;]+)+", REDIS_URL)):
    raise ImproperlyConfigured("REDIS_URL must be redis://…, rediss://… or unix://…, or several.")
VALKEY_SOCKET = socket_path(DATA_DIR, "valkey.sock")
if EMBEDDED_VALKEY:
    REDIS_URL = f"unix://{quote(str(VALKEY_SOCKET))}"
REDIS_URL = ",".join(redis_url("REDIS_URL", url) for url in REDIS_URL.split(","))
# Seconds for one round trip; a POST makes at most 3.
REDIS_TIMEOUT = env.float("REDIS_TIMEOUT", 0.6)
# Of maxmemory; above it, new runs are refused.
REDIS_MEMORY_LIMIT = env.float("REDIS_MEMORY_LIMIT", 0.9)
if not 0 < REDIS_MEMORY_LIMIT <= 1:
    raise ImproperlyConfigured("REDIS_MEMORY_LIMIT must be more than 0 and at most 1.")
LOG_EVENTS = env.int("LOG_EVENTS", 20_000)  # approximate number of events in a channel's log
LOG_TTL = env.int("LOG_TTL", 24 * 3600)  # seconds from its last event until a log expires
LOG_STATE_TTL = env.int("LOG_STATE_TTL", 30 * 24 * 3600)  # seconds that its state is kept

CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", "")
REDIS_IS_BROKER = not CELERY_BROKER_URL
CELERY_BROKER_URL = CELERY_BROKER_URL or REDIS_URL.partition(",")[0]
if re.fullmatch("(redis|rediss|unix)://[^;]+", CELERY_BROKER_URL):
    CELERY_BROKER_URL = broker_url(redis_url("CELERY_BROKER_URL", CELERY_BROKER_URL))
# Not shared with another application.
CELERY_TASK_DEFAULT_QUEUE = env.str("CELERY_QUEUE", "unspool")
AGENT_QUEUE = f"{CELERY_TASK_DEFAULT_QUEUE}-agents"
if CELERY_BROKER_URL.startswith("rediss:"):
    CELERY_BROKER_USE_SSL = {"ssl_cert_reqs": "required"}  # by default kombu checks no certificate
if CELERY_BROKER_URL.startswith("redis"):
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "socket_connect_timeout": REDIS_TIMEOUT,
        "socket_timeout": 5.0,  # seconds; a worker's blocking pop lasts 1 s
        "health_check_interval": 5,  # seconds
    }

# ── Runs ─────────────────────────────────────────────────────────────────────────────────────
RUN_LEASE = env.float("RUN_LEASE", 10.0)  # seconds that a claim lasts without a renewal
# Seconds between a worker's checks of its leases.
LEASE_CHECK_INTERVAL = env.float("LEASE_CHECK_INTERVAL", 1.0)
RUN_ATTEMPTS = env.int("RUN_ATTEMPTS", 3)  # attempts that may be lost before a run fails
RUN_TIMEOUT = env.float("RUN_TIMEOUT", 900.0)  # seconds that one attempt may last
SWEEP_INTERVAL = env.float("SWEEP_INTERVAL", 3.0)  # seconds between sweeps for abandoned work
# Seconds until a queued run is dispatched again.
REDISPATCH_AFTER = env.float("REDISPATCH_AFTER", 5.0)
WORKER_DRAIN = env.float("WORKER_DRAIN", 2.5)  # seconds for replies to finish after SIGTERM

# ── Streams ──────────────────────────────────────────────────────────────────────────────────
STREAM_HEARTBEAT = env.float("STREAM_HEARTBEAT", 15.0)  # seconds without an event until a heartbeat
# Seconds, ± a fifth, until readers are asked to reconnect.
STREAM_MAX_AGE = env.float("STREAM_MAX_AGE", 3600.0)
# Seconds that a reader may accept no data.
STREAM_WRITE_TIMEOUT = env.float("STREAM_WRITE_TIMEOUT", 30.0)
# Seconds between checks that a reader may still read.
ACCESS_CHECK_INTERVAL = env.float("ACCESS_CHECK_INTERVAL", 2.0)
STREAM_RETRY = env.tuple("STREAM_RETRY", cast=int, default=[500, 2000])  # ms, minimum and maximum
if len(STREAM_RETRY) != 2 or not 0 <= STREAM_RETRY[0] <= STREAM_RETRY[1]:
    raise ImproperlyConfigured("STREAM_RETRY must be two numbers of ms, the least and the most.")
# Frames of a channel in a web process, shared by its followers.
STREAM_BUFFER = env.int("STREAM_BUFFER", 512)

# ── Pushpin: it can hold the readers' connections ────────────────────────────────────────────
GRIP_URL = env.str("GRIP_URL", "")  # Pushpin's control port and key: http://127.0.0.1:5561/?key=…
if GRIP_URL and len(parse_qs(urlsplit(GRIP_URL).query).get("key", [""])[0]) < 32:
    # Without a key any signature would be valid. RFC 7518 §3.2 requires 256 bits.
    raise ImproperlyConfigured("GRIP_URL must end in ?key= and a secret of 32 characters or more.")
PUSHPIN_PORT = env.int("PUSHPIN_PORT", 7999)  # TCP port of Pushpin at HOST, the public one
# Connections of one Pushpin.
PUSHPIN_MAX_CONNECTIONS = env.int("PUSHPIN_MAX_CONNECTIONS", 50_000)
# host:port of the web processes
PUSHPIN_ORIGIN = env.str("PUSHPIN_ORIGIN", "") or f"127.0.0.1:{PORT}"
# The folder of Pushpin's internal sockets, whose names add up to 35 bytes.
PUSHPIN_RUN = socket_path(DATA_DIR, "pushpin-run", longest=70)
BRIDGE_BIND = env.str("BRIDGE_BIND", "")  # ZeroMQ address at which the bridge listens
if not BRIDGE_BIND:
    BRIDGE_BIND = f"ipc://{socket_path(DATA_DIR, 'bridge.sock')}"
# All bridges that Pushpin connects to.
BRIDGE_URLS = env.list("BRIDGE_URLS", default=[]) or [BRIDGE_BIND]

# ── Access ───────────────────────────────────────────────────────────────────────────────────
ALLOW_ANONYMOUS = env.bool("ALLOW_ANONYMOUS", not PRODUCTION)  # visitors without a user may ask
ALLOW_SIGNUP = env.bool("ALLOW_SIGNUP", not PRODUCTION)  # a visitor may create a user
AUTHENTICATION_BACKENDS = env.list(
    "AUTHENTICATION_BACKENDS", default=["django.contrib.auth.backends.ModelBackend"]
)  # Django's, or those of another application
STREAM_SIGNING_KEY = env.str("STREAM_SIGNING_KEY", "")  # shared with the application that signs
if 0 < len(STREAM_SIGNING_KEY) < 32:
    raise ImproperlyConfigured("STREAM_SIGNING_KEY can be guessed: take 32 characters or more.")
CORS_ALLOWED_ORIGINS = env.list("CORS_ALLOWED_ORIGINS", default=[])  # whose pages may call the API
CSRF_TRUSTED_ORIGINS = CORS_ALLOWED_ORIGINS + env.list("CSRF_TRUSTED_ORIGINS", default=[])
HTTPS = env.bool("HTTPS", PRODUCTION)  # browsers use it; off: passwords are sent unencrypted
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS or bool(CORS_ALLOWED_ORIGINS)
# Browsers send cookies from other sites' pages only with SameSite=None, which requires Secure.
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "None" if CORS_ALLOWED_ORIGINS else "Lax"

# ── HTTPS only ───────────────────────────────────────────────────────────────────────────────
SECURE_SSL_REDIRECT = HTTPS
# No plain HTTP for so long.
SECURE_HSTS_SECONDS = env.int("HSTS_SECONDS", 31_536_000 if PRODUCTION else 0)
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = bool(SECURE_HSTS_SECONDS)

# ── The database ─────────────────────────────────────────────────────────────────────────────
DATABASE_URL = env.str("DATABASE_URL", "") or f"sqlite:///{quote(str(DATA_DIR / 'db.sqlite3'))}"
try:
    DATABASES = {"default": env.db_url_config(DATABASE_URL)}
except ValueError:
    DATABASES = {"default": {}}
if not DATABASES["default"].get("ENGINE"):  # do not print the value: it may hold a password
    raise ImproperlyConfigured("DATABASE_URL must be postgres://user:password@host:port/name.")
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["CONN_MAX_AGE"] = None  # a thread keeps its connection
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",  # a transaction waits for the lock at its start
        "timeout": 20,  # seconds
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; "
        "PRAGMA mmap_size=0; PRAGMA secure_delete=ON;",  # overwrite deleted data
    }
else:
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    DATABASES["default"].setdefault("OPTIONS", {})["pool"] = {
        "min_size": 1,
        "max_size": env.int("DATABASE_CONNECTIONS", 20),  # connections of one process
        "timeout": 10,  # seconds to wait for a free connection
        # Seconds that one attempt to connect lasts. Its pauses double, and no other attempt starts
        # meanwhile. With the default of 300 s, a database that is back stays unused for minutes.
        "reconnect_timeout": 5,
    }

DATABASE_WAIT = env.float("DATABASE_WAIT", 5.0)  # seconds that a request waits for a database lock
if DATABASE_WAIT <= 0:
    raise ImproperlyConfigured("DATABASE_WAIT must be more than 0 seconds.")

# ── Observability ────────────────────────────────────────────────────────────────────────────
# Base URL of an OpenTelemetry collector (OTLP over HTTP). The SDK reads the variable itself.
OTEL_EXPORTER_OTLP_ENDPOINT = env.str("OTEL_EXPORTER_OTLP_ENDPOINT", "")
LOG_LEVEL = env.str("LOG_LEVEL", "INFO")
if LOG_LEVEL not in logging.getLevelNamesMapping():
    raise ImproperlyConfigured("LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR.")
LOG_JSON = env.bool("LOG_JSON", PRODUCTION)  # one JSON object a line, for programs
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
            "filters": ["refused", "request"],  # "request" replaces `record.request` by its id
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
