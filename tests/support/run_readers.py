"""Readers of one run, each of a different wire: what each needs, and how it reads to the end.

Add the reader of a new wire to `READERS`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.support import ag_ui, langgraph
from tests.support.ai_sdk import PACKAGES, SCRIPT, Page
from tests.support.checker import check
from tests.support.openai_client import NODE_PACKAGES, User
from tests.support.ports import HOST
from tests.support.recording import Recording
from tests.support.response_loop import CUT, ResponseLoop
from tests.support.socket_client import SocketFollower
from tests.support.truths import truths
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

    `read` checks the rules of its wire, and returns the text that the client has at the end. If
    the wire has a `script`, `read` gets a process that runs it with the vendor's client.
    """

    name: str
    read: Callable[[OneRun, VendorProcess | None], Awaitable[str]]
    script: Path | None = None
    packages: Mapping[str, str] = field(default_factory=dict)


async def _event_source(run: OneRun, _: VendorProcess | None) -> str:
    visitor = run.user.visitor
    follower = visitor.at(run.port).follower(run.asked.conversation, cursor=run.asked.cursor)
    return await _checked("an EventSource", run, await follower.follow())


async def _websocket(run: OneRun, _: VendorProcess | None) -> str:
    follower = SocketFollower(
        run.user.visitor, run.asked.conversation, port=run.port, cursor=run.asked.cursor
    )
    return await _checked("a WebSocket", run, await follower.follow())


async def _checked(name: str, run: OneRun, recording: Recording) -> str:
    """Check the events of the service's own stream. Returns the text of the reply."""
    found = await truths(run.user.visitor, run.asked)
    report = check(name, [recording], found)
    assert report.faults == []
    return found[run.asked.conversation].content(run.asked.run)


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
    """The SDK's own accumulator, which begins again after each cut."""
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


async def _ag_ui(run: OneRun, client: VendorProcess | None) -> str:
    assert client
    page = await ag_ui.AgUiPage.open(
        client, run.user.visitor, port=run.port, thread=run.asked.conversation
    )
    told = await page.do("connect")
    assert told["end"]["outcome"] == {"type": "success"}, told["error"]
    assert told["run"] == run.asked.run
    return "".join(part["text"] for part in await page.check() if part["type"] == "text")


async def _langgraph(run: OneRun, _: VendorProcess | None) -> str:
    """The SDK reconnects by itself, unless the head of its first response is cut."""
    thread, fold = run.asked.conversation, langgraph.Fold()
    async with langgraph.langgraph_client(run.user, port=run.port) as client:
        while fold.status is None:
            after: Any = {"last_event_id": str(fold.ids[-1])} if fold.ids else {}
            modes: Any = langgraph.MODES
            with suppress(httpx.TransportError):
                await fold.read(
                    client.runs.join_stream(thread, run.asked.run, stream_mode=modes, **after)
                )
    assert fold.status == "success"
    assert fold.ids == sorted(set(fold.ids))
    for shown in (fold.state, [*fold.state[:1], *fold.messages]):
        await langgraph.check(run.user, thread, run.asked.run, shown, run.asked.script)
    return fold.text


READERS = [
    RunReader(name="EventSource", read=_event_source),
    RunReader(name="WebSocket", read=_websocket),
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
    RunReader(name="AG-UI", read=_ag_ui, script=ag_ui.SCRIPT, packages=ag_ui.PACKAGES),
    RunReader(name="LangGraph's SDK", read=_langgraph),
]
