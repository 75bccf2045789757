"""The page's fold: whatever the connection does, the same parts in the end, as in Python's fold."""

from __future__ import annotations

import json
import random
from typing import Any
from uuid import UUID

import pytest
from playwright.async_api import Page

from streams.protocol.parts import Part, add_part, part_json, part_of, text_of
from streams.protocol.sse import decode
from tests.support.fold import ConversationState, fold

pytestmark = pytest.mark.asyncio(loop_scope="session")

CONVERSATION = str(UUID(int=1))
USAGE = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2, "estimated": False}

# Folding events from the beginning, from a snapshot at every cut, and from a snapshot that
# reaches a reader who had heard a part: all three must end alike.
LAW = """
async (events) => {
  const { fold, nothing, turnsOf } = await import("/fold.js");
  const start = { ...nothing, id: "c", title: "t", model: "m" };
  const snapshotOf = (state) => ({
    type: "conversation.snapshot",
    data: { id: state.id, title: state.title, model: state.model, earlier: null, cursor: 1,
      messages: state.messages,
      runs: Object.values(state.live).map(({ id, status, attempt, message, parts }) =>
        ({ id, status, attempt, message, parts })),
      unanswered: Object.values(state.ended)
        .filter(({ run, reply, message }) => reply === null
          && state.messages.every(({ reply_to }) => reply_to !== message)
          && Object.values(state.live).every((live) => live.message !== message))
        .map(({ run, type, attempt, message, code, reason, usage }) =>
          ({ id: run, status: type.slice(4), attempt, message, code, reason, usage })) },
  });
  const told = (state) => JSON.stringify([
    state.messages.map(({ id, content, reply_to, run, parts }) =>
      [id, content, reply_to, run, parts]),
    Object.values(state.live).map(({ id, parts, attempt }) => [id, parts, attempt]),
    turnsOf(state).map(({ key, replies }) => [key, replies.map(({ run }) => run)]),
  ]);
  const states = [start];
  for (const event of events) states.push(fold(states.at(-1), event));
  const whole = told(states.at(-1));
  const wrong = [];
  for (let cut = 0; cut <= events.length; cut += 1) {
    for (const from of [start, states[Math.floor(cut / 2)]]) {
      let state = fold(from, snapshotOf(states[cut]));
      for (const event of events.slice(cut)) state = fold(state, event);
      if (told(state) !== whole) wrong.push([cut, told(state)]);
    }
  }
  return { whole: JSON.parse(whole), wrong };
}
"""


def message(number: int) -> dict[str, Any]:
    return {
        "id": str(UUID(int=1000 + number)),
        "role": "user",
        "content": f"question {number}",
        "parts": [{"type": "text", "text": f"question {number}"}],
        "reply_to": None,
        "run": None,
        "created_at": "2026-01-01T00:00:00Z",
    }


# A piece of a reply, and the event that brings it.
PIECES: list[tuple[str, dict[str, Any]]] = [
    ("text.delta", {"type": "text"}),
    ("text.delta", {"type": "text"}),
    ("reasoning.delta", {"type": "reasoning"}),
    (
        "tool.called",
        {"type": "tool_call", "call": "1", "name": "clock", "input": {"in": [1, None]}},
    ),
    ("tool.returned", {"type": "tool_result", "call": "1", "output": None}),
    ("tool.returned", {"type": "tool_result", "call": "2", "error": "failed"}),
    ("source.added", {"type": "source", "source": "a", "title": "A", "url": "https://e.test"}),
    ("data.updated", {"type": "data", "name": "plan", "data": 1, "id": "p"}),
    ("data.updated", {"type": "data", "name": "plan", "data": [2], "id": "p"}),
    ("data.updated", {"type": "data", "name": "list", "data": {"a": 3}, "id": "p"}),
    ("data.updated", {"type": "data", "name": "plan", "data": "loose"}),
]


