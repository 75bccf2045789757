"""`export` has all rows and all logged text of an owner."""

import json
from typing import Any
from uuid import UUID

import pytest
from allauth.account.models import EmailAddress
from django.apps import apps
from django.conf import settings as django_settings
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.core.management import CommandError
from django.db.models import Model
from django.test import Client

from streams.access.api_tokens import create_token
from streams.chat import personal_data, publisher
from streams.log.event_log import the_log
from streams.models import Conversation, Message, Run
from streams.protocol.events import ReasoningDelta
from streams.service_models import ApiToken, IdempotencyRecord
from tests.integration.support.commands import said
from tests.integration.support.personal_rows import write_words
from tests.integration.support.published_run import PublishedRun
from tests.support.appends import text_append

pytestmark = [pytest.mark.django_db(transaction=True)]
VISITOR = f"visitor:{UUID(int=1)}"


LEFT_OUT: dict[type[Model], tuple[str, ...]] = {
    Conversation: ("owner", "head", "title_pending_since"),
    Message: ("event",),
    Run: (
        *("owner", "uncounted_attempts", "worker", "lease_until", "lease_length", "dispatched_at"),
        *("reader", "reader_left_at"),
        *("queued_event_id", "started_event_id", "ended_event_id"),
    ),
    IdempotencyRecord: ("id", "owner", "digest"),
    ApiToken: ("user", "digest"),
    EmailAddress: ("user",),
    LogEntry: ("user", "content_type", "object_id"),
    Session: ("session_key", "session_data"),  # secrets: they sign the owner in
}


def test_export_omits_only_the_named_columns() -> None:
    for model, told in personal_data.EXPORTED.items():
        columns = {field.name for field in model._meta.concrete_fields}
        left_out = LEFT_OUT[model]
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
