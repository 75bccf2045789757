"""What agents do with the database: the user who asked, and connections that do not stay open."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.db import connection, connections

from workers.agents import Turn
from workers.agents.testing import run, turn_of
from workers.agents.threads import DaemonThreads

pytestmark = pytest.mark.django_db(transaction=True)


async def test_the_user_who_asked_is_there_unless_gone_or_a_visitor() -> None:
    users = get_user_model().objects
    ada = await users.acreate(username="ada")
    gone = await users.acreate(username="gone", is_active=False)
    names = []

    async def agent(turn: Turn) -> AsyncIterator[str]:
        user = await turn.user()
        names.append(user.get_username() if user else None)
        yield "done"

    owners = [f"user:{ada.pk}", f"user:{gone.pk}", "user:99999", "external:crm-7"]
    for owner in owners:
        assert (await run(agent, turn_of("Go", owner=owner))).text == "done"
    assert names == ["ada", None, None, None]


@pytest.mark.parametrize("in_pool", [False, True])
async def test_a_call_in_a_thread_leaves_no_connection_open(in_pool: bool) -> None:
    asyncio.get_running_loop().set_default_executor(DaemonThreads())
    used: list[Any] = []

    def ask() -> None:
        connection.ensure_connection()
        used.append(connections["default"])  # the thread's own

    async def agent(turn: Turn) -> AsyncIterator[str]:
        await (asyncio.to_thread(ask) if in_pool else sync_to_async(ask)())
        yield "done"

    turn = turn_of("Go")
    assert (await run(agent, turn)).text == "done"
    assert await asyncio.to_thread(turn.control.returned.wait, 5)
    assert used[0].connection is None  # closed, or back in the pool
