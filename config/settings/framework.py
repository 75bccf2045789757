"""Fixed settings of Django, Celery and the libraries: the same in every copy of the service."""

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
    "streams",  # before allauth, so that its templates override allauth's
    "allauth",
    "allauth.account",
]
MIDDLEWARE = [
    "streams.observability.request_id.request_id_middleware",
    "streams.observability.tracing.trace_posts",  # if a collector is configured
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
WHITENOISE_USE_FINDERS = True  # serve from the apps' folders, without collectstatic
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"

# ── Celery: it only delivers run ids ─────────────────────────────────────────────────────────
CELERY_TASK_IGNORE_RESULT = True  # the run's row is the record
# With late acknowledgement, tasks run twice or fail with Redis: docs/decisions.md.
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_POOL = "workers.celery_pool:Pool"  # threads: a reply waits more than it computes
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_DISABLE_PREFETCH = True  # a busy worker leaves tasks to other workers
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_WORKER_CONSUMER = "workers.celery_pool:Consumer"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # retry for ever
CELERY_BROKER_CONNECTION_TIMEOUT = 1.0  # seconds
CELERY_BROKER_CHANNEL_ERROR_RETRY = True  # treat a full Redis as if it were away

# ── django-eventstream ───────────────────────────────────────────────────────────────────────
EVENTSTREAM_STORAGE_CLASS = "streams.log.eventstream_storage.EventLogStorage"
EVENTSTREAM_CHANNELMANAGER_CLASS = "streams.access.eventstream_adapter.ChannelManager"

# ── Users, and pages of other origins ────────────────────────────────────────────────────────
ACCOUNT_ADAPTER = "streams.web.accounts.Accounts"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"  # there is no e-mail
# Failed logins. `key` is an address and a user name together (streams/web/accounts.py), so an
# attacker elsewhere cannot lock a user out. Each window makes the wait longer: after 5 failures up
# to 10 seconds, after 10 up to a minute, after 20 up to ten minutes. The shortest is first, because
# a refused attempt also counts in the windows before the one that refuses it.
ACCOUNT_RATE_LIMITS = {"login_failed": "5/10s/key,10/m/key,20/10m/key,30/m/ip"}
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        # A full cache drops counts. With Django's default of 300, one address could drop its own.
        "OPTIONS": {"MAX_ENTRIES": 20_000},
    }
}
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = LOGOUT_REDIRECT_URL = ACCOUNT_LOGOUT_REDIRECT_URL = "/"
CORS_ALLOW_CREDENTIALS = True  # requests carry visitors' cookies, so the list of origins is exact
CORS_ALLOW_HEADERS = [
    *("authorization", "content-type", "x-csrftoken", "last-event-id", "cache-control"),
    *("idempotency-key", "prefer", "x-request-id", "x-api-key"),
    *("user-agent", "x-ai-sdk-version"),  # of the AI SDK
    *("openai-organization", "openai-project"),  # of OpenAI's SDK, as those below
    *("x-stainless-lang", "x-stainless-package-version", "x-stainless-os", "x-stainless-arch"),
    *("x-stainless-runtime", "x-stainless-runtime-version", "x-stainless-retry-count"),
    *("x-stainless-timeout", "x-stainless-helper-method"),
]
CORS_EXPOSE_HEADERS = [
    *("location", "retry-after", "idempotency-replayed", "preference-applied", "x-request-id"),
    *("content-location", "x-should-retry"),  # LangGraph's SDK, OpenAI's
    *("x-workflow-run-id", "x-workflow-stream-tail-index"),  # the package `ai` needs the first
]
CORS_URLS_REGEX = "^/(api/|v1/|ag-ui|threads|runs)"
SESSION_ENGINE = "streams.access.sessions"  # stores a visitor's session only when needed
SESSION_COOKIE_HTTPONLY = True
CSRF_COOKIE_HTTPONLY = False  # the page's script sends it as X-CSRFToken

# ── Security headers ─────────────────────────────────────────────────────────────────────────
SECURE_REDIRECT_EXEMPT = ["^health/", "^metrics$"]  # requested from inside, without HTTPS
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
