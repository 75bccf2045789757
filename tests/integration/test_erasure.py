"""`forget` leaves no text in the files of the database and of Redis, or reports where it stays."""

from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.core.management import CommandError
from django.db import connection, connections

from streams.chat.erasure import _is_rewriting
from streams.log.event_log import the_log
from streams.models import DeletedConversation
from tests.integration.support.commands import said
from tests.integration.support.personal_rows import WORDS, write_words

pytestmark = [pytest.mark.django_db(transaction=True)]


@pytest.fixture
def append_only(valkey: "redis.Redis") -> Any:
    """The folder of an append-only file that is being written, and not being rewritten."""
    valkey.config_set("appendonly", "yes")
    deadline = monotonic() + 60
    while _is_rewriting(valkey.info("persistence")):
        assert monotonic() < deadline, "Valkey did not write its first append-only file"
        sleep(0.02)
    folder = Path(valkey.config_get("dir")["dir"]) / "appendonlydir"
    yield folder
    valkey.config_set("appendonly", "no")


def holding_words(files: list[Path]) -> list[str]:
    return [file.name for file in files if file.is_file() and WORDS in file.read_bytes()]


def database_files() -> list[Path]:
    """SQLite's own, its write-ahead log and its index; none of another database."""
    if connection.vendor != "sqlite":
        return []
    name = Path(str(connection.settings_dict["NAME"]))
    return list(name.parent.glob(f"{name.name}*"))


def test_forget_leaves_no_text_in_any_file(append_only: Path) -> None:
    ada = User.objects.create_user("ada")
    write_words(ada)
    files = [*database_files(), *append_only.iterdir()]
    assert holding_words(files)
    told = said("forget", "ada", "--yes")
    assert holding_words([*database_files(), *append_only.iterdir()]) == []
    assert "has rewritten its append-only file" in told
    assert "Backups" in told
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA secure_delete")
            assert cursor.fetchone() == (1,)
    emptied = "log is emptied" if connection.vendor == "sqlite" else "until it has vacuumed"
    assert emptied in told


def test_forget_reports_a_database_whose_readers_keep_old_pages(valkey: object) -> None:
    sqlite = connection.vendor == "sqlite"
    ada = User.objects.create_user("ada")
    write_words(ada)
    reader = connections.create_connection("default")
    with reader.cursor() as cursor, connection.cursor() as own:
        if sqlite:
            own.execute("PRAGMA busy_timeout = 50")  # ms; the connection is this test's own
        cursor.execute("BEGIN")
        cursor.execute("SELECT count(*) FROM unspool_message")
        try:
            told = said("forget", "ada", "--yes")
        finally:
            cursor.execute("ROLLBACK")
    reader.close()
    connection.close()
    assert ("in use and may hold it" if sqlite else "until it has vacuumed") in told
    told = said("forget", "--owner", f"user:{ada.pk}", "--yes")
    assert ("is emptied" if sqlite else "until it has vacuumed") in told


def test_forget_names_a_server_that_permits_no_rewrite(
    append_only: Path, valkey: "redis.Redis", settings: Any
) -> None:
    User.objects.create_user("ada")
    valkey.execute_command(
        "ACL", "SETUSER", "app", "on", ">word", "~*", "&*", "+@all", "-bgrewriteaof"
    )
    settings.REDIS_URL = settings.REDIS_URL.replace("unix://", "unix://app:word@")
    the_log.cache_clear()
    try:
        told = said("forget", "ada", "--yes")
    finally:
        valkey.execute_command("ACL", "DELUSER", "app")
    assert "Redis server 1 of 1 did not rewrite its append-only file" in told
    assert "permission" in told.lower()


def test_forget_reports_a_missing_append_only_file(valkey: object) -> None:
    User.objects.create_user("ada")
    assert "has no append-only file" in said("forget", "ada", "--yes")


def test_forget_reports_what_stays_while_redis_is_down(valkey: object, settings: Any) -> None:
    write_words(User.objects.create_user("ada"))
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    the_log.cache_clear()
    told = said("forget", "ada", "--yes")
    assert "1 logs of deleted conversations are in Redis" in told
    assert "did not rewrite" in told
    assert DeletedConversation.objects.count() == 1


def test_forgetting_an_owner_with_another_spelling_is_refused(valkey: object) -> None:
    ada = User.objects.create_user("ada")
    for owner in (f"user:0{ada.pk}", f"user:{ada.pk} ", "visitor:1", "ada", "user:²"):
        for verb in ("export", "forget"):
            with pytest.raises(CommandError, match="no owner"):
                said(verb, "--owner", owner)
    ada.refresh_from_db()
    assert ada.is_active
