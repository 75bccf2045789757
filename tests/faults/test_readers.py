"""Readers that strangers wrote: the same conversations, of hostile text, are the same in each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import requests
from httpx_sse import aconnect_sse
from requests_sse import EventSource, InvalidStatusCodeError
from sseclient import SSEClient

from tests.browser.support.chromium import chromium
from tests.faults.conftest import Judge, Stacks
from tests.support.many_followers import following
from tests.support.npm import Event, events_read_by
from tests.support.ports import HOST
from tests.support.sse_blocks import EVENTS_WITH_ID, SNAPSHOT, STATE_EVENTS
from tests.support.stack import Stack
from tests.support.visitor import Visitor, script

READ_WITHIN = 60.0  # seconds for one reader
HOSTILE = [
    "a\rb\r\nc\nd",
    "\n\n",
    "\r\r",
    "data: forged\n\nevent: run.failed\ndata: {}\n\n",
    "id: 1\n",
    "\nid: 1\n\n",
    ": a comment\nretry: 1\n\n",
    "nul \0 here",
    "half \ud83d and half \ude00",
    "lines \u2028 and \u2029 and \u0085 and \v and \f and \x1c\x1d\x1e",
    "\ufeff",
    "\ufeffdata: x",
    "👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301 \u202eright\u202c \U0010ffff",
    "\x7f\x80\x9f\xa0\xad\u200b\u2060",
    "\\u0000 \\n \\\\ \" ' </script> <!-- ]]> %0A %00 &#10;",
    " leading and trailing ",
    "\t",
    "[DONE]",
    "data",
    ":",
    "x" * 70_000,
]


@dataclass(frozen=True)
class Recorded:
    """A conversation that is over: where it is read, in whose name, and what was sent."""

    url: str
    cookies: str
    sent: list[Event]


Read = Callable[[Recorded, Path], Awaitable[list[Event]]]


def npm(reader: str) -> Read:
    async def read(recorded: Recorded, project: Path) -> list[Event]:
        (heard,) = await events_read_by(
            reader, [recorded.url], recorded.cookies, project, within=READ_WITHIN
        )
        return heard

    return read


async def with_httpx_sse(recorded: Recorded, _: Path) -> list[Event]:
    headers = {"Cookie": recorded.cookies}
    async with (
        httpx.AsyncClient(headers=headers, timeout=READ_WITHIN, trust_env=False) as client,
        aconnect_sse(client, "GET", recorded.url) as source,
    ):
        return [(event.event, event.data, event.id) async for event in source.aiter_sse()]


async def with_iter_lines(recorded: Recorded, project: Path) -> list[Event]:
    heard: list[Event] = []
    fields: dict[str, str] = {}
    headers = {"Cookie": recorded.cookies}
    async with (
        httpx.AsyncClient(headers=headers, timeout=READ_WITHIN, trust_env=False) as client,
        client.stream("GET", recorded.url) as answer,
    ):
        async for line in answer.aiter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                heard.append((fields["event"], fields["data"], fields["id"]))
                fields = {}
    return heard


async def with_sseclient(recorded: Recorded, _: Path) -> list[Event]:
    def read() -> list[Event]:
        with session(recorded) as opened:
            answer = opened.get(recorded.url, stream=True, timeout=READ_WITHIN)
            chunks = answer.iter_content(None)
            return [(said.event, said.data, said.id or "") for said in SSEClient(chunks).events()]

    return await asyncio.to_thread(read)


async def with_requests_sse(recorded: Recorded, _: Path) -> list[Event]:
    def read() -> list[Event]:
        heard: list[Event] = []
        with (
            session(recorded) as opened,
            pytest.raises(InvalidStatusCodeError) as refused,
            EventSource(recorded.url, session=opened, timeout=READ_WITHIN) as source,
        ):
            heard.extend((said.type, said.data, said.last_event_id) for said in source)
        assert refused.value.status_code == 204  # its way to handle 204
        return heard

    return await asyncio.to_thread(read)


async def with_chromium(recorded: Recorded, _: Path) -> list[Event]:
    names = ["message", SNAPSHOT, *sorted(EVENTS_WITH_ID | STATE_EVENTS)]
    origin = recorded.url.partition("/api/")[0]
    async with chromium() as browser:
        context = await browser.new_context()
        pairs = [pair.split("=", 1) for pair in recorded.cookies.split("; ")]
        await context.add_cookies([{"name": n, "value": v, "url": origin} for n, v in pairs])
        page = await context.new_page()
        await page.goto(f"{origin}/health/live")
        heard = await page.evaluate(
            """([url, names]) => new Promise((resolve) => {
                const heard = [];
                const source = new EventSource(url);
                const hear = (e) => heard.push([e.type, e.data, e.lastEventId]);
                for (const name of names) source.addEventListener(name, hear);
                source.onerror = () => { if (source.readyState === 2) resolve(heard); };
            })""",
            [recorded.url, names],
        )
        return [(type, data, id) for type, data, id in heard]


READERS: dict[str, Read] = {
    "eventsource": npm("eventsource"),
    "eventsource-parser": npm("eventsource-parser"),
    "undici": npm("undici"),
    "httpx-sse": with_httpx_sse,
    "httpx": with_iter_lines,
    "sseclient-py": with_sseclient,
    "requests-sse": with_requests_sse,
    "Chromium": with_chromium,
}


@contextmanager
def session(recorded: Recorded) -> Iterator[requests.Session]:
    """Closes every response, also those that a reader leaves."""
    answers: list[requests.Response] = []
    with requests.Session() as opened:
        opened.trust_env = False
        opened.headers["Cookie"] = recorded.cookies
        opened.hooks["response"].append(lambda answer, **_: answers.append(answer))
        try:
            yield opened
        finally:
            for answer in answers:
                answer.close()


async def test_every_client_library_reads_the_same_events(
    stacks: Stacks, judge: Judge, npm_project: Path
) -> None:
    async with stacks(also={"STREAM_RETRY": "10,20"}) as stack:
        visitor = await stack.visitor()
        recorded = await conversations(stack, visitor, judge)
        made = {
            name: [await read(one, npm_project) for one in recorded]
            for name, read in READERS.items()
        }
    sent = [one.sent for one in recorded]
    assert [name for name, heard in made.items() if heard != sent] == []


async def conversations(stack: Stack, visitor: Visitor, judge: Judge) -> list[Recorded]:
    """A hostile question, answered, thought about, broken off: from its beginning, and as it is."""
    title = "\u2028data: x\r\n\nid: 1 🙂"
    first = await visitor.ask(script(text=HOSTILE, reasoning=3, seed=1), title=title)
    follower = visitor.follower(first.conversation, cursor=0)
    async with following([follower], within=READ_WITHIN):
        pass
    second = await visitor.send(
        first.conversation, script(text=HOSTILE, fault="reset", fault_at=len(HOSTILE) - 2, times=9)
    )
    follower = visitor.follower(first.conversation, cursor=0)
    newcomer = visitor.follower(first.conversation)
    async with following([follower, newcomer], within=READ_WITHIN):
        pass
    report = await judge(visitor, [first, second], [follower, newcomer])
    assert report.clean, report
    path = f"http://{HOST}:{visitor.port}/api/conversations/{first.conversation}/events/?until=idle"
    cookies = visitor.credentials()["Cookie"]
    whole = [heard.block.raw for heard in follower.recording.received()]
    late = visitor.follower(first.conversation)
    async with following([late], within=READ_WITHIN):
        pass
    state = [heard.block.raw for heard in late.recording.received()]
    return [
        Recorded(f"{path}&lastEventId=0", cookies, [*filter(None, map(event, whole))]),
        Recorded(path, cookies, [*filter(None, map(event, state))]),
    ]


def event(raw: bytes) -> Event | None:
    """The event that a block must be to every reader; None for one that says only `retry`."""
    fields = dict(line.split(": ", 1) for line in raw.decode().split("\n"))
    return (fields["event"], fields["data"], fields["id"]) if "event" in fields else None
