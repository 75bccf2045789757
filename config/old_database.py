"""The check for a database of an older Unspool, whose tables have other names.

The tables of the first versions began with `streams_`. No migration converts them. A Django system
check finds them before `migrate`. The web process and the worker look for them at their start.
"""

import sys
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from celery.signals import worker_init
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import Error as DatabaseError

OLD_TABLE = "streams_run"
CONNECT_TIMEOUT = 2  # seconds; a process also starts while its database is away


@register(Tags.database)
def check_tables(*, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Return an error for each database that has the old tables."""
    sentences = (old_tables(connections[alias]) for alias in databases or ())
    return [Error(sentence, id="unspool.E001") for sentence in sentences if sentence]


def old_tables(database: BaseDatabaseWrapper) -> str | None:
    """Return what to do about the old tables of this database, or None if it has none."""
    if OLD_TABLE not in database.introspection.table_names():
        return None
    if database.vendor == "sqlite":
        mend = f"Move the folder {settings.DATA_DIR} away or delete it, then start again."
        if not str(database.settings_dict["NAME"]).startswith(f"{settings.DATA_DIR}/"):
            mend = "Move that file away or delete it, then start again."
    else:
        mend = "Name an empty database in DATABASE_URL, or empty this one."
    return (
        f"The database {database.settings_dict['NAME']} was made by an older version of Unspool,"
        f" and nothing of it is migrated. {mend}"
    )


def exit_on_old_tables(**_: Any) -> None:
    """Exit with a sentence if the database has the old tables.

    It opens a short connection of its own, outside the pool. It does not exit if the database is
    away.
    """
    probe = connection.copy()
    probe.settings_dict = deepcopy(connection.settings_dict)
    options = probe.settings_dict["OPTIONS"]
    if probe.vendor == "sqlite":
        if not Path(probe.settings_dict["NAME"]).exists():
            return  # connecting would create the file
    else:
        options.pop("pool", None)
        options.setdefault("connect_timeout", CONNECT_TIMEOUT)
    try:
        sentence = old_tables(probe)
    except DatabaseError:
        return
    finally:
        probe.close()
    if sentence:
        sys.exit(sentence)


worker_init.connect(exit_on_old_tables, dispatch_uid="old_tables")
