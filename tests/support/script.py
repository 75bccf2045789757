"""The scripts of the scripted model: its replies and faults.

The script is the LAST user message. If that is a JSON object, these keys of it are followed:

    tokens       the number of pieces of text (20)
    seed         changes every piece, so that two replies are never alike (0)
    text         a list of the pieces to send instead, also hostile ones
    reasoning    the number of pieces of reasoning before the text (0)
    rate         pieces a second; 0 is as fast as possible (0)
    first        seconds before the first piece (0)
    pause_at, pause   the piece of text before which it is silent, and for how many seconds (0, 0)
    hold_at      the piece of text before which it waits until the test releases this message (none)
    usage        false: no token counts, though the request asked for them (true)
    fault        one of those below
    fault_at     the piece of text before which it happens (0)
    times        the number of requests with this message that get the fault, the first ones (all)
    retry_after  seconds, the header of a 429 or 500 (none)
    calls        a list of rounds of tool calls, each a list of [name, input], or [name, input, id].
                 A request that already holds n answered rounds gets round n, without the text; the
                 request after the last round gets the text. In each round the ids are `call_0`,
                 `call_1`, … again, as on some servers.

Faults instead of an answer: `refuse` (closes the connection), `context` (400: too long) and any
status such as `401`, `404`, `429`, `500`. In mid-stream: `reset` (RST), `cut` (closed inside the
body), `truncated` (half a line, then an orderly end), `no_finish` (an orderly end, too early),
`error` (an error object as a line), `silence` (sends nothing more, and stays connected), `drip`
(the rest at one byte a second). Oddities that a reply survives: `no_done`, `empty_choices`, `big`
(a piece of 512 KB), `half_surrogate` (a piece that is not valid Unicode).

Any other message gets a short text that depends only on the message.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from zlib import crc32

BIG = 512 * 1024  # characters, which fit into one line and one reply


class Call(NamedTuple):
    """A tool call that the model makes."""

    name: str
    input: dict[str, Any]
    id: str


@dataclass(frozen=True, kw_only=True)
class Script:
    """The text of one reply, and its fault."""

    tokens: int = 20
    seed: int | str = 0
    text: list[str] | None = None
    reasoning: int = 0
    rate: float = 0
    first: float = 0
    pause_at: int = 0
    pause: float = 0
    hold_at: int | None = None
    usage: bool = True
    fault: str | int | None = None
    fault_at: int = 0
    times: int | None = None
    retry_after: float | None = None
    calls: list[list[list[Any]]] = field(default_factory=list)

    def round(self, messages: list[dict[str, Any]]) -> list[Call]:
        """The calls that answer this request; none once every round has its results."""
        asked = max(n for n, message in enumerate(messages) if is_question(message))
        done = sum(1 for message in messages[asked:] if message["role"] == "assistant")
        made = self.calls[done] if done < len(self.calls) else []
        return [
            Call(*call) if len(call) > 2 else Call(call[0], call[1], f"call_{n}")
            for n, call in enumerate(made)
        ]

    def pieces(self) -> list[str]:
        numbered = [f"w{n}-{self._mark(n)} " for n in range(self.tokens)]
        texts = numbered if self.text is None else self.text
        odd = {"big": "b" * BIG, "half_surrogate": "half \ud83d "}.get(str(self.fault))
        return [*texts[: self.fault_at], odd, *texts[self.fault_at :]] if odd else list(texts)

    def thoughts(self) -> list[str]:
        return [f"r{n}-{self._mark(-1 - n)} " for n in range(self.reasoning)]

    def _mark(self, n: int) -> str:
        return f"{crc32(f'{self.seed}/{n}'.encode()) & 0xFFF:03x}"


def is_question(message: dict[str, Any]) -> bool:
    """Whether the message contains text that a person wrote.

    With Anthropic, results of tools also have the role `user`, and may be in one message with the
    next question.
    """
    if message["role"] != "user":
        return False
    content = message["content"]
    return isinstance(content, str) or any(block["type"] == "text" for block in content)


def question_of(messages: list[dict[str, Any]]) -> str:
    """The last question's text."""
    content = next(m["content"] for m in reversed(messages) if is_question(m))
    return content if isinstance(content, str) else "".join(b.get("text", "") for b in content)


def dangling(messages: list[dict[str, Any]]) -> str | None:
    """OpenAI's error for calls without results, or for results without calls; or None."""
    open: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] not in open:
                return "messages with role 'tool' must be a response to a preceding message"
            open.remove(message["tool_call_id"])
        elif open:
            break
        else:
            open = [call["id"] for call in message.get("tool_calls") or ()]
    return "tool_call_ids did not have response messages: " + ", ".join(open) if open else None


def script_of(message: str) -> Script:
    try:
        wishes = json.loads(message)
    except ValueError:
        wishes = None
    if isinstance(wishes, dict):
        return Script(**wishes)
    return Script(tokens=12, seed=crc32(message.encode("utf-8", "surrogatepass")))


def pieces(message: str) -> list[str]:
    """The pieces of text that the message is answered with, as they leave the model."""
    return script_of(message).pieces()


def expected(message: str) -> str:
    """The whole text as it must reach a reader. NUL and lone surrogates become U+FFFD.

    Halves of a surrogate pair in two neighbouring pieces are one character. A JSON list is an
    agent's script (tests/support/agents.py), whose text is that of its `say` steps.
    """
    said = _said(message)
    units = "".join(pieces(message) if said is None else said).encode("utf-16-le", "surrogatepass")
    return re.sub("[\0\ud800-\udfff]", "\ufffd", units.decode("utf-16-le", "surrogatepass"))


def _said(message: str) -> list[str] | None:
    try:
        steps = json.loads(message)
    except ValueError:
        return None
    if not isinstance(steps, list):
        return None
    return [step.get("say", "") for step in steps]
