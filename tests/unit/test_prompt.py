"""Which turns the model is told, and what they are counted as."""

import pytest

from workers.prompt import Turn, fit, tokens_of

SYSTEM = Turn("system", "be kind")


def talk(turns: int, *, each: str = "x" * 24) -> list[Turn]:
    """Turns by turns of user and assistant, ended by the user's question; 10 tokens each."""
    said = [Turn("assistant" if n % 2 else "user", f"{n:03}{each[3:]}") for n in range(turns)]
    return [SYSTEM, *said]


def test_a_history_that_fits_is_sent_as_it_is() -> None:
    assert fit(talk(5), 1000) == talk(5)


def test_the_oldest_turns_are_left_out_whole() -> None:
    assert fit(talk(9), 6 + 5 * 10) == [SYSTEM, *talk(9)[-5:]]


def test_what_is_left_begins_with_the_user() -> None:
    assert fit(talk(9), 6 + 4 * 10) == [SYSTEM, *talk(9)[-3:]]


def test_the_question_stays_whatever_it_costs() -> None:
    question = Turn("user", "?" * 10_000)
    assert fit([*talk(4), question], 100) == [SYSTEM, question]


@pytest.mark.parametrize("budget", range(0, 120, 7))
def test_no_budget_gives_an_order_that_models_refuse(budget: int) -> None:
    left = fit(talk(9), budget)
    assert [turn.role for turn in left[1:4]] == ["user", "assistant", "user"][: len(left) - 1]
    assert left[0] == SYSTEM
    assert left[-1] == talk(9)[-1]
    assert left[1:] == talk(9)[-len(left) + 1 :]


def test_nothing_said_is_nothing_sent() -> None:
    assert fit([], 100) == []
    assert fit([SYSTEM], 0) == [SYSTEM]


def test_a_turn_costs_its_bytes_and_its_borders() -> None:
    assert tokens_of([SYSTEM]) == 4 + 2
    assert tokens_of([Turn("user", "漢字漢字"), Turn("user", "abcd")]) == 4 + 3 + 4 + 1
