"""The memory of Redis: new runs are refused before it is full, and replies continue."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.test import Client

from streams.chat import redis_memory
from streams.chat.redis_memory import Memory, memory_of
from streams.log.channels import channel_of
from streams.log.event_log import EventLog, the_log
from streams.models import Conversation, Run
from streams.protocol.events import RunStarted, TextDelta
from tests.integration.support.api_client import ApiClient, conversation, run
from tests.support.appends import text_append

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def server(valkey: "redis.Redis") -> Iterator["redis.Redis"]:
    """The Valkey, which has bounded memory for as long as a test says."""
    memory_of.cache_clear()
    yield valkey
    valkey.config_set("maxmemory", 0)
    memory_of.cache_clear()


def fill(server: "redis.Redis", share: float) -> None:
    """Bound the memory so that this share of it is in use."""
    server.config_set("maxmemory-policy", "noeviction")
    server.config_set("maxmemory", int(server.info("memory")["used_memory"] / share))
    memory_of.cache_clear()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What the servers were asked for."""
    words: list[tuple[str, ...]] = []
    ask = EventLog.ask_server

    def noted(self: EventLog, server: int, *of: str) -> Any:
        words.append(of)
        return ask(self, server, *of)

    monkeypatch.setattr(EventLog, "ask_server", noted)
    return words


def test_new_runs_are_refused_before_redis_is_full_and_replies_continue(
    server: "redis.Redis",
) -> None:
    browser = ApiClient()
    body = {"message": "Why?"}
    made = browser.post("/api/conversations/", body, Idempotency_Key="one").json()
    row = Run.objects.get(pk=made["run"])
    channel = channel_of(row.conversation_id)
    event = RunStarted(run=row.id, attempt=1, model="m")
    known = the_log().channel(channel).append_start(event, abandoned=False)
    fill(server, 0.95)
    before = (Run.objects.count(), Conversation.objects.count(), server.dbsize())
    where = conversation(made["conversation"])
    for path, wish in (
        ("/api/conversations/", body),
        (f"{where}messages/", body | {"when_busy": "queue"}),
        (f"{where}messages/", body | {"when_busy": "interrupt"}),
        (f"{run(made['run'])}retry/", {"when_busy": "queue"}),
    ):
        refused = browser.post(path, wish)
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        assert refused["Retry-After"] == "5"
    assert Run.objects.get(pk=made["run"]).cancel_asked is False
    # The first look at a new log left its place there, before the memory was known.
    assert (Run.objects.count(), Conversation.objects.count()) == before[:2]
    assert server.dbsize() <= before[2] + 1
    piece = TextDelta(run=row.id, attempt=1, index=0, text="Because")
    answers = the_log().append([text_append(channel, piece, min_head=known)])
    assert answers == [known + 1]
    assert browser.get(where).status_code == 200
    again = browser.post("/api/conversations/", body, Idempotency_Key="one")
    assert (again.status_code, again.json()["run"]) == (202, made["run"])
    fill(server, 0.5)
    assert browser.post("/api/conversations/", body).status_code == 202


def test_a_redis_that_is_full_gets_no_new_run(server: "redis.Redis") -> None:
    browser = ApiClient()
    fill(server, 1.05)
    refused = browser.post("/api/conversations/", {"message": "Why?"})
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert not Run.objects.exists()


def test_the_memory_of_redis_is_read_at_most_once_per_interval(
    server: "redis.Redis", asked: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(redis_memory, "monotonic", lambda: now[0])
    browser = ApiClient()
    for _ in range(5):
        browser.begin()
    Client().get("/metrics")
    assert asked == [("INFO", "memory")]
    now[0] += redis_memory.FRESH
    browser.begin()
    assert asked == [("INFO", "memory")] * 2


def test_while_redis_is_down_a_post_is_accepted_without_reading_its_memory(
    settings: Any, asked: list[tuple[str, ...]]
) -> None:
    browser = ApiClient()
    settings.REDIS_URL = "unix:///nowhere/valkey.sock"
    the_log.cache_clear()
    assert browser.post("/api/conversations/", {"message": "Why?"}).status_code == 202
    assert asked == []
    told = Client().get("/metrics").content.decode()
    assert "unspool_redis_memory_bytes{" not in told


def test_the_memory_of_each_server_is_a_metric(server: "redis.Redis") -> None:
    fill(server, 0.5)
    limit = int(server.config_get("maxmemory")["maxmemory"])
    told = dict(
        line.rsplit(" ", 1)
        for line in Client().get("/metrics").content.decode().splitlines()
        if line.startswith("unspool_redis_memory")
    )
    assert float(told['unspool_redis_memory_limit_bytes{server="0"}']) == limit
    assert 0.3 < float(told['unspool_redis_memory_bytes{server="0"}']) / limit < 0.7
    assert float(told['unspool_redis_memory_fragmentation_ratio{server="0"}']) > 0


def test_a_redis_without_a_limit_is_never_full(settings: Any) -> None:
    settings.REDIS_MEMORY_LIMIT = 0.9
    assert not Memory(used=10**12, limit=0, fragmentation=1.0).full
    assert not Memory(used=90, limit=100, fragmentation=1.0).full
    assert Memory(used=91, limit=100, fragmentation=1.0).full
