"""What Django, Celery and the libraries are told alike in every copy; the rest is settings."""

# ── Django ───────────────────────────────────────────────────────────────────────────────────
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "corsheaders",
    "csp",
    "django_eventstream",
    "ninja",
    "streams",  # before allauth, whose pages it gives their looks
    "allauth",
    "allauth.account",
]
MIDDLEWARE = [
    "streams.observability.request_id.request_id_middleware",
    "streams.observability.tracing.trace_posts",  # where a collector is named
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "streams.web.probes.answer_probes",  # before CommonMiddleware, which refuses a wrong Host
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "config.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
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
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("MinimumLengthValidator", "CommonPasswordValidator", "NumericPasswordValidator")
]
STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True  # served from the apps' own folders: no collecting step
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"

# ── Celery, the doorbell ─────────────────────────────────────────────────────────────────────
CELERY_TASK_IGNORE_RESULT = True  # the run's row is the record
CELERY_TASK_ACKS_LATE = False  # late ones run twice or die with Redis: docs/decisions.md
CELERY_WORKER_POOL = "workers.celery_pool:Pool"  # threads: a reply is waiting, not computing
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_DISABLE_PREFETCH = True  # a ring that cannot be answered now is another's to answer
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_WORKER_CONSUMER = "workers.celery_pool:Consumer"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # it comes back for ever
CELERY_BROKER_CONNECTION_TIMEOUT = 1.0  # seconds
CELERY_BROKER_CHANNEL_ERROR_RETRY = True  # what Redis refuses, being full, is as if it were away

# ── django-eventstream ───────────────────────────────────────────────────────────────────────
EVENTSTREAM_STORAGE_CLASS = "streams.log.event_log.EventLog"
EVENTSTREAM_CHANNELMANAGER_CLASS = "streams.access.eventstream_adapter.ChannelManager"

# ── Users, and pages of other origins ────────────────────────────────────────────────────────
ACCOUNT_ADAPTER = "streams.web.accounts.Accounts"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"  # there is no e-mail
# Failed logins. `key` is an address and a name together (streams/web/accounts.py), so no one can
# shut a user out from elsewhere. Each further window makes the wait longer: after 5 failures up to
# 10 seconds, after 10 up to a minute, after 20 up to ten. The shortest comes first, because a
# refused try counts in those before the one that refuses it.
ACCOUNT_RATE_LIMITS = {"login_failed": "5/10s/key,10/m/key,20/10m/key,30/m/ip"}
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        # Beyond this some counts are forgotten: Django's 300 would let one address forget its own.
        "OPTIONS": {"MAX_ENTRIES": 20_000},
    }
}
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = LOGOUT_REDIRECT_URL = ACCOUNT_LOGOUT_REDIRECT_URL = "/"
CORS_ALLOW_CREDENTIALS = True  # with their visitors' cookies: so the list is exact
CORS_ALLOW_HEADERS = [
    *("authorization", "content-type", "x-csrftoken", "last-event-id", "cache-control"),
    *("idempotency-key", "prefer", "x-request-id"),
]
CORS_EXPOSE_HEADERS = [
    *("location", "retry-after", "idempotency-replayed", "preference-applied", "x-request-id"),
]
CORS_URLS_REGEX = "^/api/"
SESSION_ENGINE = "streams.access.sessions"  # a visitor's is stored when the visitor does something
SESSION_COOKIE_HTTPONLY = True
CSRF_COOKIE_HTTPONLY = False  # the page's script reads it to send X-CSRFToken

# ── What browsers are told to refuse ─────────────────────────────────────────────────────────
SECURE_REDIRECT_EXEMPT = ["^health/", "^metrics$"]  # asked by the platform, from inside
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "connect-src": ["'self'"],
        "font-src": ["'self'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
}
