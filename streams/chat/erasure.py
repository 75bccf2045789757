"""Removing deleted data from the files of the database and of Redis, after a deletion.

SQLite keeps deleted text in its write-ahead log until a checkpoint. Redis keeps it in its
append-only file until a rewrite. If an erasure is not possible, the returned sentences say so.
"""

import time
from typing import Any

from django.db import OperationalError, connection

from streams.log.errors import LogUnavailable
from streams.log.event_log import the_log
from streams.log.sharding import server_urls
from streams.models import DeletedConversation

REWRITE_TIMEOUT = 60.0  # seconds to wait for the rewrite of one Redis server
POLL_INTERVAL = 0.05  # seconds between two checks whether the rewrite is done
BACKUPS = "Backups, replicas and archived write-ahead logs hold the data until they are deleted."


def erase_leftovers() -> list[str]:
    """Checkpoint SQLite and rewrite the append-only file of each Redis server.

    Returns sentences for the operator: which places still hold deleted data, and until when.
    """
    servers = [_rewrite_append_only_file(server) for server in range(len(server_urls()))]
    return [_checkpoint(), *servers, *_undeleted_logs(), BACKUPS]


def _checkpoint() -> str:
    if connection.vendor != "sqlite":
        return (
            "The database holds the data in its files until it has vacuumed and used the space "
            "again, and in its write-ahead log until that is recycled."
        )
    try:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            busy = bool(cursor.fetchone()[0])
    except OperationalError:
        busy = True
    if busy:
        return (
            "SQLite's write-ahead log is in use and may hold it until the last process has ended, "
            "or until `forget` is run again."
        )
    return "SQLite's write-ahead log is emptied."


def _rewrite_append_only_file(server: int) -> str:
    name = f"Redis server {server + 1} of {len(server_urls())}"
    try:
        if not _persistence(server).get("aof_enabled"):
            return f"{name} has no append-only file. Its snapshot has the data until the next save."
        the_log().ask_server(server, "BGREWRITEAOF")
        until = time.monotonic() + REWRITE_TIMEOUT
        while _is_rewriting(info := _persistence(server)):
            if time.monotonic() >= until:
                return f"{name} still rewrites its append-only file, which has the data until then."
            time.sleep(POLL_INTERVAL)
    except LogUnavailable as error:
        return (
            f"{name} did not rewrite its append-only file, which holds the data until the next "
            f"rewrite: {error.__cause__}"
        )
    if info.get("aof_last_bgrewrite_status") != "ok":
        return f"{name} could not rewrite its append-only file, which holds the data: see its log."
    return f"{name} has rewritten its append-only file."


def _persistence(server: int) -> dict[str, Any]:
    info: dict[str, Any] = the_log().ask_server(server, "INFO", "persistence")
    return info


def _is_rewriting(info: dict[str, Any]) -> bool:
    return bool(info.get("aof_rewrite_in_progress") or info.get("aof_rewrite_scheduled"))


def _undeleted_logs() -> list[str]:
    count = DeletedConversation.objects.count()
    if not count:
        return []
    return [
        f"{count} logs of deleted conversations are in Redis until it answers and a sweep "
        "deletes them. Run `forget` again after that."
    ]
