"""What operators run beside the service: looking after its parts, and after what is kept."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import redis as server
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db.models import F
from django.test import Client

from streams.access.api_tokens import create_token
from streams.chat import ask
from streams.chat.conversations import delete
from streams.chat.model_names import Kind
from streams.chat.worker_processes import register
from streams.log.errors import Superseded
from streams.log.event_log import the_log
from streams.management.commands import purge
from streams.models import Conversation, Run
from streams.service_models import ApiToken, IdempotencyRecord, WorkerProcess
from tests.integration.support.api_client import (
    ApiClient,
    begin_conversation,
    client_with_token,
    conversation,
)
from tests.integration.support.broker import QUEUE
from tests.support.openai_server import serving

pytestmark = [pytest.mark.django_db]
SECRET = "only ada knows"


def said(*words: str) -> str:
    out = StringIO()
    call_command(*words, stdout=out)
    return out.getvalue()


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


@pytest.fixture
def service(valkey: "server.Redis", settings: Any) -> Iterator["server.Redis"]:
    """Every part well, as it should be."""
    with serving() as model:
        valkey.config_set("appendonly", "yes")
        settings.EMBEDDED_MODEL = False
        settings.OPENAI_BASE_URL = model.url
        settings.LLM_MODELS = ["test", settings.LLM_MODEL]
        register(uuid4(), Kind.MODEL)
        yield valkey
        valkey.config_set("appendonly", "no")
        valkey.config_set("maxmemory-policy", "noeviction")


def examined() -> tuple[bool, dict[str, str]]:
    """Whether all checks passed, and the line of each one."""
    out = StringIO()
    try:
        call_command("doctor", stdout=out)
        well = True
    except CommandError:
        well = False
    lines = [line.split(maxsplit=2) for line in out.getvalue().splitlines()]
    return well, {part: f"{state} {rest}" for state, part, rest in lines}


def test_doctor_finds_every_part_healthy(service: "server.Redis") -> None:
    well, told = examined()
    assert well, told
    assert set(told) == {"database", "redis", "broker", "model", "clocks", "workers", "names"}


def ill(part: str, *words: str) -> None:
    well, told = examined()
    assert not well
    assert told[part].startswith("ILL")
    assert all(word in told[part] for word in words), told[part]


def test_doctor_reports_how_many_tasks_wait(service: "server.Redis") -> None:
    ApiClient().begin()
    _, told = examined()
    assert "1 wait in its queue, for 1 waiting runs" in told["broker"]
    service.lpush(QUEUE, *["{}"] * 1100)
    ill("broker", "1101 tasks for 1 waiting runs", "Start workers")


def test_doctor_says_how_to_repair_redis(service: "server.Redis", settings: Any) -> None:
    service.config_set("maxmemory-policy", "allkeys-lru")
    ill("redis", "allkeys-lru", "maxmemory-policy noeviction")
    service.config_set("maxmemory-policy", "noeviction")
    service.config_set("appendonly", "no")
    ill("redis", "appendonly yes")
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    the_log.cache_clear()
    ill("redis", "does not answer", "REDIS_URL")
    ill("clocks", "REDIS_URL")


def test_doctor_says_how_to_repair_the_model(
    service: "server.Redis", settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.LLM_MODELS = ["another"]
    ill("model", "LLM_MODELS", "offers test")
    settings.OPENAI_BASE_URL = "http://127.0.0.1:1/v1"
    ill("model", "OPENAI_BASE_URL")
    settings.OPENAI_BASE_URL = "http://[/v1"
    ill("model", "OPENAI_BASE_URL")
    for answer in (httpx.Response(404), httpx.Response(200, text="<html>")):
        answer.request = httpx.Request("GET", "http://model")
        with monkeypatch.context() as patch:
            patch.setattr(httpx, "get", lambda *_, **__: answer)  # noqa: B023
            ill("model", str(answer.status_code), "OPENAI_BASE_URL")
    settings.EMBEDDED_MODEL, settings.MODEL_URL_FILE = True, tmp_path / "model.url"
    ill("model", "not running")


def test_doctor_reports_clock_skew_and_waiting_runs(
    service: "server.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    ApiClient().begin()
    Run.objects.update(created_at=F("created_at") - timedelta(minutes=2))
    ill("workers", "1 runs", "Start workers")
    real: Callable[..., Any] = the_log().ask_server
    monkeypatch.setattr(
        the_log(),
        "ask_server",
        lambda *w: (time.time() + 90, 0) if w[1:] == ("TIME",) else real(*w),
    )
    ill("clocks", "NTP")


def test_doctor_compares_the_names_of_web_and_processes(
    service: "server.Redis", settings: Any
) -> None:
    settings.AGENTS = {"support": "shop.agents.support"}
    ill("names", "support", "`agents`")
    register(uuid4(), Kind.AGENT)
    assert examined()[0]
    ApiClient().begin(model="support")
    settings.AGENTS = {}
    ill("names", "support", "the settings lack")
    WorkerProcess.objects.update(seen_at=F("seen_at") - timedelta(minutes=2))
    ill("names", "test", "`worker`")


def test_doctor_reports_an_unapplied_migration(
    service: "server.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = "django.db.migrations.executor.MigrationExecutor.migration_plan"
    monkeypatch.setattr(plan, lambda *_: ["one"])
    ill("database", "manage.py migrate")
