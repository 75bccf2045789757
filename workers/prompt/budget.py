"""The prompt's token budget: which turns of a conversation fit into the model's context."""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from workers.prompt.messages import PromptMessage, encode_input, text_only

BYTES_PER_TOKEN = 4  # English; other scripts take more bytes and more tokens for a character
TURN_OVERHEAD = 4  # tokens around each turn: its role and its borders
NO_REPLY = PromptMessage("assistant", "(No reply.)")  # stands in for a missing reply


def fit(messages: Sequence[PromptMessage], budget_tokens: int) -> list[PromptMessage]:
    """Return the system message, the question, and the newest turns before it that fit, as text.

    The oldest turns are dropped first, never in part. The last turn is the question, which is
    always kept. After the system message comes a user's message, and roles alternate. No content
    is blank. Some servers refuse prompts of any other form.
    """
    return _fit(text_only(messages), budget_tokens, lambda turn: [[turn[0], *_merge(turn[1:])]])


def fit_with_tools(messages: Sequence[PromptMessage], budget_tokens: int) -> list[PromptMessage]:
    """As `fit`, but a turn keeps its tool calls, if it fits with them.

    A turn is a question and all messages of its reply, so a call is never separated from its
    result.
    """
    return _fit(messages, budget_tokens, lambda turn: [turn, text_only(turn)])


def _fit(
    messages: Sequence[PromptMessage],
    budget_tokens: int,
    forms_of: Callable[[list[PromptMessage]], list[list[PromptMessage]]],
) -> list[PromptMessage]:
    """Keep the newest turns, each in the first of its forms that fits."""
    system = _merge([message for message in messages if message.role == "system"])
    turns = _turns(message for message in messages if message.role != "system")
    kept = turns[-1:]
    remaining = budget_tokens - tokens_of([*system, *chain.from_iterable(kept)])
    for turn in reversed(turns[:-1]):
        forms = [form if form[1:] else [*form, NO_REPLY] for form in forms_of(turn)]
        form = next((form for form in forms if tokens_of(form) <= remaining), None)
        if form is None:
            break
        kept.append(form)
        remaining -= tokens_of(form)
    return [*system, *chain.from_iterable(reversed(kept))]


def _turns(messages: Iterable[PromptMessage]) -> list[list[PromptMessage]]:
    """Each question that is not blank, with the messages after it."""
    turns: list[list[PromptMessage]] = []
    for message in messages:
        if message.role == "user":
            turns.append([])
        if turns:
            turns[-1].append(message)
    return [turn for turn in turns if turn[0].content.strip()]


def _merge(turns: Sequence[PromptMessage]) -> list[PromptMessage]:
    """Turns of one role, merged into one turn."""
    return (
        [PromptMessage(turns[0].role, "\n\n".join(turn.content for turn in turns))] if turns else []
    )


def tokens_of(turns: Iterable[PromptMessage]) -> int:
    """An estimate of how many tokens the turns take in a prompt."""
    return sum(
        TURN_OVERHEAD
        + _tokens(turn.content)
        + sum(_tokens(call.name) + _tokens(encode_input(call)) for call in turn.calls)
        for turn in turns
    )


def _tokens(text: str) -> int:
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)
