"""django-eventstream's view over several processes, with its Redis or its database storage."""

import os
from pathlib import Path

SECRET_KEY = "a benchmark's own"
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django_eventstream"]
MIDDLEWARE: list[str] = []
ROOT_URLCONF = "tests.benchmarks.peers.library.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": Path(os.environ["DATA_DIR"]) / "library.sqlite3",
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
}
EVENTSTREAM_REDIS = {"host": "127.0.0.1", "port": int(os.environ["REDIS_PORT"]), "db": 1}
EVENTSTREAM_STORAGE_CLASS = f"django_eventstream.storage.{os.environ['LIBRARY_STORAGE']}"
EVENTSTREAM_STORAGE_CONNECTION = EVENTSTREAM_REDIS
