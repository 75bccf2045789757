"""Readers of one run, each by another wire: what they need, and how each reads to the end.

A further wire adds its reader to `READERS`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.ai_sdk import PACKAGES, SCRIPT, Page
from tests.support.checker import Truth, check
from tests.support.openai_client import NODE_PACKAGES, User
from tests.support.ports import HOST
from tests.support.response_loop import CUT, ResponseLoop
from tests.support.script import expected
from tests.support.vendors import VendorProcess
from tests.support.visitor import AcceptedRun

CLIENTS = SCRIPT.parent


@dataclass(frozen=True, kw_only=True)
class OneRun:
    """A run that is being written, its owner, and the port at which one reader follows it."""

    asked: AcceptedRun
    user: User
    port: int

    @property
    def response(self) -> str:
        return f"resp_{self.asked.run}"

    async def stored(self) -> dict[str, Any]:
        return await self.user.visitor.run(self.asked.run)


@dataclass(frozen=True, kw_only=True)
class RunReader:
    """How a client of one wire follows a run to its end, however often its connection is cut.

    `read` checks what is particular to the wire, and returns the text that the client ends with.
    The vendor's process is given to those that have a `script`.
    """

    name: str
    read: Callable[[OneRun, VendorProcess | None], Awaitable[str]]
    script: Path | None = None
    packages: Mapping[str, str] = field(default_factory=dict)


async def _event_source(run: OneRun, _: VendorProcess | None) -> str:
    visitor = run.user.visitor
    follower = visitor.at(run.port).follower(run.asked.conversation, cursor=run.asked.cursor)
    recording = await follower.follow()
    truth = Truth(
        conversation=await visitor.conversation(run.asked.conversation),
        runs={run.asked.run: await run.stored()},
        scripts={run.asked.run: expected(run.asked.script)},
    )
    report = check("an EventSource", [recording], {run.asked.conversation: truth})
    assert report.faults == []
    return truth.content(run.asked.run)


def _ai_sdk(kind: str) -> Callable[[OneRun, VendorProcess | None], Awaitable[str]]:
    async def read(run: OneRun, client: VendorProcess | None) -> str:
        assert client
        chat = run.asked.conversation
        loaded = await run.user.visitor.http.get(f"/api/chat/{chat}/messages")
        page = await Page.open(
            client, run.user.visitor, kind, port=run.port, id=chat, messages=loaded.json()
        )
        told = await page.do("resume")
        assert told["status"] == "ready", told["error"]
        await page.check()
        return str(told["text"])

    return read


async def _openai_python(run: OneRun, _: VendorProcess | None) -> str:
    async with run.user.client(port=run.port) as client:
        loop = ResponseLoop(id=run.response)
        await loop.read_again(client)
    assert loop.numbers == sorted(set(loop.numbers))
    assert loop.final.output_text == loop.text()
    return loop.text()


async def _openai_accumulator(run: OneRun, _: VendorProcess | None) -> str:
    """The SDK's own accumulator, which is begun anew after each cut."""
    async with run.user.client(port=run.port) as client:
        after: dict[str, Any] = {}
        while True:
            try:
                async with client.responses.stream(response_id=run.response, **after) as stream:
                    async for event in stream:
                        after = {"starting_after": event.sequence_number}
                    return (await stream.get_final_response()).output_text
            except CUT:
                continue


async def _openai_node(run: OneRun, client: VendorProcess | None) -> str:
    assert client
    where = {"baseURL": f"http://{HOST}:{run.port}/v1", "apiKey": run.user.token}
    told = await client.do("loop", id=run.response, **where)
    assert told["numbers"] == sorted(set(told["numbers"]))
    assert (told["status"], told["output"]) == ("completed", told["text"])
    return str(told["text"])


READERS = [
    RunReader(name="EventSource", read=_event_source),
    RunReader(name="useChat 7", read=_ai_sdk("7"), script=SCRIPT, packages=PACKAGES["7"]),
    RunReader(name="useChat 5", read=_ai_sdk("5"), script=SCRIPT, packages=PACKAGES["5"]),
    RunReader(name="openai for Python", read=_openai_python),
    RunReader(name="openai's accumulator", read=_openai_accumulator),
    RunReader(
        name="openai for Node",
        read=_openai_node,
        script=CLIENTS / "openai.mjs",
        packages=NODE_PACKAGES,
    ),
]
