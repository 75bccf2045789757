"""Which turns a prompt has, and how their tokens are counted."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.prompt.budget import NO_REPLY, fit, tokens_of
from workers.prompt.messages import PromptMessage

SYSTEM = PromptMessage("system", "be kind")
TEXTS = st.one_of(st.sampled_from(["", " ", "\n\n", "\u3000"]), st.text(max_size=40))
TURNS = st.builds(PromptMessage, st.sampled_from(["system", "user", "assistant"]), TEXTS)
QUESTIONS = st.builds(
    PromptMessage, st.just("user"), st.text(min_size=1).filter(lambda text: text.strip())
)


def talk(turns: int, *, each: str = "x" * 24) -> list[PromptMessage]:
    """Turns by turns of user and assistant, ended by the user's question; 10 tokens each."""
    said = [
        PromptMessage("assistant" if n % 2 else "user", f"{n:03}{each[3:]}") for n in range(turns)
    ]
    return [SYSTEM, *said]


def test_a_history_that_fits_is_sent_as_it_is() -> None:
    assert fit(talk(5), 1000) == talk(5)


def test_the_oldest_turns_are_left_out_whole() -> None:
    assert fit(talk(9), 6 + 5 * 10) == [SYSTEM, *talk(9)[-5:]]


def test_the_shortened_history_begins_with_the_user() -> None:
    assert fit(talk(9), 6 + 4 * 10) == [SYSTEM, *talk(9)[-3:]]


def test_the_question_is_always_sent() -> None:
    question = PromptMessage("user", "?" * 10_000)
    assert fit([*talk(4), question], 100) == [SYSTEM, question]


@pytest.mark.parametrize("budget", range(0, 120, 7))
def test_no_budget_gives_an_order_that_models_refuse(budget: int) -> None:
    left = fit(talk(9), budget)
    assert [turn.role for turn in left[1:4]] == ["user", "assistant", "user"][: len(left) - 1]
    assert left[0] == SYSTEM
    assert left[-1] == talk(9)[-1]
    assert left[1:] == talk(9)[-len(left) + 1 :]


def test_an_empty_history_sends_only_the_question() -> None:
    assert fit([], 100) == []
    assert fit([SYSTEM], 0) == [SYSTEM]


def test_a_turn_costs_its_bytes_and_an_overhead() -> None:
    assert tokens_of([SYSTEM]) == 4 + 2
    assert (
        tokens_of([PromptMessage("user", "漢字漢字"), PromptMessage("user", "abcd")])
        == 4 + 3 + 4 + 1
    )


def test_a_message_without_a_reply_is_followed_by_a_note() -> None:
    said = [
        SYSTEM,
        PromptMessage("user", "one"),
        PromptMessage("user", "two"),
        PromptMessage("assistant", "2"),
    ]
    assert fit([*said, PromptMessage("user", "three")], 1000) == [
        SYSTEM,
        PromptMessage("user", "one"),
        NO_REPLY,
        PromptMessage("user", "two"),
        PromptMessage("assistant", "2"),
        PromptMessage("user", "three"),
    ]


def test_a_reply_without_text_counts_as_no_reply() -> None:
    said = [
        PromptMessage("user", "one"),
        PromptMessage("assistant", " \n"),
        PromptMessage("user", "two"),
    ]
    assert fit(said, 1000) == [PromptMessage("user", "one"), NO_REPLY, PromptMessage("user", "two")]


def test_messages_without_a_reply_are_left_out_one_by_one() -> None:
    said = [PromptMessage("user", f"{n:03}" + "x" * 21) for n in range(9)]  # 10 tokens each
    assert fit(said, 10 + 2 * 17) == [said[-3], NO_REPLY, said[-2], NO_REPLY, said[-1]]


@settings(deadline=None)
@given(st.lists(TURNS, max_size=12), QUESTIONS, st.integers(-5, 200))
def test_every_history_is_sent_in_an_order_that_servers_accept(
    history: list[PromptMessage], question: PromptMessage, budget: int
) -> None:
    sent = fit([*history, question], budget)
    system = [turn for turn in sent if turn.role == "system"]
    said = sent[len(system) :]
    roles = [turn.role for turn in said]
    assert roles == ["user" if n % 2 == 0 else "assistant" for n in range(len(said))]
    assert len(system) <= 1
    assert all(turn.content.strip() for turn in sent)
    assert said[-1] == question
    alone = said == [question]
    assert alone or tokens_of(sent) <= budget


@settings(deadline=None)
@given(st.lists(TURNS, max_size=12), QUESTIONS)
def test_a_history_that_fits_is_sent_whole_and_in_order(
    history: list[PromptMessage], question: PromptMessage
) -> None:
    kept = [turn for turn in [*history, question] if turn.content.strip()]
    said = [turn for turn in kept if turn.role != "system"]
    while said[0].role == "assistant":
        said = said[1:]
    system = [turn for turn in kept if turn.role == "system"]
    whole = "\n\n".join(turn.content for turn in [*system, *said])
    sent = [turn for turn in fit([*history, question], 10_000) if turn != NO_REPLY]
    assert "\n\n".join(turn.content for turn in sent) == whole
