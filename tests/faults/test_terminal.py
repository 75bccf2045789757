"""`manage.py chat` on real processes: it shows what is stored, whichever process fails."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.faults.conftest import Stacks
from tests.support.ports import HOST, free_port
from tests.support.script import expected
from tests.support.stack import Stack
from tests.support.stack_fixtures import shared_stack
from tests.support.tcp_proxy import Proxy
from tests.support.terminal import CONTROL_C, CONTROL_D, Chat, visitor_of
from tests.support.visitor import Visitor, script
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(stacks: Stacks) -> AsyncIterator[Stack]:
    async with shared_stack(stacks) as stack:
        yield stack


@asynccontextmanager
async def same_person(stack: Stack, data: Path) -> AsyncIterator[Visitor]:
    visitor = visitor_of(stack, data)
    try:
        yield visitor
    finally:
        await visitor.close()


def words(text: str) -> list[str]:
    """The scripted model's words, without the line breaks."""
    return re.findall(r"w\d+-[0-9a-f]{3}", text)


def cookies(stack: Stack, data: Path) -> Path:
    """The file of this chat's session."""
    return data / f"chat-{HOST}-{stack.ports[stack.web.name]}.cookies"


async def being_written(stack: Stack, data: Path, pieces: int) -> dict[str, Any]:
    """The run that this chat has just started, after so many deltas were published."""
    await until(
        lambda: cookies(stack, data).exists() and stack.model_stats()["streaming"],
        within=30,
        what="a reply",
    )
    async with same_person(stack, data) as visitor:
        while True:
            newest = (await visitor.conversations())[0]["id"]
            for run in (await visitor.conversation(newest))["runs"]:
                if len(words(run["text"])) >= pieces:
                    return dict(run)


async def stored(stack: Stack, data: Path) -> list[tuple[str, str]]:
    """The role and text of each message in the conversation that this chat started last."""
    async with same_person(stack, data) as visitor:
        newest = (await visitor.conversations())[0]["id"]
        messages = (await visitor.conversation(newest))["messages"]
        return [(message["role"], message["content"]) for message in messages]


