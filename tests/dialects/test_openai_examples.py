"""docs/dialects.md: OpenAI's examples as they stand there, with their connections cut."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from tests.dialects.conftest import Stacks
from tests.support.openai_client import User
from tests.support.ports import HOST, essentials
from tests.support.script import expected
from tests.support.stack import CHECKOUT
from tests.support.tcp_proxy import Proxy

PAGE = (CHECKOUT / "docs/dialects.md").read_text().partition("## OpenAI Chat Completions")[2]
PAGE = PAGE.partition("## LangGraph")[0]
ASKED = "What is a river?"
ENDED_WITHIN = 60.0  # seconds


def examples(language: str) -> list[str]:
    """The page's examples in this language, with the test's model."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [block.replace("gpt-4o-mini", "scripted") for block in blocks]


async def printed(user: User, port: int, *command: str) -> str:
    """What the program prints."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        env=essentials()
        | {"OPENAI_BASE_URL": f"http://{HOST}:{port}/v1", "OPENAI_API_KEY": user.token},
    )
    try:
        async with asyncio.timeout(ENDED_WITHIN):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    return out.decode()


async def test_the_examples_print_the_reply(stacks: Stacks, tmp_path: Path) -> None:
    chat, responses = examples("python")
    async with stacks() as stack, Proxy((HOST, stack.ports[stack.web.name])) as proxy:
        user = await User.of(stack)
        program = tmp_path / "example.py"
        program.write_text(chat)
        assert await printed(user, proxy.port, sys.executable, str(program)) == expected(ASKED)
        program.write_text(responses)
        for cut, reset in ((900, True), (2_000, False), (1_500, True)):
            proxy.cut_next_answer_after(10_000)  # the answer to the POST passes
            proxy.cut_next_answer_after(cut, reset=reset)
        assert await printed(user, proxy.port, sys.executable, str(program)) == expected(ASKED)
        await user.visitor.close()
