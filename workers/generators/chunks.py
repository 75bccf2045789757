"""Parses one chunk of a model's stream, in any of the shapes that model servers send.

All servers follow OpenAI's `chat.completion.chunk`. They differ in the types of fields, the place
of an error and the names of the token counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from streams.protocol.events import Usage

DEEPEST = 8  # levels of lists and objects around a text
MOST_TOKENS = 1_000_000_000  # of one count; the database's column holds twice as many
REASONING_PARTS = ("thinking", "reasoning")  # how a part's type begins, such as "reasoning.text"
TEXT_PARTS = ("text", "output_text", "refusal")
GOOD_CODES = ("0", "200", "ok", "success")  # codes next to a message that is not an error
NO_REASON = ("", "null", "none")
# Finish reasons of an incomplete reply, among them vLLM's, Zhipu's and DeepSeek's.
FAILURES = ("error", "abort", "network_error", "insufficient_system_resource")


@dataclass(slots=True)
class Chunk:
    """One chunk. `error` is the server's error object, which `fault_of_body` reads."""

    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    has_choice: bool = False
    error: object = None

    def join(self, other: "Chunk") -> bool:
        """Add the next chunk if both hold only text, or only reasoning. Returns whether it did."""
        if not (self._is_plain and other._is_plain and bool(self.text) == bool(other.text)):
            return False
        self.text += other.text
        self.reasoning += other.reasoning
        return True

    @property
    def _is_plain(self) -> bool:
        """Whether it holds either text or reasoning, and nothing else."""
        end = self.finish_reason is not None or self.usage is not None or self.error is not None
        return bool(self.text) != bool(self.reasoning) and not end


def read_chunk(body: object) -> Chunk:
    """Parse the decoded data of an event. Raises `ValueError` if it is not a chunk."""
    if isinstance(body, list) and len(body) == 1:
        body = body[0]  # Google's servers send an error in a list
    if not isinstance(body, dict):
        raise ValueError("a chunk must be an object")
    error = body if (error := body.get("error")) and _has_content(error) else None
    choices = body.get("choices")
    if not choices:
        if error is None and _is_error(body):
            error = body
        return Chunk(usage=_usage(body.get("usage")), error=error)
    try:
        return _read_choice(body, choices[0], error)
    except (AttributeError, TypeError, LookupError, ValueError):
        if error is None:
            raise ValueError("a choice of no known shape") from None
        return Chunk(error=error)


def _read_choice(body: dict[str, Any], choice: dict[str, Any], error: object) -> Chunk:
    delta = choice.get("delta") or {}
    text, reasoning = delta.get("content"), ""
    if type(text) is not str:
        text, reasoning = _split_content(text)
    if not text and (refusal := delta.get("refusal")):
        text = _flatten(refusal)
    more = delta.get("reasoning_content") or delta.get("reasoning")
    if more:
        reasoning += more if type(more) is str else _reasoning_of(delta)
    counts, reason = body.get("usage"), choice.get("finish_reason")
    if reason is not None:
        reason = _finish_reason(reason)
        if reason in FAILURES and error is None:
            error = body
    if error is None and (inner := choice.get("error")) and _has_content(inner):
        error = {"error": inner}
    finish_reason = reason if error is None else None
    usage = _usage(counts) if counts else None
    return Chunk(text, reasoning, finish_reason, usage, True, error)


def _split_content(content: object) -> tuple[str, str]:
    """Split a content that is not a string into text and reasoning.

    None gives two empty strings. Raises `ValueError` for a number.
    """
    if content is None:
        return "", ""
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        raise ValueError("a content must be text")
    texts, reasonings = [], []
    for part in content:
        kind = str(part.get("type") or "text") if isinstance(part, dict) else "text"
        if kind.startswith(REASONING_PARTS):
            reasonings.append(_flatten(part))
        elif kind in TEXT_PARTS:
            texts.append(_flatten(part))
    return "".join(texts), "".join(reasonings)


def _reasoning_of(delta: dict[str, Any]) -> str:
    return _flatten(delta.get("reasoning_content")) or _flatten(delta.get("reasoning"))


def _flatten(value: object, depth: int = DEEPEST) -> str:
    """The text in a string, a list of parts, or an object around a text."""
    match value:
        case str():
            return value
        case list() if depth:
            return "".join([_flatten(part, depth - 1) for part in value])
        case dict() if depth:
            fields = ("text", "content", "thinking", "reasoning", "summary", "refusal")
            return next(filter(None, (_flatten(value.get(name), depth - 1) for name in fields)), "")
        case _:
            return ""


def _finish_reason(reason: object) -> str | None:
    """The finish reason as a string. Some servers send "null" as a string, others a number."""
    if isinstance(reason, bool) or not isinstance(reason, str | int):
        return None
    return None if str(reason).casefold() in NO_REASON else str(reason)


def _is_error(body: dict[str, Any]) -> bool:
    """Whether an object without choices is an error."""
    if "error" in (body.get("object"), body.get("type"), body.get("status")):
        return True
    if any(name.startswith("error") and value for name, value in body.items() if name != "error"):
        return True
    if body.get("detail"):
        return True
    codes = [body.get("code"), body.get("status")]
    is_message = body.get("message") or body.get("msg")
    return bool(is_message) and any(str(code or 0).casefold() not in GOOD_CODES for code in codes)


def _has_content(error: object) -> bool:
    """Whether an error object has any value that is not empty."""
    if isinstance(error, dict | list):
        inside: Iterable[object] = error.values() if isinstance(error, dict) else error
        return any(inside)
    return bool(error)


def _usage(counts: object) -> Usage | None:
    """The token counts. None if the input or the output count is missing or out of range."""
    if not isinstance(counts, dict):
        return None
    read = _first_count(counts, "prompt_tokens", "input_tokens")
    written = _first_count(counts, "completion_tokens", "output_tokens")
    if read is None or written is None:
        return None
    total = _first_count(counts, "total_tokens") or read + written
    return Usage(input_tokens=read, output_tokens=written, total_tokens=total, estimated=False)


def _first_count(counts: dict[str, Any], *names: str) -> int | None:
    for name in names:
        count = counts.get(name)
        if type(count) is int and 0 <= count <= MOST_TOKENS:
            return count
    return None