async def restarted(stack: Stack, number: signal.Signals) -> None:
    if number == signal.SIGKILL:
        stack.web.kill()
    else:
        stack.web.terminate()
        await stack.web.ended(within=10)
    stack.web.start()
    await stack.ready(stack.web)


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
            '\x1b[2mcalculator {"expression": "12.5 / 100 * 384"}\x1b[0m',
            '\x1b[2m→ "12.5 / 100 * 384 = 48"\x1b[0m',
            "12.5 / 100 * 384 = 48",
        ]
        async with Chat(stack, tmp_path, *question, piped="") as chat:
            assert (await chat.ended(), chat.out, chat.err) == (0, f"{lines[2]}\n", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_restart_of_the_web_process_during_a_reply_loses_nothing(
    service: Stack, tmp_path: Path, number: signal.Signals
) -> None:
    asked = script(tokens=160, rate=20, seed=number.name)
    async with Chat(service, tmp_path, piped=asked) as chat:
        await being_written(service, tmp_path, 20)
        await restarted(service, number)
        assert (await chat.ended(), chat.out) == (0, expected(asked) + "\n")
        assert chat.err == "reconnecting…\nback, nothing lost\n"


async def test_a_restart_during_a_reply_prints_each_word_once(
    service: Stack, tmp_path: Path
) -> None:
    asked = script(tokens=200, rate=20, seed="t")
    async with Chat(service, tmp_path) as chat:
        await chat.wait_for_prompt()
        chat.type(f"{asked}\r")
        await chat.wait_for_text("w20-")
        service.web.kill()
        await chat.wait_for_text("reconnecting…")
        service.web.start()
        await service.ready(service.web)
        await chat.wait_for_text("back, nothing lost", within=10)
        await chat.wait_for_prompt()
        assert words(str(chat.screen)) == words(expected(asked))
        chat.type(CONTROL_D)
        assert await chat.ended() == 0
        assert "Continue with --conversation" in str(chat.screen)


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
        await chat.wait_for_text("30 tokens")
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
    assert re.fullmatch(r"stopping…\ncancelled \(\d+ tokens\)\n", chat.err), chat.err


async def test_control_c_cancels_a_reply_that_no_worker_has_started(
    stacks: Stacks, tmp_path: Path
) -> None:
    async with stacks(workers=0) as stack:
        async with Chat(stack, tmp_path) as chat:
            await chat.wait_for_prompt()
            chat.type("What is a river?\r")
            await until(cookies(stack, tmp_path).exists, within=30, what="a session")
            async with same_person(stack, tmp_path) as visitor:
                while not await visitor.conversations():
                    await asyncio.sleep(0.1)
            chat.type(CONTROL_C)
            await chat.wait_for_text("cancelled")
            await chat.wait_for_prompt()
            chat.type(CONTROL_D)
            assert await chat.ended() == 0
        assert await stored(stack, tmp_path) == [("user", "What is a river?")]


async def test_a_post_whose_response_is_lost_is_accepted_once(
    service: Stack, tmp_path: Path
) -> None:
    async with Proxy((HOST, service.ports[service.web.name])) as proxy:
        async with Chat(service, tmp_path, port=proxy.port) as chat:
            await chat.wait_for_prompt()
            proxy.reset()  # what it kept open since it arrived: its next call is a new connection
            proxy.cut_next_answer_after(1)
            chat.type("What is a river?\r")
            await chat.wait_for_text("12 tokens")
            await chat.wait_for_prompt()
            assert words(str(chat.screen)) == words(expected("What is a river?"))
            chat.type(CONTROL_D)
            await chat.ended()
        cookies = tmp_path / f"chat-{HOST}-{proxy.port}.cookies"
        cookies.rename(tmp_path / f"chat-{HOST}-{service.ports[service.web.name]}.cookies")
    async with same_person(service, tmp_path) as visitor:
        assert len(await visitor.conversations()) == 1


async def test_a_message_typed_during_an_outage_is_sent_afterwards(
    service: Stack, tmp_path: Path
) -> None:
    async with Chat(service, tmp_path) as chat:
        await chat.wait_for_prompt()
        service.web.kill()
        chat.type("What is a river?\r")
        await chat.wait_for_text("reconnecting…")
        service.web.start()
        await service.ready(service.web)
        await chat.wait_for_text("12 tokens")
    assert await stored(service, tmp_path) == [
        ("user", "What is a river?"),
        ("assistant", expected("What is a river?")),
    ]


async def test_an_attempt_that_was_lost_leaves_nothing_in_the_pipe(
    service: Stack, tmp_path: Path
) -> None:
    asked = script(tokens=100, rate=20, seed="a")
    async with Chat(service, tmp_path, piped=asked) as chat:
        await being_written(service, tmp_path, 20)
        service.worker.kill()
        service.workers.pop(0)
        await service.add_worker()
        assert (await chat.ended(), chat.out) == (0, expected(asked) + "\n")


async def test_the_chat_waits_for_a_reply_during_an_outage_of_redis(
    service: Stack, tmp_path: Path
) -> None:
    asked = script(tokens=20, rate=100, seed="away")
    service.valkey.kill()
    async with Chat(service, tmp_path, piped=asked) as chat:
        await until(cookies(service, tmp_path).exists, within=30, what="a session")
        async with same_person(service, tmp_path) as visitor:
            while not await visitor.conversations():
                await asyncio.sleep(0.1)
        service.valkey.start()
        assert (await chat.ended(), chat.out) == (0, expected(asked) + "\n")


async def test_a_lost_log_is_noted_and_the_reply_is_whole(service: Stack, tmp_path: Path) -> None:
    asked = script(tokens=100, rate=20, seed="l")
    async with Chat(service, tmp_path) as chat:
        await chat.wait_for_prompt()
        chat.type(f"{asked}\r")
        await chat.wait_for_text("w20-")
        await service.valkey.client.flushall()
        service.web.kill()
        service.web.start()
        await service.ready(service.web)
        await chat.wait_for_prompt()
        assert "the event log was lost: this is the text as it is now" in chat.output
    (_, text) = (await stored(service, tmp_path))[1]
    assert text == expected(asked)
    assert words(str(chat.screen))[-100:] == words(text)


async def test_a_failure_is_noted_and_sets_the_exit_status(service: Stack, tmp_path: Path) -> None:
    asked = script(tokens=20, fault="error", fault_at=8, seed="f")
    async with Chat(service, tmp_path, piped=asked) as chat:
        assert await chat.ended() == 1
    assert chat.out == "".join(expected(asked).split(" ")[n] + " " for n in range(8)) + "\n"
    assert re.fullmatch(r"failed: [A-Z].+\. \(\d+ tokens\)\n", chat.err), chat.err
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
            await chat.wait_for_text("user: first")
            await chat.wait_for_prompt()
            elsewhere = await visitor.send(conversation, "second")
            await visitor.follower(conversation, cursor=elsewhere.cursor).follow()
            chat.type("third\r")
            await chat.wait_for_text("completed")
            await chat.wait_for_prompt()
        assert words(str(chat.screen)) == words(texts["first"] + texts["third"])
        dialogue = "".join(f"user: {said}\nassistant: {text}\n" for said, text in texts.items())
        await until(lambda: watching.out == dialogue, within=30, what="the dialogue")
        (await visitor.http.delete(f"/api/conversations/{conversation}/")).raise_for_status()
        assert await watching.ended() == 1
        assert "This conversation has been deleted." in watching.err


async def test_a_reply_cannot_control_the_terminal(service: Stack, tmp_path: Path) -> None:
    text = ["before \x1b]0;mine\x07 ", "\x1b[2J\x9b31m ", "[red]not markup[/red] after"]
    async with Chat(service, tmp_path, script(text=text)) as chat:
        assert await chat.ended() == 0
    assert "\x1b]0;" not in chat.output
    assert "\x1b[2J" not in chat.output
    assert "\x9b" not in chat.output
    assert "[red]not markup[/red] after" in str(chat.screen)
