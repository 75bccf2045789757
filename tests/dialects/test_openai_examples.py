"""docs/dialects.md: OpenAI's examples as they stand there, with their connections cut."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from tests.dialects.conftest import Installed
from tests.support.openai_client import NODE_PACKAGES, User
from tests.support.ports import HOST, essentials
from tests.support.procfile import CHECKOUT
from tests.support.script import expected
from tests.support.tcp_proxy import Proxy

pytestmark = pytest.mark.asyncio(loop_scope="session")
PAGE = (CHECKOUT / "docs/dialects.md").read_text().partition("## OpenAI Chat Completions")[2]
PAGE = PAGE.partition("## LangGraph")[0]
ASKED = "What is a river?"
ENDED_WITHIN = 60.0  # seconds
CUTS = ((900, True), (2_000, False), (1_500, True))  # bytes of a response, and whether by RST


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


async def test_the_examples_print_the_reply(
    user: User, installed: Installed, tmp_path: Path
) -> None:
    chat, responses = examples("python")
    (node,) = examples("js")
    folder = installed(NODE_PACKAGES)
    for program, source, is_cut in (
        (tmp_path / "chat.py", chat, False),
        (tmp_path / "responses.py", responses, True),
        (folder / "responses.mjs", node, True),
    ):
        program.write_text(source)
        interpreter = "node" if program.suffix == ".mjs" else sys.executable
        # One proxy each: a cut that is left would meet the next one's POST.
        async with Proxy((HOST, user.stack.ports[user.stack.web.name])) as proxy:
            for cut, reset in CUTS if is_cut else ():
                proxy.cut_next_answer_after(10_000)  # the answer to the POST passes
                proxy.cut_next_answer_after(cut, reset=reset)
            command = (interpreter, str(program))
            assert await printed(user, proxy.port, *command) == expected(ASKED)
