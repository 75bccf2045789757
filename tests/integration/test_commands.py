"""What operators run beside the service: looking after its parts, and after what is kept."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError
from django.db.models import F
from django.test import Client

from streams.access.api_tokens import create_token
from streams.chat import ask
from streams.chat.conversations import delete
from streams.log.errors import Superseded
from streams.log.event_log import the_log
from streams.management.commands import purge
from streams.models import Conversation, Run
from streams.service_models import ApiToken, IdempotencyRecord
from tests.integration.support.api_client import (
    ApiClient,
    begin_conversation,
    client_with_token,
    conversation,
)
from tests.integration.support.commands import said

pytestmark = [pytest.mark.django_db]
SECRET = "only ada knows"


def age(days: int, **which: Any) -> None:
    back = timedelta(days=days)
    Conversation.objects.filter(**which).update(created_at=F("created_at") - back)
    Run.objects.filter(conversation__in=Conversation.objects.filter(**which)).update(
        created_at=F("created_at") - back
    )


def ended(made: dict[str, Any]) -> str:
    Run.objects.filter(pk=made["run"]).update(status="failed")
    return str(made["conversation"])


@pytest.mark.usefixtures("valkey")
def test_purge_deletes_old_idle_conversations_with_their_logs_and_nothing_else() -> None:
    browser = ApiClient()
    old, waiting, young = (browser.begin() for _ in range(3))
    gone, kept = ended(old), ended(young)
    age(10, pk=gone)
    age(10, pk=waiting["conversation"])
    age(1, pk=kept)
    assert said("purge", "--days", "5", "--dry-run") == "1 conversations would be deleted.\n"
    assert Conversation.objects.count() == 3
    assert said("purge", "--days", "5").startswith("1 conversations")
    left = {str(pk) for pk in Conversation.objects.values_list("pk", flat=True)}
    assert left == {waiting["conversation"], kept}
    with pytest.raises(Superseded):
        the_log().channel(f"conversation-{gone}").repair()
    assert browser.get(conversation(gone)).status_code == 404


def test_purge_requires_at_least_a_day() -> None:
    with pytest.raises(CommandError, match="1 or more"):
        said("purge", "--days", "0")


@pytest.fixture
def ada(valkey: object) -> User:
    """A user with rows in every table, beside another user and a visitor."""
    for name in ("bob", "ada"):
        user = User.objects.create_user(name)
        begin_conversation(
            client_with_token(create_token(user, f"{name}'s job", scopes="read write"))
        )
    client = client_with_token(create_token(user, "again", scopes="read write"))
    client.post(
        "/api/conversations/",
        {"message": SECRET},
        content_type="application/json",
        headers={"Idempotency-Key": "k"},
    )
    ApiClient().begin()
    return user


def test_export_has_all_data_of_one_owner_and_none_of_others(ada: User) -> None:
    rows = [json.loads(line) for line in said("export", "ada").splitlines()]
    kinds = [row["kind"] for row in rows]
    counted = {kind: kinds.count(kind) for kind in kinds}
    assert counted == {
        "user": 1,
        "token": 2,
        "conversation": 2,
        "message": 2,
        "run": 2,
        "answer": 1,
        "event": 4,  # two questions, and that they were queued
    }
    assert SECRET in {row.get("content") for row in rows}
    assert "bob" not in json.dumps(rows)
    for digest in ApiToken.objects.values_list("digest", flat=True):
        assert digest not in json.dumps(rows)


def test_forget_deletes_one_owner_and_keeps_the_others(ada: User) -> None:
    assert "with 2 conversations" in said("forget", "ada", "--yes")
    assert not User.objects.filter(username="ada").exists()
    assert said("export", "--owner", f"user:{ada.pk}") == ""
    assert not IdempotencyRecord.objects.exists()
    assert (Conversation.objects.count(), ApiToken.objects.count()) == (2, 1)


@pytest.mark.usefixtures("valkey")
def test_a_visitor_is_forgotten_with_the_session() -> None:
    browser, other = ApiClient(), ApiClient()
    browser.begin()
    owner = Conversation.objects.get().owner
    other.begin()
    said("forget", "--owner", owner, "--yes")
    assert Conversation.objects.exclude(owner=owner).count() == Conversation.objects.count() == 1
    assert browser.post("/api/conversations/", {"message": "?"}).status_code != 500
    assert not Conversation.objects.filter(owner=owner).exists()


def test_forgetting_an_external_owner_signs_no_user_out(ada: User) -> None:
    client = Client()
    client.force_login(ada)
    said("forget", "--owner", f"external:{ada.pk}", "--yes")
    assert client.get("/api/conversations/").json()["items"]


@pytest.mark.usefixtures("valkey")
def test_a_conversation_used_during_a_purge_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    old = ended(ApiClient().begin())
    age(10, pk=old)

    def asked_in(found: Conversation, **which: Any) -> bool:
        ask.ask(found, "And now?")
        return delete(found, **which)

    monkeypatch.setattr(purge, "delete", asked_in)
    assert said("purge", "--days", "5").startswith("0 conversations")
    assert Run.objects.filter(conversation=old, status="queued").exists()


@pytest.mark.usefixtures("ada")
def test_forget_needs_a_confirmation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda _: "")
    with pytest.raises(CommandError, match="Nothing was deleted"):
        said("forget", "ada")
    assert Conversation.objects.count() == 4


@pytest.mark.parametrize("words", [[], ["unknown"], ["ada", "--owner", "visitor:1"]])
@pytest.mark.parametrize("verb", ["export", "forget"])
def test_forget_needs_an_owner(verb: str, words: list[str]) -> None:
    with pytest.raises(CommandError):
        said(verb, *words)
