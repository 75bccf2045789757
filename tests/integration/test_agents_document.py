"""Every Python example of docs/agents.md runs as it stands, against scripted model servers."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support import anthropic_server, openai_server
from tests.support.script import expected
from workers.agents.testing import run

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "agents.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PLAIN, CHAIN, GRAPH, CHAT, TEST = BLOCK.findall(DOCUMENT.read_text())

# LangChain shares an HTTP client between all models of one URL, so they need one event loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module", autouse=True)
def _servers() -> Iterator[None]:
    with (
        openai_server.serving(closes=True) as openai,
        anthropic_server.serving() as anthropic,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("OPENAI_BASE_URL", openai.url)
        patch.setenv("ANTHROPIC_BASE_URL", anthropic.url)
        patch.setenv("OPENAI_API_KEY", "unused")
        patch.setenv("ANTHROPIC_API_KEY", "unused")
        yield


def module(block: str) -> ModuleType:
    """The example as a module."""
    made = ModuleType("shop.agents")
    exec(compile(block, str(DOCUMENT), "exec"), made.__dict__)
    return made


@pytest.mark.parametrize("block", [CHAIN, CHAT], ids=["chain", "chat"])
async def test_the_examples_with_a_model_answer(block: str) -> None:
    question = json.dumps({"tokens": 7})
    reply = await run(module(block).support, question)
    assert (reply.text, reply.code) == (expected(question), None)


async def test_the_example_of_a_graph_calls_its_tools() -> None:
    calls = [[["search", {"words": "returns"}]], [["refund", {"order": 7}]]]
    question = json.dumps({"tokens": 7, "calls": calls})
    reply = await run(module(GRAPH).support, question)
    assert (reply.text, reply.code, reply.called) == (expected(question), None, True)
    assert [result.output for result in reply.results] == [
        '["Returns are free for 30 days."]',
        "Refunded order 7 of visitor:00000000-0000-4000-8000-000000000000.",
    ]
    assert [source.url for source in reply.sources] == ["https://example.org/returns"]


async def test_the_first_agent_passes_the_test_of_the_document(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.agents", module(PLAIN))
    tests: Any = module(TEST)
    await tests.test_support_finds_the_order()
