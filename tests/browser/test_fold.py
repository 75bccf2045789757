"""The page's fold: whatever the connection does, the same text in the end."""

from __future__ import annotations

import random
from typing import Any
from uuid import UUID

import pytest
from playwright.async_api import Page

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONVERSATION = str(UUID(int=1))
USAGE = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2, "estimated": False}

# Folding events from the beginning, from a snapshot at every cut, and from a snapshot that
# reaches a reader who had heard a part: all three must end alike.
LAW = """
async (events) => {
  const { fold, nothing } = await import("/fold.js");
  const start = { ...nothing, id: "c", title: "t", model: "m" };
  const snapshotOf = (state) => ({
    type: "conversation.snapshot",
    data: { id: state.id, title: state.title, model: state.model, earlier: null, cursor: 1,
      messages: state.messages,
      runs: Object.values(state.live).map(({ id, status, attempt, message, text, reasoning }) =>
        ({ id, status, attempt, message, text, reasoning })) },
  });
  const told = (state) => JSON.stringify([
    state.messages.map(({ id, content, reply_to, run }) => [id, content, reply_to, run]),
    Object.values(state.live).map(({ id, text, attempt }) => [id, text, attempt]),
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
        "reply_to": None,
        "run": None,
        "created_at": "2026-01-01T00:00:00Z",
    }


def conversation(chance: random.Random) -> tuple[list[dict[str, Any]], list[str]]:
    """What a channel might say, with lost workers and late voices; and each reply's text."""
    events: list[dict[str, Any]] = []
    texts: list[str] = []

    def say(type: str, **data: Any) -> None:
        events.append({"type": type, "data": data})

    for number in range(3):
        asked, run = message(number), str(UUID(int=2000 + number))
        say("message.created", message=asked)
        say("run.queued", run=run, message=asked["id"])
        text, attempts = "", chance.randint(1, 3)
        for attempt in range(1, attempts + 1):
            say("run.started", run=run, attempt=attempt, model="m")
            text = ""
            for index in range(chance.randint(0, 9)):
                piece = f"{attempt}.{index}, "
                text += piece
                say("text.delta", run=run, attempt=attempt, index=index, text=piece)
                if attempt > 1 and chance.random() < 0.3:
                    say("text.delta", run=run, attempt=attempt - 1, index=99, text="LATE")
                if chance.random() < 0.2:
                    say("text.snapshot", run=run, attempt=attempt, index=index, text=text)
        ending = chance.choice(["run.completed", "run.cancelled", "run.failed"])
        reply = str(UUID(int=3000 + number)) if text else None
        say(ending, run=run, attempt=attempts, reply=reply, usage=USAGE, reason="Lost.", code="x")
        say("text.delta", run=run, attempt=attempts, index=100, text="AFTER THE END")
        if reply:
            texts.append(text)
    return events, texts


async def test_a_snapshot_at_every_cut_gives_the_same_state_as_all_events(bare: Page) -> None:
    for seed in range(40):
        events, texts = conversation(random.Random(seed))
        told = await bare.evaluate(LAW, events)
        assert told["wrong"] == [], f"seed {seed}"
        messages, live = told["whole"]
        assert live == []
        assert [m[1] for m in messages if m[3]] == texts, f"seed {seed}"


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
        {"id": "run3", "status": "running", "attempt": 1, "message": first["id"], "text": "so far",
         "reasoning": ""},
        {"id": "run4", "status": "queued", "attempt": 0, "message": second["id"], "text": "",
         "reasoning": ""},
    ]  # fmt: skip
    snapshot = {"id": "c", "title": "t", "model": "m", "messages": [first, *replies, second],
                "earlier": None, "runs": runs, "cursor": 9}  # fmt: skip
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
            messages: recent, earlier: "/more", runs: [], cursor: 9 } };
          const read = withEarlier(fold(nothing, event), { messages: old, earlier: null });
          const again = fold(read, event);
          return [again.messages.map(({ id }) => id), again.earlier];
        }""",
        [[message(1), message(2)], [message(3), message(4)]],
    )
    assert kept == [[message(n)["id"] for n in (1, 2, 3, 4)], None]
