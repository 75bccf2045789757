"""Django's settings of a database, made of its URL."""

from typing import Any

import dj_database_url

SQLITE = {
    "transaction_mode": "IMMEDIATE",  # a transaction waits for the lock at its start
    "timeout": 20,  # seconds
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; "
    "PRAGMA mmap_size=0; PRAGMA secure_delete=ON;",  # overwrite deleted data
}


def database(url: str, *, connections: int) -> dict[str, Any]:
    """Return Django's settings of this database. Raises `ValueError` if the URL is malformed."""
    settings: dict[str, Any] = {**dj_database_url.parse(url)}
    if settings["ENGINE"] == "django.db.backends.sqlite3":
        return settings | {"CONN_MAX_AGE": None, "OPTIONS": SQLITE}  # a thread keeps its connection
    pool = {
        "min_size": 1,
        "max_size": connections,  # of one process
        "timeout": 10,  # seconds to wait for a free connection
        # Seconds that one attempt to connect lasts. Its pauses double, and no other attempt starts
        # meanwhile. With the default of 300 s, a database that is back stays unused for minutes.
        "reconnect_timeout": 5,
    }
    options = settings.get("OPTIONS", {}) | {"pool": pool}
    return settings | {"CONN_HEALTH_CHECKS": True, "OPTIONS": options}
