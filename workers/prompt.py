"""What the model is told: turns, how many tokens they are, and which of them fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from streams.events import Usage

BYTES_PER_TOKEN = 4  # English; other scripts take more bytes and more tokens for a character
TURN_OVERHEAD = 4  # tokens around each turn: its role and its borders


@dataclass(frozen=True, slots=True)
class Turn:
    """One message, as the model is told it."""

    role: Literal["system", "user", "assistant"]
    content: str


def fit(turns: Sequence[Turn], budget_tokens: int) -> list[Turn]:
    """The system's turns and as many of the newest others as the budget holds.

    The oldest are left out first, and whole. What is left begins with a user's turn, as some
    models demand. The last turn is the question: it stays, whatever it costs.
    """
    system = [turn for turn in turns if turn.role == "system"]
    said = [turn for turn in turns if turn.role != "system"]
    left = budget_tokens - sum(map(_cost, [*system, *said[-1:]]))
    first = max(len(said) - 1, 0)
    while first and _cost(said[first - 1]) <= left:
        first -= 1
        left -= _cost(said[first])
    while first < len(said) - 1 and said[first].role == "assistant":
        first += 1
    return system + said[first:]


def estimate(turns: Sequence[Turn], text: str) -> Usage:
    """The usage of a reply, for where the provider gave none. `text` is all that was written."""
    told, wrote = sum(map(_cost, turns)), _tokens(text)
    return Usage(input_tokens=told, output_tokens=wrote, total_tokens=told + wrote, estimated=True)


def _cost(turn: Turn) -> int:
    return TURN_OVERHEAD + _tokens(turn.content)


def _tokens(text: str) -> int:
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)
