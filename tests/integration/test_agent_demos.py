"""The two demonstrations: they answer without a large model, and their tools are real."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support import openai_server
from tests.support.script import expected
from workers.agents.demos import arithmetic, chain, documents, tools
from workers.agents.testing import run
from workers.generators.openai import close_client


@pytest.fixture(autouse=True)
async def _model(settings: Any) -> AsyncIterator[None]:
    settings.EMBEDDED_MODEL = False
    with openai_server.serving(closes=True) as server:
        settings.OPENAI_BASE_URL = server.url
        yield
        await close_client()


async def test_the_chain_answers_with_the_model_of_the_service() -> None:
    reply = await run(chain.agent, "Who are you?")
    assert (reply.text, reply.code, reply.called) == (expected("Who are you?"), None, False)


@pytest.mark.parametrize(
    ("question", "name", "answer"),
    [
        ("What is 17 * (3 + 4)?", "calculator", r"17 \* \(3 \+ 4\) = 119"),
        ("What is 12.5 % of 384?", "calculator", r"12\.5 / 100 \* 384 = 48$"),
        ("What time is it in Tokyo?", "clock", r"It is \w+day, \d\d \w+ \d{4}, \d\d:\d\d JST\."),
        ("How does Unspool resume a stream?", "search_documents", r"From \*.*\.md: "),
    ],
)
async def test_the_graph_calls_the_tool_that_the_question_asks_for(
    question: str, name: str, answer: str
) -> None:
    reply = await run(tools.agent, question)
    assert [call.name for call in reply.calls] == [name]
    assert re.search(answer, reply.text)
    assert (len(reply.results), reply.code, reply.called) == (1, None, False)
    assert bool(reply.sources) == (name == "search_documents")


async def test_the_graph_lets_the_model_answer_everything_else() -> None:
    reply = await run(tools.agent, "Tell me a joke")
    assert (reply.text, reply.calls) == (expected("Tell me a joke"), [])


@pytest.mark.parametrize(
    ("text", "value"),
    [("2+2", 4), ("7 / 2", 3.5), ("-(3-5)*2", 4), ("2^10", 1024), ("10 % 4 // 1", 2)],
)
def test_arithmetic_in_a_question_is_found_and_calculated(text: str, value: float) -> None:
    found = arithmetic.find(f"Please, what is {text}?")
    assert found
    assert arithmetic.evaluate(found) == value


@pytest.mark.parametrize(
    "text",
    ["9**9**9**9", "1/0", "__import__('os')", "2 if 1 else 3", "(" * 99, "(-8)**0.5", "'a'*9"],
)
def test_what_is_no_small_arithmetic_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"this|these"):
        arithmetic.evaluate(text)


def test_a_search_finds_the_section_that_is_about_the_words() -> None:
    [first, *_] = documents.search("What happens in an outage of Redis?")
    assert "redis" in f"{first.title} {first.text}".lower()
    assert documents.search("xylophone quux") == []
