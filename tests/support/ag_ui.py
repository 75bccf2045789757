"""Pages of AG-UI for tests: the vendor's client in Node, and a check of its messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.support.vendors import VendorPage, VendorProcess
from tests.support.visitor import Visitor

SCRIPT = Path(__file__).parents[1] / "dialects" / "clients" / "ag_ui.mjs"
PACKAGES: Mapping[str, str] = {"@ag-ui/client": "1.0.0"}
UUID_LENGTH = 36
VOID = "No message found with ID"  # the client's warning when a message ends that it no longer has
Part = dict[str, Any]


@dataclass(kw_only=True)
class AgUiPage(VendorPage):
    """One thread in the vendor's client."""

    thread: str

    @classmethod
    async def open(
        cls,
        client: VendorProcess,
        visitor: Visitor,
        *,
        port: int | None = None,
        thread: str | None = None,
        messages: list[dict[str, Any]] | None = None,
        props: dict[str, Any] | None = None,
    ) -> AgUiPage:
        page = cls(
            client=client,
            visitor=visitor,
            port=port or visitor.port,
            thread=thread or str(uuid4()),
        )
        await page.begin("/ag-ui", threadId=page.thread, messages=messages or [], props=props or {})
        return page

    async def stop(self) -> None:
        answer = await self.visitor.http.post(f"/ag-ui/stop/{self.thread}")
        assert answer.status_code == 204

    async def check(self) -> list[Part]:
        """Compare the page with the stored messages. Returns the parts of the last reply."""
        told = await self.do("look")
        run = await self.visitor.run(told["run"])
        stored = (await self.visitor.conversation(run["conversation"]))["messages"]
        last = {one["reply_to"]: one["id"] for one in stored}  # the last reply to each message
        expected = [
            (one["role"], one["parts"] if one["role"] == "assistant" else one["content"])
            for one in stored
            if one["reply_to"] is None or last[one["reply_to"]] == one["id"]
        ]
        assert turns(told["messages"]) == expected
        assert [one for one in told["warned"] if VOID not in one] == []
        return list(expected[-1][1])


def turns(messages: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """The messages of a client: each role with its text, or a reply's parts in order."""
    found: list[tuple[str, Any]] = []
    replies: dict[str, dict[int, Part]] = {}
    for message in messages:
        if message["role"] in ("user", "system"):
            found.append((message["role"], message["content"]))
            continue
        run, place = message["id"][:UUID_LENGTH], int(message["id"][UUID_LENGTH + 1 :])
        if run not in replies:
            replies[run] = {}
            found.append(("assistant", replies[run]))
        replies[run][place] = part_of(run, message)
    return [
        (role, [told[place] for place in sorted(told)] if isinstance(told, dict) else told)
        for role, told in found
    ]


def part_of(run: str, message: dict[str, Any]) -> Part:
    """The message as a part of this service."""
    match message:
        case {"role": "reasoning", "content": text}:
            return {"type": "reasoning", "text": text}
        case {"toolCalls": [{"id": call, "function": made}]}:
            given = {"name": made["name"], "input": json.loads(made["arguments"])}
            return {"type": "tool_call", "call": call.removeprefix(f"{run}-"), **given}
        case {"role": "tool", "toolCallId": call, "content": content}:
            marks = message.get("metadata", {})
            kind = "error" if marks.pop("error", False) else "output"
            result = {"type": "tool_result", "call": call.removeprefix(f"{run}-")}
            return {**result, kind: content, **marks}
        case {"activityType": "unspool-source", "content": content}:
            return {"type": "source", **content}
        case {"activityType": "unspool-data", "content": content}:
            return {"type": "data", **content, "id": "1"}  # the id that the tests' agent uses
        case _:
            return {"type": "text", "text": message["content"]}


TOOLS = {"model": "tools"}  # the page sends it, so that the scripted agent replies
ALL_KINDS = json.dumps(
    [
        {"think": "Which tool?"},
        {"say": "Let me look. "},
        {"call": "find", "repeat": True, "seconds": 0.2},
        {"call": "divide", "repeat": True},
        {"data": {"done": 1}},
        {"source": "rivers"},
        {"say": "A river "},
        {"wait": 0.2},
        {"data": {"done": 2}},
        {"say": "flows."},
    ]
)


def kinds(parts: list[dict[str, Any]]) -> list[str]:
    return [part["type"] for part in parts]
