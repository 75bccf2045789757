"""Streams behind Pushpin, and Redis: its outages, its lost messages, and what it is asked."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from tests.faults.conftest import Grip, Judge, Size, Stacks
from tests.support.many_followers import delta, final_event, following, wait_for_all
from tests.support.outages import Outage, killed, unreachable
from tests.support.pushpin_stack import PushpinStack
from tests.support.recording import Received
from tests.support.stack import Stack
from tests.support.visitor import script

LONG = 20_000  # tokens: a reply that lasts until it is cancelled


async def test_heartbeats_carry_the_head_and_only_they_show_an_outage_of_redis(grip: Grip) -> None:
    async with grip(also={"STREAM_HEARTBEAT": "1.5"}) as (stack, gripped):
        visitor = await gripped.visitor()
        one = await visitor.ask(script(tokens=3, rate=20, seed=1))
        reader = visitor.follower(one.conversation, cursor=one.cursor, until_idle=False)
        newcomer = visitor.follower(one.conversation, until_idle=False)
        async with following([reader], within=30):
            await reader.wait_for(final_event(), within=20)
            await reader.wait_for(heartbeat(reader.recording.cursor()), within=5)
            stack.valkey.kill()
            await reader.wait_for(heartbeat(None), within=10)
            async with following([newcomer], within=30):
                await newcomer.wait_for(heartbeat(None), within=10)
                stack.valkey.start()
                await stack.valkey.answers()
                began = await newcomer.wait_for(lambda heard: heard.block.id is not None, within=10)
                assert began.block.event == "conversation.snapshot"
                newcomer.stop()
            reader.stop()
        assert [len(r.recording.connections) for r in (reader, newcomer)] == [1, 1]


def heartbeat(head: int | None) -> Callable[[Received], bool]:
    return lambda heard: heard.block.event == "heartbeat" and heard.block.payload == {"head": head}


@pytest.mark.parametrize(
    ("outage", "apart"),
    [(killed, False), (unreachable, False), (unreachable, True)],
    ids=["from all", "from web and bridge", "from the web process alone"],
)
async def test_a_reader_that_reconnects_while_redis_is_down_receives_the_rest_later(
    grip: Grip, judge: Judge, outage: Outage, apart: bool
) -> None:
    async with grip(proxied=True, apart=apart) as (stack, gripped):
        visitor = await gripped.visitor()
        direct = visitor.at(stack.ports[stack.web.name])  # the bridge is to know of none of it
        asked = [await direct.ask(script(tokens=20, rate=50, seed=n)) for n in range(4)]
        first = [direct.follower(one.conversation, cursor=one.cursor) for one in asked]
        async with following(first, within=30):
            pass
        await direct.close()
        heads = [reader.recording.cursor() or 0 for reader in first]
        late = [
            visitor.follower(one.conversation, cursor=cursor)
            for one, cursor in zip(asked, (heads[0] - 2, heads[1] - 1, heads[2], None), strict=True)
        ]
        away = asyncio.create_task(outage(stack, 3))
        await asyncio.sleep(0.5)
        async with following(late, within=8):  # before the next heartbeat
            await away
        report = await judge(visitor, asked, late)
        assert report.clean, report
        assert all(reader.recording.whole for reader in late)


async def test_a_last_event_lost_on_its_way_arrives_soon(
    grip: Grip, judge: Judge, size: Size[int]
) -> None:
    async with grip(cut=True) as (stack, gripped):
        visitor = await gripped.visitor()
        asked, readers = [], []
        for n in range(size(3, 10)):
            one = await visitor.ask(script(tokens=LONG, rate=5, seed=n))
            reader = visitor.follower(one.conversation, cursor=one.cursor)
            async with following([reader], within=20):
                await reader.wait_for(delta(3), within=20)
                if n % 2:
                    await stack.valkey.cut_subscriptions()
                else:
                    gripped.bridge_proxy.stall()
                said_at = time.monotonic()
                await visitor.cancel(one.run)
                if not n % 2:
                    gripped.bridge_proxy.reset()
                    gripped.bridge_proxy.flow()
                heard = await reader.wait_for(final_event(one.run), within=20)
                assert heard.at - said_at <= 2.0
            asked.append(one)
            readers.append(reader)
        report = await judge(visitor, asked, readers)
        assert report.clean, report


@pytest.mark.long
async def test_the_worker_sends_one_command_per_token_for_any_number_of_nodes(
    stacks: Stacks, size: Size[int]
) -> None:
    chosen = PushpinStack.shared_settings()
    async with stacks(pushpin=False, also=chosen) as stack:
        for nodes in (0, 1, size(4, 10)):  # each a Pushpin with its bridge
            async with AsyncExitStack() as parts:
                ports = [stack.ports[stack.web.name]]
                if nodes:
                    gripped = PushpinStack(stack, chosen, pushpins=nodes, bridges=nodes)
                    ports = (await parts.enter_async_context(gripped)).ports
                visitor = await stack.visitor(port=ports[0])
                asked = await visitor.ask(script(tokens=LONG, rate=100))
                readers = [
                    visitor.follower(asked.conversation, cursor=asked.cursor, port=port)
                    for port in ports
                ]
                async with following(readers, within=30):
                    await wait_for_all(readers, delta(100), within=30)
                    channel = f"conversation-{asked.conversation}"
                    listen = await stack.valkey.client.pubsub_numsub(channel)
                    # Without a bridge it is the web process.
                    assert listen == [(channel.encode(), max(1, nodes))]
                    before = await commands_and_head(stack, channel)
                    await wait_for_all(readers, delta(600), within=30)
                    sent = await commands_and_head(stack, channel) - before
                    await visitor.cancel(asked.run)
            tokens = sent["head"]
            assert round(sent["fcall"] / tokens, 1) == 1.0  # from all clients
            assert sent["publish"] == tokens


async def commands_and_head(stack: Stack, channel: str) -> Counter[str]:
    """How often each command was sent to Redis, and, as `head`, the channel's last id."""
    both = stack.valkey.client.pipeline(transaction=True)
    both.info("commandstats")
    both.hget(f"{{{channel}}}:state", "head")
    stats, head = await both.execute()
    calls = {name.removeprefix("cmdstat_"): told["calls"] for name, told in stats.items()}
    return Counter(calls | {"head": int(head)})
