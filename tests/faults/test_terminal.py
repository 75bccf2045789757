"""`manage.py chat` on real processes: it shows what is stored, whichever process fails."""

from __future__ import annotations

import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.faults.conftest import Stacks
from tests.support.ports import HOST, free_port
from tests.support.script import expected
from tests.support.stack import Stack
from tests.support.stack_fixtures import shared_stack
from tests.support.terminal import CONTROL_C, CONTROL_D, Chat
from tests.support.terminal_session import being_written, same_person, stored, words
from tests.support.visitor import script
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(stacks: Stacks) -> AsyncIterator[Stack]:
    async with shared_stack(stacks) as stack:
        yield stack


def followers(stack: Stack) -> float:
    """How many streams the web process has open."""
    metrics = httpx.get(f"http://{HOST}:{stack.ports[stack.web.name]}/metrics", trust_env=False)
    return float(re.findall(r"^unspool_followers (.+)", metrics.text, re.MULTILINE)[0])


async def test_in_a_pipe_only_the_reply_is_printed(service: Stack, tmp_path: Path) -> None:
    async with Chat(service, tmp_path, piped="What is a river?\n") as chat:
        assert (await chat.ended(), chat.out, chat.err) == (
            0,
            expected("What is a river?") + "\n",
            "",
        )
    async with Chat(service, tmp_path, "And", "a", "lake?", piped="") as chat:
        assert (await chat.ended(), chat.out) == (0, expected("And a lake?") + "\n")


async def test_an_agents_calls_are_dim_lines_on_a_terminal_and_absent_from_a_pipe(
    stacks: Stacks, tmp_path: Path
) -> None:
    agent = {"AGENTS": "demo-tools=workers.agents.demos.tools.agent"}
    question = ("--model", "demo-tools", "What is 12.5 % of 384?")
    async with stacks(workers=0, agents=1, also=agent) as stack:
        async with Chat(stack, tmp_path, *question) as chat:
            assert await chat.ended() == 0
            lines = chat.output.replace("\r", "").splitlines()
        assert lines[:3] == [
            "\x1b[2mcalculator {'expression': '12.5 / 100 * 384'}\x1b[0m",
            "\x1b[2m→ 12.5 / 100 * 384 = 48\x1b[0m",
            "12.5 / 100 * 384 = 48",
        ]
        async with Chat(stack, tmp_path, *question, piped="") as chat:
            assert (await chat.ended(), chat.out, chat.err) == (0, f"{lines[2]}\n", "")


async def test_control_c_cancels_the_reply_and_the_chat_continues(
    service: Stack, tmp_path: Path
) -> None:
    long, next = script(tokens=900, rate=20, seed="c"), script(tokens=30, seed="d")
    async with Chat(service, tmp_path) as chat:
        await chat.wait_for_prompt()
        chat.type(f"{long}\r")
        await chat.wait_for_text("w20-")
        run = await being_written(service, tmp_path, 20)
        chat.type(CONTROL_C)
        await chat.wait_for_prompt()
        async with same_person(service, tmp_path) as visitor:
            stopped = await visitor.run(run["id"])
        assert stopped["status"] == "cancelled"
        assert words(str(chat.screen)) == words(stopped["text"])
        chat.type(f"{next}\r")
        await chat.wait_for_text(words(expected(next))[-1])
        await chat.wait_for_prompt()
        assert words(str(chat.screen)) == words(stopped["text"] + expected(next))
        chat.type(CONTROL_C)
        assert await chat.ended() == 0
    assert await stored(service, tmp_path) == [
        ("user", long),
        ("assistant", stopped["text"]),
        ("user", next),
        ("assistant", expected(next)),
    ]


async def test_control_c_in_a_pipe_cancels_the_reply_and_keeps_its_text(
    service: Stack, tmp_path: Path
) -> None:
    async with Chat(service, tmp_path, piped=script(tokens=900, rate=20, seed="p")) as chat:
        await being_written(service, tmp_path, 10)
        chat.process.send_signal(signal.SIGINT)
        assert await chat.ended() == 130
    messages = await stored(service, tmp_path)
    assert chat.out == messages[1][1] + "\n"
    assert chat.err == "cancelled\n"


async def test_control_c_cancels_a_reply_that_no_worker_has_started(
    stacks: Stacks, tmp_path: Path
) -> None:
    async with stacks(workers=0) as stack:
        async with Chat(stack, tmp_path) as chat:
            await chat.wait_for_prompt()
            chat.type("What is a river?\r")
            await until(lambda: followers(stack) == 1, within=30, what="an open stream")
            chat.type(CONTROL_C)
            await chat.wait_for_text("cancelled")
            await chat.wait_for_prompt()
            chat.type(CONTROL_D)
            assert await chat.ended() == 0
        assert await stored(stack, tmp_path) == [("user", "What is a river?")]


async def test_a_failure_is_noted_and_sets_the_exit_status(service: Stack, tmp_path: Path) -> None:
    asked = script(tokens=20, fault="error", fault_at=8, seed="f")
    async with Chat(service, tmp_path, piped=asked) as chat:
        assert await chat.ended() == 1
    assert chat.out == "".join(expected(asked).split(" ")[n] + " " for n in range(8)) + "\n"
    assert re.fullmatch(r"failed: [A-Z].+\.\n", chat.err), chat.err
    for arguments, told in (
        (["--token", "made-up"], "The token is unknown"),
        (["--model", "made-up"], "No model or agent of this name is offered."),
        (["--conversation", "4f1d1f9c-1111-4111-8111-111111111111"], "it is not yours"),
    ):
        async with Chat(service, tmp_path, *arguments, piped="hi") as chat:
            assert (await chat.ended(), chat.out) == (1, "")
            assert told in chat.err
    async with Chat(service, tmp_path, piped="hi", port=free_port()) as chat:
        assert (await chat.ended(), chat.out) == (1, "")
        assert "No answer from" in chat.err


async def test_a_conversation_can_be_continued_and_followed(service: Stack, tmp_path: Path) -> None:
    async with Chat(service, tmp_path, "first", piped="") as chat:
        await chat.ended()
    texts = {message: expected(message) for message in ("first", "second", "third")}
    async with (
        same_person(service, tmp_path) as visitor,
        Chat(service, tmp_path, "--follow", piped="") as watching,
    ):
        conversation = (await visitor.conversations())[0]["id"]
        async with Chat(service, tmp_path, "--conversation", conversation) as chat:
            await chat.wait_for_prompt()
            elsewhere = await visitor.send(conversation, "second")
            await visitor.follower(conversation, cursor=elsewhere.cursor).follow()
            chat.type("third\r")
            await chat.wait_for_text(words(texts["third"])[-1])
            await chat.wait_for_prompt()
        assert words(str(chat.screen)) == words(texts["third"])
        dialogue = "".join(f"user: {said}\nassistant: {text}\n" for said, text in texts.items())
        await until(lambda: watching.out == dialogue, within=30, what="the dialogue")
        (await visitor.http.delete(f"/api/conversations/{conversation}/")).raise_for_status()
        assert await watching.ended() == 1
        assert "it is not yours" in watching.err


async def test_a_reply_cannot_control_the_terminal(service: Stack, tmp_path: Path) -> None:
    text = ["before \x1b]0;mine\x07 ", "\x1b[2J\x9b31m ", "[red]not markup[/red] after"]
    async with Chat(service, tmp_path, script(text=text)) as chat:
        assert await chat.ended() == 0
    assert "\x1b]0;" not in chat.output
    assert "\x1b[2J" not in chat.output
    assert "\x9b" not in chat.output
    assert "[red]not markup[/red] after" in str(chat.screen)
