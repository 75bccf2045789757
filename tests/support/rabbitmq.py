"""A private RabbitMQ server, with its own ports and folder, which can be killed."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.ports import HOST, essentials, free_port
from tests.support.process import Process
from tests.support.waiting import until

# Debian's wrapper on the path would run the server as another user.
PROGRAM = "/usr/lib/rabbitmq/bin/rabbitmq-server"
UP_WITHIN = 60.0  # seconds


class RabbitMQ(Process):
    """`async with RabbitMQ(directory) as broker`: the broker runs at `broker.url`."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.port = free_port()
        self.url = f"amqp://guest:guest@{HOST}:{self.port}//"
        self._starts = 0
        nowhere = str(directory / "nowhere")
        super().__init__(
            "rabbitmq",
            [PROGRAM],
            environment={
                **essentials(),
                "HOME": str(directory),
                "RABBITMQ_NODENAME": "unspool@localhost",
                "RABBITMQ_NODE_IP_ADDRESS": HOST,
                "RABBITMQ_NODE_PORT": str(self.port),
                "RABBITMQ_DIST_PORT": str(free_port()),
                "RABBITMQ_MNESIA_BASE": str(directory / "data"),
                "RABBITMQ_LOG_BASE": str(directory),
                "RABBITMQ_LOGS": "-",
                "RABBITMQ_PID_FILE": str(directory / "pid"),
                "RABBITMQ_ENABLED_PLUGINS_FILE": nowhere,
                "RABBITMQ_CONFIG_FILE": nowhere,
                "RABBITMQ_CONF_ENV_FILE": nowhere,
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                    "-kernel inet_dist_use_interface {127,0,0,1}"
                ),
                # Erlang's daemon for names outlives its node, so `_end` ends it with a command.
                "ERL_EPMD_PORT": str(free_port()),
                "ERL_EPMD_ADDRESS": HOST,
            },
            directory=directory,
            log=directory / "rabbitmq.log",
        )

    async def ready(self) -> None:
        """Wait until it has started as often as `start` was called."""
        await until(
            lambda: self._log_text().count("Server startup complete") == self._starts,
            within=UP_WITHIN,
            what="RabbitMQ",
        )

    def start(self) -> None:
        self._starts += 1
        super().start()

    async def __aenter__(self) -> Self:
        self.start()
        try:
            await self.ready()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        self.kill()
        end = ["epmd", "-port", self.environment["ERL_EPMD_PORT"], "-kill"]
        await until(  # epmd refuses until it has noticed that its node is gone
            lambda: b"Killed" in subprocess.run(end, capture_output=True, check=False).stdout,
            within=10,
            what="the end of epmd",
        )

    def _log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""
