"""The prompt's token budget: which turns of a conversation fit into the model's context."""

from collections.abc import Iterable, Sequence
from itertools import chain, groupby

from workers.prompt.messages import PromptMessage, encode_input, text_only

BYTES_PER_TOKEN = 4  # English; other scripts take more bytes and more tokens for a character
TURN_OVERHEAD = 4  # tokens around each turn: its role and its borders


NO_REPLY = PromptMessage("assistant", "(No reply.)")  # stands in for a missing reply


def fit(turns: Sequence[PromptMessage], budget_tokens: int) -> list[PromptMessage]:
    """Return the system turn and as many of the newest other turns as the budget holds, as text.

    The oldest turns are dropped first, never in part. The last turn is the question, which is
    always kept. After the system turn comes a user's turn, and roles alternate. No content is
    blank. Some servers refuse prompts of any other form.
    """
    turns = text_only(turns)
    system = _merge([turn for turn in turns if turn.role == "system"])
    dialogue = _alternate(turn for turn in turns if turn.role != "system")
    remaining = budget_tokens - tokens_of([*system, *dialogue[-1:]])
    first = max(len(dialogue) - 1, 0)
    while first and (cost := tokens_of(dialogue[first - 1 : first])) <= remaining:
        first -= 1
        remaining -= cost
    while first < len(dialogue) - 1 and dialogue[first].role == "assistant":
        first += 1
    return system + dialogue[first:]


def fit_with_tools(messages: Sequence[PromptMessage], budget_tokens: int) -> list[PromptMessage]:
    """Return the system message, the question, and the newest turns before it that fit.

    A turn is a question and all messages of its reply, so a call is never separated from its
    result. If a turn fits only without its tool calls, its text is kept without them.
    """
    system = _merge([message for message in messages if message.role == "system"])
    turns = _turns(message for message in messages if message.role != "system")
    remaining = budget_tokens - tokens_of([*system, *turns[-1]])
    kept = [turns[-1]]
    for whole in reversed(turns[:-1]):
        forms = [form if form[1:] else [*form, NO_REPLY] for form in (whole, text_only(whole))]
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


def _alternate(turns: Iterable[PromptMessage]) -> list[PromptMessage]:
    """The turns, with NO_REPLY after each question that has no reply."""
    dialogue: list[PromptMessage] = []
    for turn in _merge_replies(turns):
        if turn.role == "user" and dialogue and dialogue[-1].role == "user":
            dialogue.append(NO_REPLY)
        dialogue.append(turn)
    return dialogue


def _merge_replies(turns: Iterable[PromptMessage]) -> Iterable[PromptMessage]:
    for role, row in groupby(turns, key=lambda turn: turn.role):
        same_role = list(row)
        yield from _merge(same_role) if role == "assistant" else same_role


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
