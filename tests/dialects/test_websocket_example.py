"""docs/dialects.md: the WebSocket's example in Python as it stands there, with its sockets cut."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from tests.support.openai_client import User
from tests.support.ports import HOST, essentials
from tests.support.procfile import CHECKOUT
from tests.support.script import expected
from tests.support.tcp_proxy import Proxy
from tests.support.visitor import script

pytestmark = pytest.mark.asyncio(loop_scope="session")
PAGE = (CHECKOUT / "docs/dialects.md").read_text().partition("## WebSocket")[2]
ENDED_WITHIN = 60.0  # seconds


async def test_the_example_prints_the_reply(user: User, tmp_path: Path) -> None:
    found = re.search(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found
    program = tmp_path / "example.py"
    program.write_text(found[1])
    async with Proxy((HOST, user.stack.ports[user.stack.web.name])) as proxy:
        asked = await user.visitor.ask(script(tokens=100, rate=50))
        for cut, reset in ((700, True), (300, True), (2_000, False), (3_000, True)):
            proxy.cut_next_answer_after(cut, reset=reset)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(program),
            stdout=asyncio.subprocess.PIPE,
            env={
                **essentials(),
                "SOCKET_URL": f"ws://{HOST}:{proxy.port}"
                f"/api/conversations/{asked.conversation}/socket/",
                "TOKEN": user.token,
            },
        )
        try:
            async with asyncio.timeout(ENDED_WITHIN):
                out, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert (process.returncode, out.decode()) == (0, expected(asked.script))
