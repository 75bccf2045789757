"""An outage of PostgreSQL during replies."""

from __future__ import annotations

from tests.faults.conftest import Judge
from tests.support.many_followers import delta, final_event, following, wait_for_all
from tests.support.ports import HOST
from tests.support.postgresql import UP_WITHIN
from tests.support.production_machine import Machine
from tests.support.visitor import Visitor, script


async def test_streams_continue_without_the_database_and_no_accepted_reply_is_lost(
    judge: Judge,
) -> None:
    """One reply ends while the database is down, and one lasts until it is back."""
    async with Machine() as machine:
        machine.settings |= {"HTTPS": "false", "ALLOW_ANONYMOUS": "true"}
        machine.manage("migrate", "--noinput", "--verbosity", "0")
        web, worker = machine.service("web", 1), machine.service("worker", 1)
        await web.wait_for_log("listens on", within=UP_WITHIN)
        await worker.wait_for_log("ready.", within=UP_WITHIN)
        visitor = Visitor(HOST, machine.port)
        await visitor.begin_session()
        short = await visitor.ask(script(tokens=120, rate=30, seed=1))
        long = await visitor.ask(script(tokens=600, rate=30, seed=2))
        asked = [short, long]
        followers = [visitor.follower(one.conversation, cursor=one.cursor) for one in asked]
        async with following(followers, within=90):
            await wait_for_all(followers, delta(20), within=30)
            database = machine.database
            database.kill()
            await wait_for_all(followers, delta(110), within=30)  # a token needs no query
            refused = await visitor.http.post("/api/conversations/", json={"message": "hello"})
            assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
            assert (await visitor.http.get("/health/ready")).status_code == 503
            assert (await visitor.http.get("/health/live")).status_code == 200
            await followers[1].wait_for(delta(500), within=30)
            database.start()
            await database.answers()
            await wait_for_all(followers, final_event(), within=60)
        report = await judge(visitor, asked, followers)
        await visitor.close()
        assert report.clean, report
        assert web.running
        assert worker.running