def conversation(chance: random.Random) -> tuple[list[dict[str, Any]], list[list[Any]]]:
    """Possible events of a channel, with superseded attempts, and each reply's parts."""
    events: list[dict[str, Any]] = []
    replies: list[list[Any]] = []

    def say(type: str, **data: Any) -> None:
        events.append({"type": type, "data": data})

    for number in range(3):
        asked, run = message(number), str(UUID(int=2000 + number))
        say("message.created", message=asked)
        say("run.queued", run=run, message=asked["id"])
        parts: tuple[Part, ...] = ()
        attempts = chance.randint(1, 3)
        for attempt in range(1, attempts + 1):
            say("run.started", run=run, attempt=attempt, model="m")
            parts = ()
            for index in range(chance.randint(0, 9)):
                type, fields = chance.choice(PIECES)
                if type.endswith(".delta"):
                    fields = fields | {"text": chance.choice(["", f"{attempt}.{index}, "])}
                parts = add_part(parts, part_of(fields))
                own = {name: value for name, value in fields.items() if name != "type"}
                say(type, run=run, attempt=attempt, index=index, **own)
                if attempt > 1 and chance.random() < 0.3:
                    say("text.delta", run=run, attempt=attempt - 1, index=99, text="LATE")
                if chance.random() < 0.2:
                    whole = {"text": text_of(parts), "parts": [part_json(part) for part in parts]}
                    say("text.snapshot", run=run, attempt=attempt, index=index, **whole)
        ending = chance.choice(["run.completed", "run.cancelled", "run.failed"])
        reply = str(UUID(int=3000 + number)) if parts else None
        outcome = {"usage": USAGE, "reason": "Lost.", "code": "x", "finish_reason": "stop"}
        say(ending, run=run, attempt=attempts, reply=reply, **outcome)
        say("text.delta", run=run, attempt=attempts, index=100, text="AFTER THE END")
        if reply:
            replies.append([part_json(part) for part in parts])
    return events, replies


def folded_by_python(events: list[dict[str, Any]]) -> list[list[Any]]:
    """The parts of each reply that is not empty, as the protocol's own fold has them."""
    state = ConversationState()
    for event in events:
        state = fold(state, decode(event["type"], json.dumps(event["data"])))
    return [[part_json(part) for part in one.parts] for one in state.replies.values() if one.parts]


async def test_a_snapshot_at_every_cut_gives_the_same_state_as_all_events(bare: Page) -> None:
    for seed in range(40):
        events, replies = conversation(random.Random(seed))
        told = await bare.evaluate(LAW, events)
        assert told["wrong"] == [], f"seed {seed}"
        messages, live, _ = told["whole"]
        assert live == []
        assert [m[4] for m in messages if m[3]] == replies, f"seed {seed}"
        assert folded_by_python(events) == replies, f"seed {seed}"


async def test_an_event_received_twice_counts_once(bare: Page) -> None:
    events, _ = conversation(random.Random(7))
    doubled = [event for event in events for _ in range(2)]
    once, twice = [
        await bare.evaluate(
            """async (events) => {
              const { fold, nothing } = await import("/fold.js");
              const { messages, live, ended } = events.reduce(fold, nothing);
              return { messages, live, ended };
            }""",
            list_,
        )
        for list_ in (events, doubled)
    ]
    assert once == twice


async def test_every_reply_to_a_message_is_shown_in_its_turn(bare: Page) -> None:
    """Regenerated replies, the one being written, and a message that waits behind them."""
    first, second = message(1), message(2)
    replies = [
        message(n) | {"id": f"r{n}", "role": "assistant", "reply_to": first["id"], "run": f"run{n}"}
        for n in (1, 2)
    ]
    runs = [
        {"id": "run3", "status": "running", "attempt": 1, "message": first["id"],
         "parts": [{"type": "text", "text": "so far"}]},
        {"id": "run4", "status": "queued", "attempt": 0, "message": second["id"], "parts": []},
    ]  # fmt: skip
    snapshot = {"id": "c", "title": "t", "model": "m", "messages": [first, *replies, second],
                "earlier": None, "runs": runs, "unanswered": [], "cursor": 9}  # fmt: skip
    turns = await bare.evaluate(
        """async (data) => {
          const { fold, nothing, turnsOf } = await import("/fold.js");
          const turns = turnsOf(fold(nothing, { type: "conversation.snapshot", data }));
          return turns.map(({ message, replies }) => [message.id, replies.map(({ key }) => key)]);
        }""",
        snapshot,
    )
    assert turns == [[first["id"], ["run1", "run2", "run3"]], [second["id"], ["run4"]]]


async def test_earlier_messages_stay_after_another_snapshot(bare: Page) -> None:
    kept = await bare.evaluate(
        """async ([old, recent]) => {
          const { fold, nothing, withEarlier } = await import("/fold.js");
          const event = { type: "conversation.snapshot", data: { id: "c", title: "t", model: "m",
            messages: recent, earlier: "/more", runs: [], unanswered: [], cursor: 9 } };
          const read = withEarlier(fold(nothing, event), { messages: old, earlier: null });
          const again = fold(read, event);
          return [again.messages.map(({ id }) => id), again.earlier];
        }""",
        [[message(1), message(2)], [message(3), message(4)]],
    )
    assert kept == [[message(n)["id"] for n in (1, 2, 3, 4)], None]
