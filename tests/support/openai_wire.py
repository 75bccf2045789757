"""One connection to the scripted model: HTTP/1.1 and OpenAI's stream, without a framework.

Half of the scripts break rules that a framework would keep. And it must pace 3,000 pieces a second
with little processor time, because other processes are measured meanwhile.
"""

import asyncio
import json
import re
import socket
import struct
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any, cast

from tests.support.script import Call, Script, dangling, question_of, script_of

JSON_HEAD = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n"
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n%s\r\n"
)
CLOSE = b"Connection: close\r\n"  # without it, a client would keep the dead connection


def _chunk(payload: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(payload), payload)


def _line(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def _call_deltas(calls: list[Call]) -> list[dict[str, Any]]:
    """The deltas of the calls: the name first, and then the input in two pieces."""
    deltas: list[dict[str, Any]] = []
    for n, call in enumerate(calls):
        input = json.dumps(call.input)
        head = {"index": n, "id": call.id, "type": "function"}
        pieces = [{"name": call.name, "arguments": ""}, {"arguments": input[:5]}]
        pieces.append({"arguments": input[5:]})
        deltas += [{"tool_calls": [{"index": n, "function": piece}]} for piece in pieces]
        deltas[-len(pieces)]["tool_calls"][0] |= head
    return deltas


def _delta(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "test"}
    return _line({**head, "choices": [choice]})


@dataclass
class Model:
    """The state that all connections of the server share."""

    closes: bool = False  # the server closes each connection after its response
    requests: int = 0
    transports: set[asyncio.Transport] = field(default_factory=set)  # of the open connections
    streaming: int = 0
    closed_by_client: list[float] = field(default_factory=list)
    last: dict[str, Any] | None = None
    requests_by_message: Counter[str] = field(default_factory=Counter)
    released: defaultdict[str, asyncio.Event] = field(
        default_factory=lambda: defaultdict(asyncio.Event)
    )

    @property
    def open(self) -> int:
        return len(self.transports)


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, kept alive; requests are not pipelined."""

    transport: asyncio.Transport

    def __init__(self, model: Model) -> None:
        self.model = model
        self.received = bytearray()
        self.reply: asyncio.Task[None] | None = None
        self.connection_header = b""  # the Connection header of this response
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transport is not a subclass
        self.model.transports.add(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.model.transports.discard(self.transport)
        if self.reply and not self.reply.done():
            self.model.closed_by_client.append(time.time())
            self.reply.cancel()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        self.received += data
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.received[:end].decode("latin-1")
        length = re.search(r"(?im)^content-length: *(\d+)", head)
        size = int(length[1]) if length else 0
        if len(self.received) < end + 4 + size:
            return
        body = bytes(self.received[end + 4 : end + 4 + size])
        del self.received[: end + 4 + size]
        match head.split(" ", 2)[:2]:
            case ["POST", path] if path.endswith("/chat/completions"):
                self.reply = asyncio.ensure_future(self.answer(head, json.loads(body)))
            case ["GET", path] if path.endswith("/models"):
                self.send_json({"object": "list", "data": [{"id": "test", "object": "model"}]})
            case ["GET", "/stats"]:
                names = ("requests", "closed_by_client", "open", "streaming")
                self.send_json({name: getattr(self.model, name) for name in names})
            case ["POST", "/release"]:
                self.model.released[json.loads(body)].set()
                self.send_json(None)
            case ["GET", "/last"]:
                self.send_json(self.model.last)
            case _:
                self.send_json({"error": {"message": "no such page"}}, 404)

    def send_json(self, body: Any, status: int = 200, headers: str = "") -> None:
        text = json.dumps(body).encode()
        self.transport.write(
            JSON_HEAD % (status, len(text), headers.encode() + self.connection_header) + text
        )

    async def answer(self, head: str, body: dict[str, Any]) -> None:
        self.model.requests += 1
        self.model.last = body
        asked_to_close = re.search(r"(?im)^connection: *close", head)
        self.connection_header = CLOSE if asked_to_close or self.model.closes else b""
        if complaint := dangling(body["messages"]):
            return self.send_json({"error": {"message": complaint}}, 400)
        message = question_of(body["messages"])
        script = script_of(message)
        self.model.requests_by_message[message] += 1
        faulty = script.times is None or self.model.requests_by_message[message] <= script.times
        fault = str(script.fault) if faulty and script.fault else ""
        if fault == "refuse":
            self.transport.close()
        elif fault.isdigit() or fault == "context":
            # Real servers echo the key and the prompt, which must not reach readers.
            error = {"message": f"{head}\n{message}", "code": "context_length_exceeded"}
            if fault != "context":
                error["code"] = "model_not_found" if fault == "404" else "other"
            wait = f"Retry-After: {script.retry_after}\r\n" if script.retry_after else ""
            self.send_json({"error": error}, int(fault) if fault.isdigit() else 400, wait)
        else:
            asked = (body.get("stream_options") or {}).get("include_usage", False)
            self.model.streaming += 1
            try:
                calls = script.round(body["messages"])
                released = self.model.released[message]
                await self.stream(script, fault, calls, released, usage=asked and script.usage)
            finally:
                self.model.streaming -= 1
        if self.connection_header:
            self.transport.close()

    async def stream(
        self, script: Script, fault: str, calls: list[Call], released: asyncio.Event, *, usage: bool
    ) -> None:
        write, clock = self.transport.write, asyncio.get_running_loop().time
        write(
            STREAM_HEAD % self.connection_header
            + _chunk(_delta({"role": "assistant", "content": ""}))
        )
        due = clock() + script.first
        step = 1 / script.rate if script.rate else 0.0
        thoughts = [{"reasoning_content": thought} for thought in script.thoughts()]
        texts: list[dict[str, Any]] = [{"content": text} for text in script.pieces()]
        if calls:
            texts = _call_deltas(calls)
        dripping = 0.0
        for n, delta in enumerate([*thoughts, *texts], start=-len(thoughts)):
            if n == script.hold_at:
                await released.wait()
                due = clock()
            if script.pause and n == script.pause_at:
                due += script.pause
            if step or due > clock() or n % 16 == 0:
                await asyncio.sleep(max(0.0, due - clock()))
                await self.writable.wait()
            due += step
            if fault and n == script.fault_at:
                if fault == "drip":
                    dripping = 1.0
                elif not await self.inject(fault):
                    return
            await self.send_line(_delta(delta), dripping)
        if fault and script.fault_at >= len(texts) and not await self.inject(fault):
            return
        await self.send_line(_delta({}, "tool_calls" if calls else "stop"), dripping)
        if usage:
            said = len(thoughts) + len(texts)
            counts = {"prompt_tokens": 7, "completion_tokens": said, "total_tokens": 7 + said}
            await self.send_line(_line({"choices": [], "usage": counts}), dripping)
        end = b"" if fault == "no_done" else _chunk(b"data: [DONE]\n\n")
        write(end + b"0\r\n\r\n")

    async def send_line(self, line: bytes, dripping: float) -> None:
        if not dripping:
            return self.transport.write(_chunk(line))
        for byte in line:
            self.transport.write(_chunk(bytes([byte])))
            await asyncio.sleep(dripping)

    async def inject(self, fault: str) -> bool:
        """Cause the fault. Returns False if it ends the reply."""
        match fault:
            case "reset":
                await asyncio.sleep(0.05)  # a RST overtakes what is still under way
                linger = struct.pack("ii", 1, 0)
                wire = self.transport.get_extra_info("socket")
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.reply = None
                self.transport.abort()
            case "cut":
                self.reply = None
                self.transport.close()
            case "truncated":
                self.transport.write(_chunk(_delta({"content": "never"})[:90]) + b"0\r\n\r\n")
            case "no_finish":
                self.transport.write(b"0\r\n\r\n")
            case "error":
                self.transport.write(_chunk(_line({"error": {"message": "out of memory"}})))
                self.transport.write(b"0\r\n\r\n")
            case "silence":
                await asyncio.Event().wait()
            case "empty_choices":
                self.transport.write(_chunk(_line({"choices": []})))
                return True
            case _:
                return True
        return False
