"""Revoked access: in every process the streams end, and a reconnecting reader is refused."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

from tests.faults.conftest import Stacks
from tests.support.follower import Follower
from tests.support.many_followers import delta, wait_for_all
from tests.support.ports import HOST
from tests.support.shell_code import CREATE_USER, END_SESSION
from tests.support.stack import Stack
from tests.support.visitor import AcceptedRun, Visitor, script

ENDED_WITHIN = 5.0  # seconds
READERS = 5  # of each web process


class Audience:
    """Readers of one endless reply, at every web process; `async with`."""

    def __init__(self, stack: Stack, visitor: Visitor) -> None:
        self.stack = stack
        self.visitor = visitor
        self.followers: list[Follower] = []
        self._following: list[asyncio.Task[object]] = []

    async def __aenter__(self) -> Audience:
        self.asked: AcceptedRun = await self.visitor.ask(script(tokens=20_000, rate=20))
        self.followers = [
            self._reader(port) for port in self.stack.ports.values() for _ in range(READERS)
        ]
        self._following = [asyncio.create_task(one.follow()) for one in self.followers]
        await wait_for_all(self.followers, delta(5), within=30)
        return self

    async def __aexit__(self, *_: object) -> None:
        for follower in self.followers:
            follower.stop()
        await asyncio.gather(*self._following)

    def _reader(self, port: int, cursor: str | int | None = None) -> Follower:
        conversation = self.asked.conversation
        return self.visitor.follower(conversation, port=port, cursor=cursor, until_idle=False)

    async def is_shut_out(self, since: float, condition: str, statuses: set[int]) -> None:
        """Every stream has ended in time with this condition, and no cursor opens another."""
        async with asyncio.timeout(30):
            await asyncio.gather(*self._following)
        for follower in self.followers:
            *_, last, refused = follower.recording.connections
            assert last.ended_at - since <= ENDED_WITHIN
            assert last.received[-1].block.event == "stream-error"
            assert last.received[-1].block.payload["condition"] == condition
            assert refused.status in statuses
            assert not refused.received
        for cursor in (None, 0, self.asked.cursor, self.followers[0].recording.cursor()):
            back = self._reader(self.stack.ports[self.stack.webs[1].name], cursor)
            recording = await back.follow()
            assert [one.status in statuses for one in recording.connections] == [True]
            assert not list(recording.received())


async def test_access_revoked_in_another_process_ends_every_stream(stacks: Stacks) -> None:
    async with stacks(webs=2) as stack, AsyncExitStack() as audiences:
        await stack.manage("shell", "-c", CREATE_USER)
        token = await stack.manage("token", "create", "ann", "--name", "a test's")
        number = (await stack.manage("token", "list", "ann")).partition("\t")[0]
        holder = Visitor(HOST, stack.ports[stack.web.name])
        holder.use_token(token.splitlines()[-1])
        leaver, deleter, stays = [await stack.visitor() for _ in range(3)]
        in_session, with_token, deleted, untouched = [
            await audiences.enter_async_context(Audience(stack, visitor))
            for visitor in (leaver, holder, deleter, stays)
        ]
        await stack.manage("shell", "-c", END_SESSION.format(key=leaver.http.cookies["sessionid"]))
        await in_session.is_shut_out(time.monotonic(), "forbidden", {401, 404})
        await stack.manage("token", "revoke", number)
        await with_token.is_shut_out(time.monotonic(), "forbidden", {401})
        elsewhere = deleter.at(stack.ports[stack.webs[1].name])
        path = f"/api/conversations/{deleted.asked.conversation}/"
        gone_at = time.monotonic()
        (await elsewhere.http.delete(path)).raise_for_status()
        await deleted.is_shut_out(gone_at, "gone", {404})
        assert all(len(one.recording.connections) == 1 for one in untouched.followers)
        await stays.cancel(untouched.asked.run)
        for visitor in (holder, elsewhere):
            await visitor.close()
