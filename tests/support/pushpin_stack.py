"""The whole service with Pushpin in front, which holds the readers' connections."""

from __future__ import annotations

import secrets
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.ports import HOST, free_port, listens
from tests.support.process import Process
from tests.support.procfile import CHECKOUT, command_of
from tests.support.stack import READY_WITHIN, Stack
from tests.support.tcp_proxy import Proxy
from tests.support.visitor import Visitor
from tests.support.waiting import until


class PushpinStack:
    """`async with PushpinStack(stack, settings)`: bridges, Pushpins, and a proxy in front of them.

    The stack must have been started with `shared_settings` of this class. Each Pushpin connects to
    each bridge, or with `cut` only to the first bridge, over `bridge_proxy`. With `apart` the
    bridges connect to Valkey directly, not over the web processes' proxy.
    """

    def __init__(
        self,
        stack: Stack,
        settings: Mapping[str, str],
        *,
        pushpins: int = 1,
        bridges: int = 1,
        cut: bool = False,
        apart: bool = False,
    ) -> None:
        self.stack = stack
        self.settings = settings
        self.socket_dir = tempfile.mkdtemp(prefix="grip")  # for sockets, whose paths must be short
        ports = [free_port() for _ in range(bridges)]
        self.bridge_proxy = Proxy((HOST, ports[0]), port=free_port())
        addresses = [f"tcp://{HOST}:{port}" for port in ports]
        heard = [f"tcp://{HOST}:{self.bridge_proxy.port}"] if cut else addresses
        redis = {"REDIS_URL": f"redis://{HOST}:{stack.valkey.port}/0"} if apart else {}
        self.bridges = [
            self._part(f"bridge{n}", "bridge", {"BRIDGE_BIND": address, **redis})
            for n, address in enumerate(addresses)
        ]
        self.ports = [free_port() for _ in range(pushpins)]
        self.proxy = Proxy(*((HOST, port) for port in self.ports))
        self.pushpins = [
            self._part(f"pushpin{n}", "pushpin", self._of_pushpin(n, port, heard))
            for n, port in enumerate(self.ports)
        ]

    @staticmethod
    def shared_settings() -> dict[str, str]:
        """The setting that all processes share: the key that Pushpin signs with."""
        return {"GRIP_URL": f"http://{HOST}:{free_port()}/?key={secrets.token_hex()}"}

    @property
    def bridge(self) -> Process:
        return self.bridges[0]

    @property
    def pushpin(self) -> Process:
        return self.pushpins[0]

    @property
    def port(self) -> int:
        return self.ports[0]

    async def visitor(self) -> Visitor:
        """A new visitor whose requests go directly to the first Pushpin."""
        return await self.stack.visitor(port=self.port)

    async def ready(self) -> None:
        """Wait until every Pushpin takes connections."""
        await until(
            lambda: all(map(listens, self.ports)), within=READY_WITHIN, what="Pushpin's port"
        )

    async def __aenter__(self) -> Self:
        await self.bridge_proxy.accept()
        await self.proxy.accept()
        for part in (*self.bridges, *self.pushpins):
            part.start()
        for bridge in self.bridges:
            await bridge.wait_for_log("listens on", within=READY_WITHIN)
        await self.ready()
        self.stack.outer_proxy, self.stack.holders = self.proxy, [*self.bridges, *self.pushpins]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for part in (*self.bridges, *self.pushpins):
            if error is not None:
                sys.stderr.write(part.tail())
            part.kill()
        self.stack.outer_proxy, self.stack.holders = None, []
        for proxy in (self.proxy, self.bridge_proxy):
            await proxy.__aexit__(kind, error, trace)
        shutil.rmtree(self.socket_dir)

    def _of_pushpin(self, number: int, port: int, bridges: list[str]) -> dict[str, Any]:
        data: Path = self.stack.data / f"node{number}"
        control = self.settings["GRIP_URL"].partition("?")[2]
        return {
            "DATA_DIR": str(data),
            "TMPDIR": self.socket_dir,
            "HOST": HOST,
            "PUSHPIN_PORT": str(port),
            "PUSHPIN_ORIGIN": f"{HOST}:{self.stack.front.port}",
            "BRIDGE_URLS": ",".join(bridges),
            "GRIP_URL": f"http://{HOST}:{free_port()}/?{control}",
        }

    def _part(self, name: str, line: str, settings: Mapping[str, str]) -> Process:
        return Process(
            name,
            command_of(line),
            environment={**self.stack.web.environment, **settings},
            directory=CHECKOUT,
            log=self.stack.logs / f"{name}.log",
        )
