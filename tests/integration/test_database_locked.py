"""A database that cannot be written: which requests are answered, how soon, and with what."""

import asyncio
import resource
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.db import connection

from config.asgi import application
from streams.http import threaded_handler
from streams.http.lock_wait import in_request
from streams.models import Run
from streams.service_models import IdempotencyRecord
from streams.web import health_checks
from streams.web.health_checks import Probe, database
from tests.integration.support.api_client import ApiClient
from tests.integration.support.handler import Connection

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


WRITTEN = ("unspool_idempotencyrecord", "unspool_conversation", "unspool_message", "unspool_run")


def postgresql() -> "psycopg.Connection[Any]":
    """A connection that no pool has."""
    given = connection.settings_dict
    return psycopg.connect(
        host=given["HOST"],
        port=given["PORT"],
        user=given["USER"],
        password=given["PASSWORD"] or None,
        dbname=given["NAME"],
        autocommit=True,
    )


@contextmanager
def locked() -> Iterator[None]:
    """Another process writes, and does not come to an end. Others may read."""
    if connection.vendor == "postgresql":
        with postgresql() as server, server.transaction():
            server.execute(f"LOCK TABLE {', '.join(WRITTEN)} IN SHARE MODE".encode())
            yield
        return
    other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield
    finally:
        other.close()


@contextmanager
def full() -> Iterator[None]:
    """No file grows any more: neither the database nor what is written ahead of it.

    Of PostgreSQL, which is another process: its table takes no row.
    """
    if connection.vendor == "postgresql":
        with postgresql() as server:
            check = "ADD CONSTRAINT full_disk CHECK (false) NOT VALID"
            server.execute(f"ALTER TABLE unspool_idempotencyrecord {check}".encode())
            try:
                yield
            finally:
                server.execute("ALTER TABLE unspool_idempotencyrecord DROP CONSTRAINT full_disk")
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # else it has room from before
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (128 * 1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def in_a_thread(ask: Any) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(ask()))
    thread.start()
    thread.join(30)
    return found[0]


def test_a_writable_database_is_healthy_and_the_check_stores_nothing() -> None:
    assert in_a_thread(database) == "ok"
    assert not IdempotencyRecord.objects.exists()


def test_a_database_with_a_stuck_writer_is_read_only() -> None:
    with locked():
        assert in_a_thread(database) == "read-only"
    assert in_a_thread(database) == "ok"


def test_a_database_whose_disk_is_full_is_read_only() -> None:
    IdempotencyRecord.objects.create(owner="", route="", key="", digest="", body="")
    with full():
        assert in_a_thread(database) == "read-only"
    assert in_a_thread(database) == "ok"


def test_the_check_does_not_grow_the_write_ahead_log() -> None:
    """Of SQLite; PostgreSQL recycles its own."""
    log = Path(f"{connection.settings_dict['NAME']}-wal")
    IdempotencyRecord.objects.exists()  # the connection stays open, so the file stays
    lengths = []
    for _ in range(30):
        assert in_a_thread(database) == "ok"
        lengths.append(log.stat().st_size if log.exists() else 0)
    assert lengths[-1] == lengths[0]


def test_a_dependency_that_does_not_answer_is_down_and_is_probed_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health_checks, "PATIENCE", 0.2)
    over = threading.Event()
    asked: list[None] = []

    def hang() -> str:
        asked.append(None)
        over.wait(30)
        return "ok"

    probe = Probe(hang, "away")
    answers = [probe.ask() for _ in range(100)]
    begun = monotonic()
    assert {answer() for answer in answers} == {"away"}
    assert monotonic() - begun < 10  # not 100 times as long
    assert (probe.ask()(), len(asked)) == ("away", 1)
    over.set()


@pytest.fixture
async def browser() -> ApiClient:
    return await sync_to_async(ApiClient)()


def post(browser: ApiClient) -> Connection:
    token = {"x-csrftoken": browser.csrf["X-CSRFToken"]}
    return Connection(browser, "/api/conversations/", body=b'{"message": "Why?"}', **token)


async def test_while_posts_wait_for_a_write_lock_other_requests_are_answered(
    browser: ApiClient, settings: Any
) -> None:
    await sync_to_async(browser.begin)()
    settings.DATABASE_WAIT = 30.0
    with await sync_to_async(locked)():
        posts = [post(browser) for _ in range(100)]  # more than their lane has threads
        others = [Connection(browser, path) for path in ("/api/conversations/", "/") * 20]
        for other in others:
            await asyncio.wait_for(other.task, 25)
        ready = Connection(browser, "/health/ready")
        await asyncio.wait_for(ready.task, 25)
        assert not any(one.status == 202 for one in posts)
    assert {other.status for other in others} == {200}
    assert (ready.status, b'"read-only"' in ready.body) == (503, True)
    await asyncio.gather(*(one.task for one in posts))


@pytest.mark.usefixtures("close_connections")
async def test_posts_that_wait_for_a_write_lock_are_refused_in_time(
    browser: ApiClient, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DATABASE_WAIT = 0.3
    few = threaded_handler.ThreadedHandler("few", threads=2, waiting=8)
    monkeypatch.setattr(application, "writes", few)
    monkeypatch.setattr(threaded_handler, "TURN", 0.2)
    runs = await Run.objects.acount()
    with await sync_to_async(locked)():
        posts = [post(browser) for _ in range(30)]
        await asyncio.wait_for(asyncio.gather(*(one.task for one in posts)), 60)
        assert {(one.status, one.headers["Retry-After"]) for one in posts} == {(503, "5")}
        assert all(b'"code":"unavailable"' in one.body for one in posts)
        crowded = [one for one in posts if b"Too many requests" in one.body]
        assert 20 <= len(crowded) < 30
    after = post(browser)
    await asyncio.wait_for(after.task, 30)
    assert after.status == 202
    assert await Run.objects.acount() == runs + 1  # what was refused has not happened later


def test_the_wait_for_a_lock_ends_after_the_setting(settings: Any) -> None:
    settings.DATABASE_WAIT = 1.25

    def bound() -> int:
        in_request.set(True)
        try:
            with connection.cursor() as cursor:
                if connection.vendor == "sqlite":
                    cursor.execute("PRAGMA busy_timeout")
                else:
                    cursor.execute("SELECT setting FROM pg_settings WHERE name = 'lock_timeout'")
                return int(cursor.fetchone()[0])
        finally:
            connection.close()

    assert in_a_thread(bound) == 1250
