"""Replies with tool calls in a prompt: whole pairs that every provider accepts."""

from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_anthropic.chat_models import _format_messages
from langchain_core.messages import convert_to_messages

from streams.protocol.parts import (
    AnyPart,
    DataPart,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from tests.support.anthropic_server import dangling as anthropic_complaint
from tests.support.script import dangling as openai_complaint
from workers.prompt.budget import NO_REPLY, fit, fit_with_tools, tokens_of
from workers.prompt.messages import PromptMessage, as_dicts
from workers.prompt.replies import INTERRUPTED, messages_of


def call(id: str, name: str = "clock", **fields: Any) -> ToolCallPart:
    return ToolCallPart(call=id, name=name, input={"x": 1}, **fields)


def result(id: str, output: Any = "noon", **fields: Any) -> ToolResultPart:
    return ToolResultPart(call=id, output=output, **fields)


def said(*parts: AnyPart) -> list[tuple[str, str, list[str], str | None]]:
    return [
        (message.role, message.content, [call.call for call in message.calls], message.call)
        for message in messages_of(parts, count(1))
    ]


def test_each_round_of_calls_is_a_message_with_all_its_results() -> None:
    parts = [
        *(ReasoningPart(text="Hm."), TextPart(text="Let me see."), call("a"), call("b")),
        *(result("b", {"y": 2}), result("a"), DataPart(name="d", data=1)),
        *(SourcePart(source="s", title="s"), TextPart(text="And "), TextPart(text="now:")),
        *(call("a-2"), result("a-2", "x", truncated=True), TextPart(text="Done.")),
    ]
    assert said(*parts) == [
        ("assistant", "Let me see.", ["past_1", "past_2"], None),
        ("tool", "noon", [], "past_1"),
        ("tool", '{"y":2}', [], "past_2"),
        ("assistant", "And now:", ["past_3"], None),
        ("tool", "x [truncated]", [], "past_3"),
        ("assistant", "Done.", [], None),
    ]


@pytest.mark.parametrize(
    ("end", "content"),
    [
        ((), INTERRUPTED),
        ((result("a", None, error="cancelled"),), INTERRUPTED),
        ((result("a", None, error="worker_lost"),), INTERRUPTED),
        ((result("a", None, error="failed"),), INTERRUPTED),
        ((result("a", None, error="no such order"),), "error: no such order"),
        ((result("a", None),), "null"),
    ],
)
def test_a_call_that_was_cut_off_has_a_result_all_the_same(
    end: tuple[AnyPart, ...], content: str
) -> None:
    assert said(call("a"), *end)[-1] == ("tool", content, [], "past_1")


def test_calls_of_the_provider_and_unpaired_results_are_left_out() -> None:
    provider = call("p", "web_search", executed="provider")
    parts = [TextPart(text="a"), provider, result("p"), result("never"), TextPart(text="b")]
    assert said(*parts) == [("assistant", "ab", [], None)]


def test_names_are_those_that_every_provider_takes() -> None:
    [message, _] = messages_of([call("a", "order state für Ämter " * 5)], count(1))
    assert message.calls[0].name == ("order_state_f_r__mter_" * 5)[:64]


IDS = st.sampled_from(["a", "b", "c"])
PARTS = st.one_of(
    st.builds(TextPart, text=st.sampled_from(["", " ", "word "])),
    st.builds(ReasoningPart, text=st.just("hm")),
    IDS.map(call),
    IDS.map(lambda id: call(id, executed="provider")),
    IDS.map(result),
    IDS.map(lambda id: result(id, None, error="cancelled")),
)
REPLIES = st.lists(st.lists(PARTS, max_size=8), max_size=6)


@settings(deadline=None)
@given(REPLIES, st.integers(0, 200), st.booleans())
def test_no_reply_and_no_budget_makes_a_prompt_that_a_provider_refuses(
    replies: list[list[AnyPart]], budget: int, tools: bool
) -> None:
    numbers = count(1)
    prompt = [PromptMessage("system", "Be kind.")]
    for n, parts in enumerate(replies):
        prompt += [PromptMessage("user", f"question {n}"), *messages_of(parts, numbers)]
    prompt.append(PromptMessage("user", "last"))
    kept = fit_with_tools(prompt, budget) if tools else fit(prompt, budget)
    dicts = as_dicts(kept, tools=tools)
    assert openai_complaint(dicts) is None
    _, anthropic = _format_messages(convert_to_messages(dicts), model="claude")
    assert anthropic_complaint(anthropic) is None
    assert kept[0].role == "system"
    assert kept[1].role == "user"
    assert kept[-1] == PromptMessage("user", "last")
    assert len(kept) == 2 or tokens_of(kept) <= budget
    if not tools:
        assert not any(message.calls or message.call for message in kept)


def test_a_turn_that_does_not_fit_with_its_calls_is_kept_as_text() -> None:
    old = [PromptMessage("user", "one"), PromptMessage("assistant", "1")]
    big = [call("a"), result("a", "x" * 4000), TextPart(text="It is noon.")]
    prompt = [*old, PromptMessage("user", "two"), *messages_of(big, count(1))]
    prompt += [PromptMessage("user", "three")]
    assert fit_with_tools(prompt, 10_000) == prompt
    assert fit_with_tools(prompt, 100) == [
        *old,
        PromptMessage("user", "two"),
        PromptMessage("assistant", "It is noon."),
        PromptMessage("user", "three"),
    ]
    assert fit_with_tools(prompt, 0) == [PromptMessage("user", "three")]


def test_a_question_without_a_reply_is_followed_by_a_note() -> None:
    prompt = [PromptMessage("user", "one"), PromptMessage("user", "two")]
    assert fit_with_tools(prompt, 100) == [prompt[0], NO_REPLY, prompt[1]]
