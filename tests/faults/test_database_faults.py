"""A PostgreSQL that answers, but not as it should: backends end, connections run out, rows wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import httpx
import psycopg
import pytest

from tests.faults.conftest import Judge
from tests.support.many_followers import delta, final_event, following, wait_for_all
from tests.support.ports import HOST
from tests.support.postgresql import UP_WITHIN, PostgreSQL
from tests.support.production_machine import Machine
from tests.support.visitor import AcceptedRun, Visitor, script

READY_WITHIN = 3.0  # seconds: two by promise, and the way there on a busy machine
REFUSED_WITHIN = 20.0  # DATABASE_WAIT or a pool's 10 s, 5 s for a thread, and a busy machine
BACK_WITHIN = 15.0  # the pool retries within 5 s
MESSAGE = {"message": script(tokens=5, rate=50)}
TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE usename = 'unspool' AND backend_type = 'client backend'"
)
TERMINATE_AND_WAIT = TERMINATE.replace("(pid)", "(pid, 10000)")  # ms at most for each backend


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Machine, Visitor]]:
    """A machine with a web and a worker process, and a visitor with a session."""
    async with Machine() as machine:
        machine.settings |= {"HTTPS": "false", "ALLOW_ANONYMOUS": "true"}
        machine.settings |= {"MAX_RUNS_PER_MINUTE": "1000", "MAX_LIVE_RUNS": "1000"}
        machine.manage("migrate", "--noinput", "--verbosity", "0")
        web, worker = machine.service("web", 1), machine.service("worker", 1)
        await web.wait_for_log("listens on", within=UP_WITHIN)
        await worker.wait_for_log("ready.", within=UP_WITHIN)
        visitor = Visitor(HOST, machine.port)
        await visitor.begin_session()
        yield machine, visitor
        await visitor.close()
        assert web.running
        assert worker.running


def superuser(database: PostgreSQL) -> psycopg.Connection[tuple[Any, ...]]:
    """A connection of the server's owner, to the service's database."""
    return psycopg.connect(
        host=str(database.sockets),
        port=database.port,
        user="postgres",
        dbname="unspool",
        autocommit=True,
    )


@contextmanager
def no_connection_left(database: PostgreSQL) -> Iterator[None]:
    """Every connection that the server allows is held by others; the service has none."""
    with ExitStack() as held, superuser(database) as own:
        deadline = time.monotonic() + UP_WITHIN
        count = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'unspool'"
        left = None
        while left != (0,):  # the service may have opened another connection meanwhile
            assert time.monotonic() < deadline, left
            own.execute(TERMINATE_AND_WAIT)
            try:
                while True:
                    held.enter_context(superuser(database))
            except psycopg.OperationalError:
                pass  # too many clients already
            left = own.execute(count).fetchone()
        yield


async def timed(answer: Any) -> tuple[httpx.Response, float]:
    """The response, and the seconds that it took."""
    begun = time.monotonic()
    return await answer, time.monotonic() - begun


def assert_refused(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable"), answer.text[:300]
    assert int(answer.headers["Retry-After"]) > 0


async def accepted_again(visitor: Visitor) -> float:
    """The seconds until a POST is accepted."""
    begun = time.monotonic()
    async with asyncio.timeout(BACK_WITHIN):
        while (answer := await visitor.http.post("/api/conversations/", json=MESSAGE)).is_error:
            assert_refused(answer)
    return time.monotonic() - begun


async def test_terminated_backends_refuse_some_requests_and_lose_no_accepted_reply(
    judge: Judge,
) -> None:
    async with running() as (machine, visitor):
        long = await visitor.ask(script(tokens=300, rate=30, seed=1))
        follower = visitor.follower(long.conversation, cursor=long.cursor)
        asked: list[AcceptedRun] = [long]
        seen: dict[int, int] = {}
        async with following([follower], within=90):
            await follower.wait_for(delta(5), within=30)
            with superuser(machine.database) as server:
                for _ in range(6):
                    requests = [
                        visitor.http.post("/api/conversations/", json=MESSAGE),
                        visitor.http.get("/api/conversations/"),
                        visitor.http.post("/api/conversations/", json=MESSAGE),
                        visitor.http.get("/"),
                    ]
                    answering = asyncio.gather(*requests)
                    for _ in range(5):  # at several moments of the requests
                        server.execute(TERMINATE)
                        await asyncio.sleep(0.02)
                    for answer in await answering:
                        status = answer.status_code
                        seen[status] = seen.get(status, 0) + 1
                        assert status in (200, 202, 503), answer.text[:300]
                        if status == 503:
                            assert int(answer.headers["Retry-After"]) > 0
                        if status == 202:
                            asked.append(AcceptedRun.of(answer, MESSAGE["message"]))
            print("answers while backends were terminated:", seen)
            print(f"accepted again after {await accepted_again(visitor):.2f} s")
        followers = [visitor.follower(one.conversation, cursor=one.cursor) for one in asked[1:]]
        async with following(followers, within=90):
            pass
        report = await judge(visitor, asked, [follower, *followers])
        assert report.clean, report


@pytest.mark.long
async def test_without_a_free_connection_requests_are_refused_in_time_and_streams_continue(
    judge: Judge,
) -> None:
    """Three refusals long: a pool that waits ever longer to try again would miss the end."""
    async with running() as (machine, visitor):
        long = await visitor.ask(script(tokens=1500, rate=30, seed=1))
        follower = visitor.follower(long.conversation, cursor=long.cursor)
        async with following([follower], within=120):
            await follower.wait_for(delta(5), within=30)
            with no_connection_left(machine.database):
                for _ in range(3):
                    post = asyncio.create_task(
                        timed(visitor.http.post("/api/conversations/", json=MESSAGE))
                    )
                    (ready, took), live = await asyncio.gather(
                        timed(visitor.http.get("/health/ready")),
                        visitor.http.get("/health/live"),
                    )
                    assert took < READY_WITHIN
                    assert not post.done()  # the probes do not wait for a connection
                    assert (ready.status_code, ready.json()["database"]) == (503, "away")
                    assert live.status_code == 200
                    refused, after = await post
                    assert_refused(refused)
                    assert after < REFUSED_WITHIN
                    print(f"refused after {after:.2f} s, ready {took:.2f} s")
                page, took = await timed(visitor.http.get("/"))
                assert (page.status_code, page.headers["Retry-After"]) == (503, "5")
                assert took < REFUSED_WITHIN
                await follower.wait_for(delta(600), within=60)
            print(f"accepted again after {await accepted_again(visitor):.2f} s")
            await wait_for_all([follower], final_event(), within=60)
        report = await judge(visitor, [long], [follower])
        assert report.clean, report


async def test_while_rows_are_locked_posts_are_refused_in_time_and_reads_work() -> None:
    async with running() as (machine, visitor):
        one = await visitor.ask(MESSAGE["message"])
        follower = visitor.follower(one.conversation, cursor=one.cursor)
        async with following([follower], within=60):
            pass
        path = f"/api/conversations/{one.conversation}/"
        reads = {path, "/api/conversations/", f"/api/runs/{one.run}/", "/health/ready"}
        with superuser(machine.database) as server, server.transaction():
            server.execute("SELECT id FROM unspool_conversation FOR UPDATE")
            posts = [
                asyncio.create_task(timed(visitor.http.post(f"{path}messages/", json=MESSAGE)))
                for _ in range(60)  # more than the threads that write
            ]
            answered = set[str]()  # while all POSTs wait
            while not any(post.done() for post in posts):
                for read in reads:
                    answer, took = await timed(visitor.http.get(read))
                    assert answer.status_code == 200, answer.text[:300]
                    assert took < READY_WITHIN
                    if not any(post.done() for post in posts):
                        answered.add(read)
            assert answered == reads
            answers = await asyncio.gather(*posts)
        for answer, _ in answers:
            assert_refused(answer)
        slowest = max(took for _, took in answers)
        print(f"60 posts refused, the last after {slowest:.2f} s")
        assert slowest < REFUSED_WITHIN
        assert (await visitor.http.post(f"{path}messages/", json=MESSAGE)).status_code == 202
