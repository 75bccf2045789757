"""RabbitMQ as the broker, by `CELERY_BROKER_URL` alone: it may die, and workers may."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.conftest import Judge, Size, Stacks
from tests.support.databases import CHECKOUT
from tests.support.many_followers import delta, following, wait_for_all
from tests.support.ports import essentials
from tests.support.rabbitmq import RabbitMQ
from tests.support.visitor import script

TASKS = 3
ACCEPTED_WITHIN = 4.0  # seconds, while nothing listens on the broker's port
LEASE = {"RUN_LEASE": "4"}  # seconds: a killed worker's runs are taken over sooner

SENT = f"[dispatch(uuid4(), 'scripted') for _ in range({TASKS})]; "
LENGTH = "print(queue_length('model'))"


def in_a_process(what: str, settings: dict[str, str]) -> str:
    """The output of one process of the service with these settings."""
    begun = (
        "import config.celery, django; django.setup(); from uuid import uuid4; "
        "from streams.chat.dispatch import dispatch; "
        "from streams.chat.broker_queue import queue_length; "
    )
    own = {"DJANGO_SETTINGS_MODULE": "config.settings", "LLM_MODEL": "scripted"}
    done = subprocess.run(
        [sys.executable, "-c", begun + what],
        cwd=CHECKOUT,
        env={**essentials(), **own, **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


async def test_rabbitmq_reports_how_many_tasks_wait(
    tmp_path: Path,
) -> None:
    async with RabbitMQ(tmp_path / "rabbitmq") as broker:
        url = {"CELERY_BROKER_URL": broker.url, "DATA_DIR": str(tmp_path / "data")}
        assert await asyncio.to_thread(in_a_process, LENGTH, url) == "0"  # no task was ever sent
        assert await asyncio.to_thread(in_a_process, SENT + LENGTH, url) == str(TASKS)
        broker.kill()
        assert await asyncio.to_thread(in_a_process, LENGTH, url) == "None"


@pytest.mark.long
async def test_with_rabbitmq_nothing_is_lost_when_any_process_dies(
    stacks: Stacks, judge: Judge, size: Size[int], tmp_path: Path
) -> None:
    async with (
        RabbitMQ(tmp_path / "rabbitmq") as broker,
        stacks(workers=2, also={"CELERY_BROKER_URL": broker.url, **LEASE}) as stack,
    ):
        visitor = await stack.visitor()
        asked = [await visitor.ask(script(tokens=100, rate=20, seed=n)) for n in range(10)]
        followers = [visitor.follower(one.conversation, cursor=one.cursor) for one in asked]
        async with following(followers, within=60):
            await wait_for_all(followers, delta(10), within=30)
            stack.workers.pop(0).kill()
        attempts = [(await visitor.run(one.run))["attempt"] for one in asked]
        assert max(attempts) == 2, "the worker that was killed had nothing to do"
        for n in range(size(1, 10)):
            broker.kill()
            while_away = [await visitor.ask(script(tokens=20, seed=10 * n + m)) for m in range(5)]
            assert max(one.took for one in while_away) <= ACCEPTED_WITHIN
            later = [visitor.follower(one.conversation) for one in while_away]
            async with following(later, within=60):
                await asyncio.sleep(2)
                broker.start()
                await broker.ready()
            runs = [await visitor.run(one.run) for one in while_away]
            assert {(run["status"], run["attempt"]) for run in runs} == {("completed", 1)}
            asked += while_away
            followers += later
        report = await judge(visitor, asked, followers)
        assert report.clean, report
