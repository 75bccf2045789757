"""What the model is told: turns, how many tokens they are, and which of them fit."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

BYTES_PER_TOKEN = 4  # English; other scripts take more bytes and more tokens for a character
TURN_OVERHEAD = 4  # tokens around each turn: its role and its borders


@dataclass(frozen=True, slots=True)
class Turn:
    """One message, as the model is told it."""

    role: Literal["system", "user", "assistant"]
    content: str


NO_REPLY = Turn("assistant", "(No reply.)")  # stands for the reply that a question did not get


def fit(turns: Sequence[Turn], budget_tokens: int) -> list[Turn]:
    """The system's turns and as many of the newest others as the budget holds.

    The oldest are left out first, and whole. The last turn is the question: it stays, whatever it
    costs. The result begins with a user's turn, its roles alternate and no content is blank,
    because some servers refuse anything else.
    """
    turns = [turn for turn in turns if turn.content.strip()]
    system = _joined([turn for turn in turns if turn.role == "system"])
    said = _alternating(turn for turn in turns if turn.role != "system")
    left = budget_tokens - tokens_of([*system, *said[-1:]])
    first = max(len(said) - 1, 0)
    while first and (cost := tokens_of(said[first - 1 : first])) <= left:
        first -= 1
        left -= cost
    while first < len(said) - 1 and said[first].role == "assistant":
        first += 1
    return system + said[first:]


def _alternating(turns: Iterable[Turn]) -> list[Turn]:
    """The turns, with NO_REPLY after each question that has no reply."""
    said: list[Turn] = []
    for turn in _joined_replies(turns):
        if turn.role == "user" and said and said[-1].role == "user":
            said.append(NO_REPLY)
        said.append(turn)
    return said


def _joined_replies(turns: Iterable[Turn]) -> Iterable[Turn]:
    for role, row in groupby(turns, key=lambda turn: turn.role):
        same_role = list(row)
        yield from _joined(same_role) if role == "assistant" else same_role


def _joined(turns: Sequence[Turn]) -> list[Turn]:
    """Turns of one role as one."""
    return [Turn(turns[0].role, "\n\n".join(turn.content for turn in turns))] if turns else []


def tokens_of(turns: Iterable[Turn]) -> int:
    """About how many tokens these turns are to a model."""
    return sum(TURN_OVERHEAD + _tokens(turn.content) for turn in turns)


def _tokens(text: str) -> int:
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)
