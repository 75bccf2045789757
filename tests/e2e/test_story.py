"""One story through real processes: a question, its reply, a lost connection, a cancelled reply.

The scripted model gives the expected texts. Of `make run`, the embedded model writes one reply and
a demonstration agent another.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.faults.conftest import Judge, Stacks
from tests.support.many_followers import delta, following, wait_for_all
from tests.support.ports import HOST, essentials, free_port
from tests.support.process import Process
from tests.support.procfile import CHECKOUT
from tests.support.recording import Recording
from tests.support.visitor import Visitor, script

PATIENCE = 90.0  # seconds for each step; it bounds a busy machine and measures nothing
HEAD = {"run", "attempt", "index"}  # fields of each event that are no part's

pytestmark = pytest.mark.timeout(300)


async def test_a_reader_receives_each_reply_whole_over_lost_connections_and_can_cancel_one(
    stacks: Stacks, judge: Judge
) -> None:
    async with stacks() as stack:
        visitor = await stack.visitor()
        first = await visitor.ask(script(tokens=80, rate=40, seed="first"))
        steady = visitor.follower(first.conversation, cursor=first.cursor)
        resuming = visitor.follower(first.conversation, cursor=first.cursor, cuts=[700, 1500, 2500])
        async with following([steady, resuming], within=PATIENCE):
            pass
        report = await judge(visitor, [first], [steady, resuming])
        assert report.clean, report
        assert len(resuming.recording.connections) > 3

        second = await visitor.send(first.conversation, script(tokens=20_000, rate=20, seed="long"))
        readers = [
            visitor.follower(second.conversation, cursor=second.cursor),
            visitor.follower(second.conversation),
        ]
        async with following(readers, within=PATIENCE):
            await wait_for_all(readers, delta(3, second.run), within=PATIENCE)
            assert (await visitor.cancel(second.run))["status"] == "cancelled"
        report = await judge(visitor, [first, second], readers)
        assert report.clean, report

        third = await visitor.send(first.conversation, script(tokens=5, seed="third"))
        late = visitor.follower(third.conversation, cursor=first.cursor)
        async with following([late], within=PATIENCE):
            pass
        asked = [first, second, third]
        report = await judge(visitor, asked, [late])
        assert report.clean, report
        statuses = [(await visitor.run(one.run))["status"] for one in asked]
        assert statuses == ["completed", "cancelled", "completed"]


async def test_make_run_has_a_model_and_an_agent_and_all_processes_end_at_sigint(
    tmp_path: Path,
) -> None:
    port = free_port()
    part = Process(
        "make run",
        [sys.executable, "-m", "config.dev.run"],
        environment={**essentials(), "PORT": str(port), "DATA_DIR": str(tmp_path / "data")},
        directory=CHECKOUT,
        log=tmp_path / "make-run.log",
    )
    part.start()
    family: list[psutil.Process] = []
    try:
        await part.wait_for_log(f"Unspool answers at http://{HOST}:{port}/", within=PATIENCE)
        family = psutil.Process(part.pid).children(recursive=True)
        assert await parts_of_reply("Say hello in one sentence.", port)
        await sees_an_agent_search(port)
        os.killpg(part.pid, signal.SIGINT)  # as a terminal does at Ctrl-C
        await part.ended(within=PATIENCE)
    finally:
        sys.stderr.write(part.tail())  # shown where the test fails
        part.kill()
        left = [process for process in family if process.is_running()]
        for process in left:
            process.kill()
    assert left == []


async def sees_an_agent_search(port: int) -> None:
    """A demonstration agent calls a tool, which yields sources."""
    parts = await parts_of_reply("How does Unspool resume a stream?", port, model="demo-tools")
    call, *sources, result, text = parts
    assert (call["type"], call["name"]) == ("tool_call", "search_documents")
    assert [source["type"] for source in sources] == ["source"] * 3
    assert (result["type"], result["call"]) == ("tool_result", call["call"])
    assert text["type"] == "text"
    assert sources[0]["source"] in text["text"]


async def parts_of_reply(
    question: str, port: int, model: str = "smollm2-135m-instruct"
) -> list[dict[str, Any]]:
    """The stored parts of the reply, which are those that a reader has received as events."""
    visitor = Visitor(HOST, port)
    try:
        await visitor.begin_session()
        asked = await visitor.ask(question, model=model)
        follower = visitor.follower(asked.conversation, cursor=asked.cursor)
        async with asyncio.timeout(PATIENCE):
            recording = await follower.follow()
        assert recording.whole
        truth = await visitor.conversation(asked.conversation)
        (reply,) = [m for m in truth["messages"] if m["run"] == asked.run]
        assert received(recording) == reply["parts"]
        return list(reply["parts"])
    finally:
        await visitor.close()


def received(recording: Recording) -> list[dict[str, Any]]:
    """The parts in the events, with all deltas of text as one part at the end."""
    types = {"tool.called": "tool_call", "tool.returned": "tool_result", "source.added": "source"}
    parts, text = [], ""
    for block in (heard.block for heard in recording.received()):
        if block.event in types:
            fields = {name: block.payload[name] for name in block.payload.keys() - HEAD}
            parts.append({"type": types[block.event], **fields})
        elif block.event == "text.delta":
            text += block.payload["text"]
    return [*parts, {"type": "text", "text": text}]
