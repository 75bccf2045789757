"""Streams behind Pushpin when a process ends: readers lose nothing."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from itertools import count

import psutil
import pytest

from tests.faults.conftest import Grip, Judge, Size
from tests.support.many_followers import (
    delta,
    following,
    numbered_since,
    wait_for_all,
    wait_past_first_request,
)
from tests.support.ports import HOST, listens
from tests.support.process import alive
from tests.support.pushpin_stack import PushpinStack
from tests.support.visitor import script
from tests.support.waiting import until

IDLE = 12  # seconds without traffic; 75 by default
LONG = 20_000  # tokens: a reply that lasts until it is cancelled


async def port_is_free(gripped: PushpinStack) -> None:
    """A killed program's last thread may hold Pushpin's port for a moment longer."""
    await until(lambda: not listens(gripped.port), within=5, what="a free port")


@pytest.mark.parametrize("victim", ["pushpin", "bridge", "web"])
async def test_killing_any_process_during_a_reply_loses_nothing(
    grip: Grip, judge: Judge, size: Size[int], victim: str
) -> None:
    async with grip() as (stack, gripped):
        visitor = await gripped.visitor()
        asked = [await visitor.ask(script(tokens=LONG, rate=20, seed=n)) for n in range(5)]
        readers = [
            visitor.follower(one.conversation, cursor=one.cursor, retry_at_most=0.5)
            for one in asked
            for _ in range(4)
        ]
        part = {"pushpin": gripped.pushpin, "bridge": gripped.bridge, "web": stack.web}[victim]
        killed: list[float] = []
        async with following(readers, within=60):
            await wait_past_first_request(readers)
            for _ in range(size(2, 10)):
                killed.append(time.monotonic())
                part.kill()
                if victim == "web":
                    await wait_for_all(readers, numbered_since(killed[-1] + 6), within=10)
                if victim == "pushpin":
                    await port_is_free(gripped)
                part.start()
                await wait_for_all(readers, numbered_since(killed[-1] + 1), within=30)
            if victim == "web":
                await stack.ready(stack.web)
            await asyncio.gather(*(visitor.cancel(one.run) for one in asked))
        report = await judge(visitor, asked, readers, broken_at=killed)
        assert report.clean, report
        if victim != "pushpin":
            assert all(len(r.recording.connections) == 2 for r in readers), "a reader noticed"
        if victim == "web":
            assert report.recovery(1) < 1.0


@pytest.mark.long
async def test_an_eventsource_reconnects_when_the_web_process_dies_during_its_request(
    grip: Grip, judge: Judge, size: Size[int], chance: random.Random
) -> None:
    async with grip() as (stack, gripped):
        visitor = await gripped.visitor()
        asked = [await visitor.ask(script(tokens=400, rate=20, seed=n)) for n in range(5)]
        readers = [
            visitor.follower(
                one.conversation,
                cursor=one.cursor,
                cuts=(chance.randrange(200, 2000) for _ in count()),
            )
            for one in asked
            for _ in range(20)
        ]
        async with following(readers, within=60):
            await wait_for_all(readers, delta(0), within=30)
            for _ in range(size(4, 40)):
                await asyncio.sleep(chance.uniform(0.5, 1.5))
                stack.web.kill()
                await asyncio.sleep(chance.uniform(0.1, 2))
                stack.web.start()
                await stack.ready(stack.web)
            for reader in readers:
                reader.cuts = iter(())
        report = await judge(visitor, asked, readers)
        assert report.clean, report
        hasty = [
            connection
            for reader in readers
            for connection in reader.recording.connections
            if [heard.block.payload for heard in connection.received] == [{"head": None}]
        ]
        assert hasty, "no reader connected while the web process was down"


async def test_a_process_killed_alone_blocks_no_successor(grip: Grip) -> None:
    async with grip() as (_, gripped):
        for victim in ("itself", "condure", "pushpin-handler"):
            runner = psutil.Process(gripped.pushpin.pid)
            await until(lambda: len(runner.children()) == 5, within=5, what="its programs")  # noqa: B023
            parts = runner.children()
            doomed = next((p.pid for p in parts if p.name() == victim), gripped.pushpin.pid)
            os.kill(doomed, signal.SIGKILL)
            await gripped.pushpin.ended(within=5)
            await until(lambda: not any(map(alive, parts)), within=5, what="the end of all")  # noqa: B023
            await port_is_free(gripped)
            gripped.pushpin.start()
            await gripped.ready()
            visitor = await gripped.visitor()
            one = await visitor.ask(script(tokens=5, rate=20, seed=1))
            async with asyncio.timeout(20):
                assert (await visitor.follower(one.conversation).follow()).whole


async def test_a_client_that_sends_half_a_body_is_closed_and_a_waiting_one_is_not(
    grip: Grip,
) -> None:
    also = {"PUSHPIN_IDLE_TIMEOUT": str(IDLE), "STREAM_HEARTBEAT": str(IDLE / 6)}
    async with grip(also=also) as (_, gripped):
        visitor = await gripped.visitor()
        one = await visitor.ask(script(tokens=2, rate=20, pause_at=1, pause=1.5 * IDLE))
        reader = visitor.follower(one.conversation, cursor=one.cursor)
        half, sender = await asyncio.open_connection(HOST, gripped.port)
        sender.write(b"POST /api/conversations/ HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{")
        begun = time.monotonic()
        async with following([reader], within=60), asyncio.timeout(10 * IDLE):
            waited = await visitor.http.post(
                f"/api/conversations/{one.conversation}/messages/",
                json={"message": "?", "when_busy": "queue"},
                headers={"Prefer": f"wait={IDLE - 4}"},
                timeout=5 * IDLE,
            )
            assert (waited.status_code, await half.read()) == (202, b"")
            assert IDLE - 1 < time.monotonic() - begun < IDLE + 15
        sender.close()
        assert reader.recording.whole
        assert len(reader.recording.connections) == 2  # the second gets 204
