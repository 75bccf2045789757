"""Fixtures that several integration tests share, and clean-up after the tests."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import redis
from asgiref.sync import SyncToAsync
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.test import Client

from streams.delivery.open_streams import OpenStreams
from streams.delivery.threads import THREADS, threads
from streams.web import health_checks
from streams.web.health_checks import probes
from tests.conftest import running_valkey
from tests.integration.support.langgraph_requests import Json
from tests.integration.support.logged_run import LoggedRun
from tests.integration.support.model_calls import name_model
from tests.integration.support.published_run import PublishedRun
from tests.integration.support.stepped_reply import SteppedReplies
from tests.integration.support.two_servers import SERVERS, told_on
from tests.integration.support.window_events import WINDOW
from tests.support.openai_server import Running, serving
from workers.generators.openai import close_client
from workers.runtime import Runtime


@pytest.fixture(autouse=True)
def _clear_probes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget probes. The next test would share a probe that still waits for an earlier Redis.

    On a busy machine, a part that works may answer later than after the usual `PATIENCE`.
    """
    monkeypatch.setattr(health_checks, "PATIENCE", 30.0)
    probes.cache_clear()
    yield
    probes.cache_clear()


@pytest.fixture
def close_connections() -> Iterator[None]:
    """Close all connections that the test opens. For tests whose threads end with them.

    A thread of a `ThreadedHandler` keeps its SQLite connection open. Since Python 3.13, freeing an
    open connection causes a ResourceWarning, which may appear in a later test.
    """
    opened: list[BaseDatabaseWrapper] = []

    def note(connection: BaseDatabaseWrapper, **_: object) -> None:
        opened.append(connection)

    connection_created.connect(note)
    yield
    connection_created.disconnect(note)
    for one in opened:
        one.inc_thread_sharing()  # otherwise only its own thread may close it
        one.close()
        one.dec_thread_sharing()


@pytest.fixture(scope="session", autouse=True)
def _close_thread_connections(django_db_setup: None) -> Iterator[None]:
    """Close the connection of each thread, because PostgreSQL drops no database in use."""
    yield
    for pool in (threads(None), threads(0), threads(1)):
        barrier = Barrier(THREADS)

        def close(barrier: Barrier = barrier) -> None:
            barrier.wait(10)
            connection.close()

        for closing in [pool.submit(close) for _ in range(THREADS)]:
            closing.result(20)
    SyncToAsync.single_thread_executor.submit(lambda: connection.close()).result(10)  # of asgiref


@pytest.fixture
async def crowd() -> AsyncIterator[OpenStreams]:
    followers = OpenStreams()
    yield followers
    await followers.close()


@pytest.fixture(scope="session")
def second_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_valkey(tmp_path_factory.mktemp("w")) as url:
        yield url


@pytest.fixture
def two(valkey: "redis.Redis", second_url: str, settings: Any) -> Iterator[list["redis.Redis"]]:
    """Clients of two servers, which the settings name."""
    settings.REDIS_URL += f",{second_url}"
    with redis.Redis.from_url(second_url, decode_responses=True) as second:
        second.flushall()
        yield [valkey, second]


@pytest.fixture
def pair(two: list["redis.Redis"]) -> list[PublishedRun]:
    """A reply on each server."""
    return [told_on(server) for server in SERVERS]


@pytest.fixture
def replies(settings: Any) -> Iterator[SteppedReplies]:
    settings.DELTA_WINDOW = WINDOW
    with SteppedReplies() as made:
        yield made


@pytest.fixture
def stream(client: Client) -> Iterator[Callable[..., Any]]:
    """Opens a stream with the module's client. Its response is not read."""
    opened = []

    def open_stream(path: str, body: Json | None = None, **headers: str) -> Any:
        if body is None:
            response = client.get(path, headers=headers)
        else:
            response = client.post(path, body, content_type="application/json", headers=headers)
        opened.append(response)
        return response

    yield open_stream
    for response in opened:
        response.close()


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short path, because a Unix socket's path has at most 107 bytes."""
    return tmp_path_factory.mktemp("b")


@pytest.fixture
def logged(valkey: "redis.Redis") -> LoggedRun:
    return LoggedRun(valkey)


@pytest.fixture(scope="module")
def model() -> Iterator[Running]:
    """A scripted model."""
    with serving() as running:
        yield running


@pytest.fixture
async def called_model(
    model: Running, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    """Let the settings name the scripted model, and close its client afterwards."""
    name_model(settings, monkeypatch, model.url)
    yield
    await close_client()


@pytest.fixture
def process(valkey: "redis.Redis", settings: Any, model: Running) -> Iterator[Runtime]:
    """A worker's shared parts."""
    settings.OPENAI_BASE_URL = model.url
    settings.EMBEDDED_MODEL = False
    settings.LEASE_CHECK_INTERVAL = 0.1
    settings.SWEEP_INTERVAL = 3600
    running = Runtime()
    yield running
    running.close()


@pytest.fixture(params=[0.0, 0.1])
def _window(settings: Any, request: pytest.FixtureRequest) -> None:
    """Run the test twice: with one piece in each event, and with about six pieces."""
    settings.DELTA_WINDOW = request.param
