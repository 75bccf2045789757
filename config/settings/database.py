"""Django's settings of a database, made from its URL."""

import sqlite3
from typing import Any

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

OLDEST_SQLITE = (3, 35)  # the first with `RETURNING`
SQLITE = {
    "transaction_mode": "IMMEDIATE",  # a transaction waits for the lock at its start
    "timeout": 20,  # seconds
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; "
    "PRAGMA mmap_size=0; PRAGMA secure_delete=ON;",  # overwrite deleted data
}


def database(url: str, *, connections: int) -> dict[str, Any]:
    """Return Django's settings of this database. Raises `ValueError` if the URL is malformed.

    Raises `ImproperlyConfigured` if Python's SQLite is too old.
    """
    settings: dict[str, Any] = {**dj_database_url.parse(url)}
    if settings["ENGINE"] == "django.db.backends.sqlite3":
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise ImproperlyConfigured(
                f"This Python has SQLite {sqlite3.sqlite_version}, and 3.35 or later is needed."
                " Name a PostgreSQL database in DATABASE_URL, or take a newer Python."
            )
        return settings | {"CONN_MAX_AGE": None, "OPTIONS": SQLITE}  # a thread keeps its connection
    pool = {
        "min_size": 1,
        "max_size": connections,  # of one process
        "timeout": 10,  # seconds to wait for a free connection
        # Seconds that one series of tries to connect lasts. The pauses between tries double, and no
        # other series starts meanwhile. With the default of 300 s, a database that is back would
        # stay unused for minutes.
        "reconnect_timeout": 5,
    }
    options = settings.get("OPTIONS", {}) | {"pool": pool}
    return settings | {"CONN_HEALTH_CHECKS": True, "OPTIONS": options}
