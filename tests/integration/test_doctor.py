"""`doctor` checks each part of the service, and says how to repair it."""

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
from django.core.management import CommandError, call_command
from django.db.models import F

from streams.chat.model_names import Kind
from streams.chat.worker_processes import register
from streams.log.event_log import the_log
from streams.models import Run
from streams.service_models import WorkerProcess
from tests.integration.support.api_client import ApiClient
from tests.integration.support.broker import QUEUE
from tests.support.openai_server import serving

pytestmark = [pytest.mark.django_db]


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
