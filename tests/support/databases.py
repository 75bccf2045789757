"""A migrated database for each stack: a copy of one that was migrated once.

By default it is an SQLite file. To test with PostgreSQL, TEST_DATABASE_URL names a server, and a
database to which the first connection goes.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

from tests.support.ports import essentials

CHECKOUT = Path(__file__).resolve().parents[2]
SERVER = os.environ.get("TEST_DATABASE_URL", "")


@contextmanager
def migrated(directory: Path) -> Iterator[Path | str]:
    """A fresh database with all tables: an SQLite file, or a PostgreSQL URL."""
    if not SERVER:
        migrate({"DATA_DIR": str(directory)})
        yield directory / "db.sqlite3"
        return
    with _created() as url:
        migrate({"DATA_DIR": str(directory), "DATABASE_URL": url})
        yield url


@contextmanager
def copied(database: Path | str) -> Iterator[Path | str]:
    """A copy for one stack. An SQLite file is not copied here: the stack itself copies it."""
    if isinstance(database, Path):
        yield database
        return
    with _created(template=urlsplit(database).path[1:]) as url:
        yield url


@contextmanager
def _created(template: str = "template1") -> Iterator[str]:
    name = f"unspool_{secrets.token_hex(6)}"
    with psycopg.connect(SERVER, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())
        try:
            yield urlunsplit(urlsplit(SERVER)._replace(path=f"/{name}"))
        finally:
            server.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def migrate(settings: dict[str, str]) -> None:
    """Bring the database of these settings up to date."""
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity", "0"],
        cwd=CHECKOUT,
        env={**essentials(), **settings},
        check=True,
        timeout=120,
    )
