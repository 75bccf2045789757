"""A client of the AI SDK ends with the reply, wherever its connections were cut."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.dialects.ai_sdk import DONE, UiMessageWire, ui_parts
from streams.http.disconnect import StreamBroken
from streams.protocol.events import RunCancelled, RunCompleted, RunFailed, Usage
from streams.protocol.fold import Reply
from streams.protocol.parts import ReasoningPart, TextPart
from tests.support.reply_histories import RUN, USAGE, any_histories


class UiMessage:
    """The message of a client, built from chunks as `processUIMessageStream` builds it."""

    def __init__(self) -> None:
        self.parts: list[dict[str, Any]] = []
        self.open: dict[str, dict[str, Any]] = {}
        self.finished = False

    def take(self, frames: list[bytes], *, first: bool = False) -> None:
        """Take whole frames; the first ones of a resumed stream begin the message anew."""
        for frame in frames:
            assert frame.startswith(b"data: ")
            assert frame.endswith(b"\n\n")
            if frame == DONE:
                continue
            chunk = orjson.loads(frame.removeprefix(b"data: "))
            if chunk["type"] == "start" and first:
                self.__init__()  # type: ignore[misc]
            self._take(chunk)

    def _take(self, chunk: dict[str, Any]) -> None:
        match chunk["type"]:
            case "start-step":
                self.parts.append({"type": "step-start"})
            case "reset-step":
                places = [n for n, one in enumerate(self.parts) if one["type"] == "step-start"]
                del self.parts[places[-1] + 1 if places else 0 :]
                self.open = {}
            case "text-start" | "reasoning-start":
                part = {"type": chunk["type"].removesuffix("-start"), "text": "", "state": "done"}
                self.open[chunk["id"]] = part
                self.parts.append(part)
            case "text-delta" | "reasoning-delta":
                self.open[chunk["id"]]["text"] += chunk["delta"]
            case "text-end" | "reasoning-end":
                del self.open[chunk["id"]]
            case "tool-input-available":
                tool = {"type": "dynamic-tool", "toolName": chunk["toolName"]}
                tool |= {"toolCallId": chunk["toolCallId"], "state": "input-available"}
                given = {name: chunk[name] for name in ("input", "providerExecuted")}
                self.parts.append({**tool, **given})
            case "tool-output-available" | "tool-output-error":
                self._answer(chunk)
            case "finish":
                self.finished = True
            case "source-url" | "source-document":
                self.parts.append(chunk)
            case kind if kind.startswith("data-"):
                same = [
                    n
                    for n, one in enumerate(self.parts)
                    if "id" in chunk and (one["type"], one.get("id")) == (kind, chunk["id"])
                ]
                if same:
                    self.parts[same[0]] = chunk
                else:
                    self.parts.append(chunk)

    def _answer(self, chunk: dict[str, Any]) -> None:
        for part in self.parts:
            if part.get("toolCallId") == chunk["toolCallId"]:
                if chunk["type"] == "tool-output-available":
                    part |= {"state": "output-available", "output": chunk["output"]}
                else:
                    part |= {"state": "output-error", "errorText": chunk["errorText"]}

    @property
    def shown(self) -> list[dict[str, Any]]:
        return [part for part in self.parts if part["type"] != "step-start"]


# After how many frames each connection is cut, and from how many states further the next one tells.
cuts = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), max_size=5)


@given(any_histories(), st.booleans(), cuts)
def test_a_message_is_the_reply_however_its_streams_were_cut(
    states: list[Reply], resets: bool, cuts: list[tuple[int, int]]
) -> None:
    message, position = UiMessage(), 0
    while not message.finished:
        left, further = cuts.pop() if cuts else (1000, 0)
        wire, before = UiMessageWire(resets=resets), None
        try:
            while left > 0 and not message.finished:
                now = states[position]
                frames = list(wire.frames(before, now))[:left]
                message.take(frames, first=before is None)
                left -= len(frames)
                before, position = now, min(position + 1, len(states) - 1)
        except StreamBroken:
            pass  # the client comes back
        position = min(position + further, len(states) - 1)
    assert message.shown == ui_parts(states[-1].parts)


@given(any_histories(), cuts)
def test_a_client_that_continues_its_message_ends_with_the_reply(
    states: list[Reply], cuts: list[tuple[int, int]]
) -> None:
    message, position, continues = UiMessage(), 0, False
    while not message.finished:
        left, further = cuts.pop() if cuts else (1000, 0)
        wire, before = UiMessageWire(resets=True, continues=continues), None
        continues = True
        while left > 0 and not message.finished:
            now = states[position]
            frames = list(wire.frames(before, now))[:left]
            message.take(frames)
            left -= len(frames)
            before, position = now, min(position + 1, len(states) - 1)
        position = min(position + further, len(states) - 1)
    assert message.shown == ui_parts(states[-1].parts)


def test_each_ending_finishes_the_message() -> None:
    reply = Reply(run=RUN, attempt=1, parts=(ReasoningPart(text="r"), TextPart(text="t")))
    usage = Usage(input_tokens=1, output_tokens=2, total_tokens=3, estimated=False)
    facts = {"run": RUN, "attempt": 1, "reply": None, "usage": usage}
    endings = {
        RunCompleted(finish_reason="length", **facts): ["finish-step", "finish"],  # type: ignore[arg-type]
        RunCancelled(**facts): ["abort", "finish"],  # type: ignore[arg-type]
        RunFailed(code="internal", reason="It failed.", **facts): ["error", "finish"],  # type: ignore[arg-type]
    }
    for ending, last in endings.items():
        now = Reply(run=RUN, attempt=1, parts=reply.parts, ending=ending)
        frames = list(UiMessageWire(resets=True).frames(reply, now))
        types = [orjson.loads(one[6:])["type"] for one in frames[:-1]]
        assert types == ["text-end", *last]
        assert frames[-1] == DONE


def test_words_that_were_sent_are_taken_back_by_a_break_where_the_client_has_no_word_for_it() -> (
    None
):
    before = Reply(run=RUN, attempt=1, parts=(TextPart(text="t"),))
    now = Reply(run=RUN, attempt=2)
    with pytest.raises(StreamBroken):
        list(UiMessageWire(resets=False).frames(before, now))
    assert list(UiMessageWire(resets=True).frames(before, now)) == [
        b'data: {"type":"reset-step"}\n\n'
    ]
    assert USAGE.estimated
