"""Streams behind Caddy when the web process ends: readers lose nothing."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tests.faults.conftest import Judge, Stacks
from tests.support.caddy import caddy_before
from tests.support.many_followers import delta, following, numbered_since, wait_for_all
from tests.support.visitor import script

LONG = 20_000  # tokens: a reply that lasts until it is cancelled


async def test_behind_caddy_readers_outlast_the_web_process(
    stacks: Stacks, judge: Judge, tmp_path: Path
) -> None:
    async with stacks() as stack:
        caddy, port = await caddy_before(stack.ports[stack.web.name], tmp_path / "caddy")
        try:
            visitor = await stack.visitor(port=port)
            assert (await visitor.http.get("/metrics")).status_code == 404
            asked = await visitor.ask(script(tokens=LONG, rate=30))
            followers = [visitor.follower(asked.conversation) for _ in range(5)]
            async with following(followers, within=30):
                await wait_for_all(followers, delta(0), within=30)
                stack.web.kill()
                await asyncio.sleep(1)
                refused = await visitor.http.get(f"/api/runs/{asked.run}/")
                assert refused.status_code == 502
                begun = time.monotonic()
                stack.web.start()
                await wait_for_all(followers, numbered_since(begun), within=30)
                await visitor.cancel(asked.run)
            report = await judge(visitor, [asked], followers)
        finally:
            caddy.kill()
        assert report.clean, report
        assert report.connections > 3 * len(followers), report
