"""Faults of the model: each run ends once, with a code, and reveals no secret."""

from __future__ import annotations

import asyncio

import psutil
import pytest

from tests.faults.conftest import Judge, Stacks
from tests.support.many_followers import final_event, following
from tests.support.stack import Stack
from tests.support.stack_settings import KEY
from tests.support.visitor import script

TIMES = 20
SILENCE = 3  # seconds that the model may be silent here
IDLE_CONNECTIONS = 20  # that a client may keep for its next requests
SURVIVED = ("no_done", "empty_choices", "big", "half_surrogate")
FATAL = ("refuse", "context", "401", "404", "429", "500")
IN_MID_STREAM = ("reset", "cut", "truncated", "no_finish", "error", "silence", "drip")
PASSING = ("refuse", "429", "500")
AT_ONCE = 4  # cases; one of them lasts until RUN_TIMEOUT


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_every_fault_of_the_model_ends_its_run_once(stacks: Stacks, judge: Judge) -> None:
    settings = {"MODEL_READ_TIMEOUT": str(SILENCE), "RUN_TIMEOUT": "20"}
    async with stacks(also=settings) as stack:
        cases: list[tuple[str, dict[str, object], str]]
        cases = [(fault, {"fault": fault}, "failed") for fault in FATAL]
        cases += [(fault, {"fault": fault, "fault_at": 5}, "failed") for fault in IN_MID_STREAM]
        cases += [(fault, {"fault": fault, "fault_at": 5}, "completed") for fault in SURVIVED]
        cases += [
            (f"{fault} once", {"fault": fault, "times": 1, "retry_after": 0.2}, "completed")
            for fault in PASSING
        ]

        room = asyncio.Semaphore(AT_ONCE)

        async def end_once(name: str, fault: dict[str, object], status: str) -> None:
            async with room:
                await judged(name, fault, status)

        async def judged(name: str, fault: dict[str, object], status: str) -> None:
            visitor = await stack.visitor()
            asked = [
                await visitor.ask(script(tokens=10, seed=f"{name}-{n}", **fault))
                for n in range(TIMES)
            ]
            followers = [visitor.follower(one.conversation, cursor=one.cursor) for one in asked]
            async with following(followers, within=60):
                pass
            report = await judge(visitor, asked, followers)
            assert report.clean, (name, str(report))
            ends = [await follower.wait_for(final_event(), within=1) for follower in followers]
            assert {end.block.event for end in ends} == {f"run.{status}"}, name
            if status == "failed":
                said = {(end.block.payload["code"], end.block.payload["reason"]) for end in ends}
                assert len(said) == 1, (name, said)
            for follower in followers:
                for heard in follower.recording.received():
                    assert KEY.encode() not in heard.block.raw, name

        async with asyncio.TaskGroup() as beside:
            for case in cases:
                beside.create_task(end_once(*case))
        leaves_no_socket(stack)
        for part in (stack.web, stack.worker):
            words = part.log.read_text(errors="replace")
            assert KEY not in words
            assert '"tokens"' not in words, "a prompt stands in the log"


def leaves_no_socket(stack: Stack) -> None:
    model = stack.model.stats()
    assert model["open"] <= IDLE_CONNECTIONS, model
    states = [wire.status for wire in psutil.Process(stack.worker.pid).net_connections("tcp")]
    assert psutil.CONN_CLOSE_WAIT not in states
