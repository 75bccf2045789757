"""`manage.py chat` while a process or Redis is away: nothing is lost, nothing is repeated."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.faults.conftest import Stacks
from tests.support.ports import HOST
from tests.support.script import expected
from tests.support.stack import Stack
from tests.support.stack_fixtures import shared_stack
from tests.support.tcp_proxy import Proxy
from tests.support.terminal import CONTROL_D, Chat
from tests.support.terminal_session import being_written, cookies, same_person, stored, words
from tests.support.visitor import script
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(stacks: Stacks) -> AsyncIterator[Stack]:
    async with shared_stack(stacks) as stack:
        yield stack


async def restarted(stack: Stack, number: signal.Signals) -> None:
    if number == signal.SIGKILL:
        stack.web.kill()
    else:
        stack.web.terminate()
        await stack.web.ended(within=10)
    stack.web.start()
    await stack.ready(stack.web)


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


async def test_a_post_whose_response_is_lost_is_accepted_once(
    service: Stack, tmp_path: Path
) -> None:
    async with Proxy((HOST, service.ports[service.web.name])) as proxy:
        async with Chat(service, tmp_path, port=proxy.port) as chat:
            await chat.wait_for_prompt()
            proxy.reset()  # what it kept open since it arrived: its next call is a new connection
            proxy.cut_next_answer_after(1)
            chat.type("What is a river?\r")
            await chat.wait_for_text(words(expected("What is a river?"))[-1])
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
        await chat.wait_for_text(words(expected("What is a river?"))[-1])
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


async def test_after_a_lost_log_the_reply_is_whole(service: Stack, tmp_path: Path) -> None:
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
    (_, text) = (await stored(service, tmp_path))[1]
    assert text == expected(asked)
    assert words(str(chat.screen))[-100:] == words(text)
