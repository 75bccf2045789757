"""`forget` leaves no text in the files of the database and of Redis, or reports where it stays."""

import json
from io import StringIO
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from uuid import UUID

import pytest
import redis
from allauth.account.models import EmailAddress
from django.apps import apps
from django.conf import settings as django_settings
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.db.models import Model
from django.test import Client

from streams.access.api_tokens import create_token
from streams.chat import personal_data, publisher
from streams.chat.erasure import _is_rewriting
from streams.log.event_log import the_log
from streams.models import Conversation, DeletedConversation, Message, Run
from streams.protocol.events import ReasoningDelta
from streams.service_models import ApiToken, IdempotencyRecord
from tests.integration.support.api_client import client_with_token
from tests.integration.support.published_run import PublishedRun
from tests.support.appends import text_append

pytestmark = [pytest.mark.django_db(transaction=True)]
WORDS = b"the-heron-stands-in-the-reeds"
VISITOR = f"visitor:{UUID(int=1)}"


def said(*words: str) -> str:
    out = StringIO()
    call_command(*words, stdout=out)
    return out.getvalue()


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


def write_words(user: User) -> None:
    client = client_with_token(create_token(user, "job", scopes="read write"))
    client.post(
        "/api/conversations/",
        {"message": WORDS.decode(), "system": WORDS.decode() * 100},
        content_type="application/json",
        headers={"Idempotency-Key": "k"},
    )


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


def test_export_omits_only_the_named_columns() -> None:
    for model, told in personal_data.EXPORTED.items():
        columns = {field.name for field in model._meta.concrete_fields}
        left_out = personal_data.LEFT_OUT[model]
        assert {*told, *left_out} == columns, model
        assert not {*told} & {*left_out}, model


def test_export_covers_every_table() -> None:
    """A new model is either exported, or named here as one without data of an owner."""
    impersonal = {
        *("auth.permission", "auth.group", "contenttypes.contenttype"),
        "account.emailconfirmation",  # keys of e-mails that this service does not send
        "django_eventstream.event",  # the library's, unused: the log is in Redis
        "django_eventstream.eventcounter",
        "unspool.workerprocess",  # which names a process has
        "unspool.deletedconversation",  # the id of a deleted conversation
    }
    told = {model._meta.label_lower for model in personal_data.EXPORTED}
    known = told | impersonal | {django_settings.AUTH_USER_MODEL.lower()}
    assert {model._meta.label_lower for model in apps.get_models()} == known


def test_export_has_the_text_that_only_the_log_holds(valkey: object) -> None:
    story = PublishedRun()
    Conversation.objects.update(owner=VISITOR)
    story.publish_deltas(2)
    thought = ReasoningDelta(run=story.run.id, attempt=1, index=2, text="hm")
    publisher.append([text_append(story.channel, thought, slot=1, opens=True)])
    rows = exported("--owner", VISITOR)
    so_far = [row for row in rows if row["kind"] == "reply_so_far"]
    assert [(row["text"], row["reasoning"]) for row in so_far] == [("w0 w1 ", "hm")]
    events = [row for row in rows if row["kind"] == "event"]
    assert "reasoning.delta" in {row["type"] for row in events}
    assert [row["id"] for row in events] == sorted(row["id"] for row in events)


def test_export_pages_through_a_long_log(valkey: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(personal_data, "PAGE", 3)
    story = PublishedRun()
    Conversation.objects.update(owner=VISITOR)
    last = story.publish_deltas(7)
    ids = [row["id"] for row in exported("--owner", VISITOR) if row["kind"] == "event"]
    assert ids == list(range(ids[0], last + 1))
    assert ids[0] <= story.first


def test_export_reports_that_redis_is_down(valkey: object, settings: Any) -> None:
    write_words(User.objects.create_user("ada"))
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    the_log.cache_clear()
    with pytest.raises(CommandError, match="data of the event log is missing"):
        said("export", "ada")


def exported(*words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said("export", *words).splitlines()]


def test_export_has_sessions_groups_mail_and_the_admin_log(valkey: object) -> None:
    ada, bob = (User.objects.create_user(name, password="pw") for name in ("ada", "bob"))
    for user in (ada, bob):
        Client().force_login(user)
        EmailAddress.objects.create(user=user, email=f"{user.username}@example.org")
    create_token(ada, "job", scopes="read")
    types = ContentType.objects.get_for_model
    for of, entry in ((User, ada), (ApiToken, ApiToken.objects.get()), (User, bob)):
        _logged(bob, types(of), entry)
    rows = exported("ada")
    kinds = [row["kind"] for row in rows]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "user": 1,
        "email": 1,
        "token": 1,
        "session": 1,
        "admin_log": 2,
    }
    assert rows[0]["is_active"] is True
    text = json.dumps(rows)
    assert "bob" not in text
    for secret in (ada.password, ApiToken.objects.get().digest):
        assert secret not in text
    said("forget", "ada", "--yes")
    assert LogEntry.objects.count() == 1  # bob's, of bob


def _logged(by: User, content_type: ContentType, entry: Model) -> None:
    LogEntry.objects.create(
        user=by,
        content_type=content_type,
        object_id=str(entry.pk),
        object_repr=str(entry),
        action_flag=CHANGE,
    )


def test_the_export_of_a_conversation_is_complete(valkey: object) -> None:
    ada = User.objects.create_user("ada")
    write_words(ada)
    rows = exported("ada")
    for kind, model in (("conversation", Conversation), ("message", Message), ("run", Run)):
        told = [row for row in rows if row["kind"] == kind]
        assert len(told) == model.objects.count() > 0
    answer = next(row for row in rows if row["kind"] == "answer")
    assert answer["body"] == IdempotencyRecord.objects.get().body
