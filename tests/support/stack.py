"""The whole service as real processes: Valkey, a scripted model, web processes and workers.

Every process can be started, killed, frozen and replaced alone; its output goes to a file.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sys
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.agent_paths import TOOLS
from tests.support.model_process import ModelProcess
from tests.support.ports import HOST, answers, essentials, free_port, listens
from tests.support.process import Process
from tests.support.procfile import CHECKOUT, command_of
from tests.support.stack_settings import service_settings
from tests.support.tcp_proxy import Proxy
from tests.support.valkey import Valkey
from tests.support.visitor import Visitor, script
from tests.support.waiting import until

READY_WITHIN = 60.0  # seconds; a cold interpreter on a busy machine


class Stack:
    """`async with Stack(directory, database) as stack`; `also` are settings for web and workers.

    `agents` is the number of agents processes, which have the agent "tools", that is
    `tests.support.agents.scripted`. With `proxied`, web processes and workers connect to the first
    Valkey over two proxies, so that a test can cut off either.
    """

    def __init__(
        self,
        directory: Path,
        database: Path | str,
        *,
        webs: int = 1,
        workers: int = 1,
        agents: int = 0,
        valkeys: int = 1,
        proxied: bool = False,
        also: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.logs = directory / "logs"
        self.data = directory / "data"
        self.logs.mkdir(parents=True)
        self.data.mkdir()
        self.database = database
        # Without agents, the empty value turns the demonstrations off.
        self.also = {"AGENTS": f"tools={TOOLS}" if agents else "", **(also or {})}
        names = ["valkey", *(f"valkey{n}" for n in range(2, valkeys + 1))]
        self.valkeys = [Valkey(directory, self.logs / f"{name}.log", name=name) for name in names]
        self.web_redis = Proxy((HOST, self.valkey.port))
        self.worker_redis = Proxy((HOST, self.valkey.port))
        self.front = Proxy()
        self.outer_proxy: Proxy | None = None  # in front of `front`, if there is one
        self.holders: list[Process] = []  # bridges and Pushpins in front of the web processes
        self.webs: list[Process] = []
        self.workers: list[Process] = []
        self.agents: list[Process] = []
        self.ports: dict[str, int] = {}
        self._counts = (webs, workers, agents)
        self._workers_begun = self._agents_begun = 0
        self.proxied = proxied
        self._secret = secrets.token_hex()
        self._visitors: list[Visitor] = []
        self._proxies = AsyncExitStack()
        self.model = ModelProcess(self.data, self.logs / "model.log")

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            sys.stderr.write(self.log_tails())
            await self._end()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            sys.stderr.write(self.log_tails())
        await self._end()

    def parts(self) -> list[Process]:
        return [*self.webs, *self.workers, *self.agents, self.model, *self.valkeys]

    @property
    def valkey(self) -> Valkey:
        """The first Valkey, which is also the broker."""
        return self.valkeys[0]

    @property
    def entrance(self) -> Proxy:
        """The balancer in front of the web processes, or in front of Pushpin if there is one."""
        return self.outer_proxy or self.front

    def log_tails(self) -> str:
        return "\n".join(part.tail() for part in self.parts())

    @property
    def web(self) -> Process:
        return self.webs[0]

    @property
    def worker(self) -> Process:
        return self.workers[0]

    async def add_web(self, **also: str) -> Process:
        """One more web process, ready, and known to the balancer in front.

        `also` are settings for it alone.
        """
        port = free_port()
        name = f"web{len(self.ports)}"
        self.ports[name] = port
        settings = self._settings(self.web_redis) | {"HOST": HOST, "PORT": str(port)} | also
        web = self._part(name, command_of("web"), settings)
        self.webs.append(web)
        web.start()
        await self.ready(web)
        self.front.upstreams.append((HOST, port))
        return web

    async def add_worker(self, *, ready: bool = True) -> Process:
        worker = self._part(
            f"worker{self._workers_begun}", command_of("worker"), self._settings(self.worker_redis)
        )
        self._workers_begun += 1
        self.workers.append(worker)
        worker.start()
        if ready:
            await worker.wait_for_log("ready.", within=READY_WITHIN)
        return worker

    async def add_agents(self, *, ready: bool = True) -> Process:
        """One more agents process."""
        agents = self._part(
            f"agents{self._agents_begun}", command_of("agents"), self._settings(self.worker_redis)
        )
        self._agents_begun += 1
        self.agents.append(agents)
        agents.start()
        if ready:
            await agents.wait_for_log("takes runs", within=READY_WITHIN)
        return agents

    async def ready(self, web: Process) -> None:
        """Wait until this web process is ready."""
        url = f"http://{HOST}:{self.ports[web.name]}/health/ready"
        await until(
            lambda: not web.running or answers(url), within=READY_WITHIN, what=f"{web.name} ready"
        )
        if not web.running:
            raise RuntimeError(f"{web.name} ended before it was ready")

    async def visitor(self, web: Process | None = None, *, port: int | None = None) -> Visitor:
        """A new visitor, by default at the outer proxy or at the first web process."""
        if self.outer_proxy and web is None:
            port = port or self.outer_proxy.port
        visitor = Visitor(HOST, port or self.ports[(web or self.web).name])
        self._visitors.append(visitor)
        await visitor.begin_session()
        return visitor

    async def manage(self, *words: str) -> str:
        """The output of `manage.py` with these arguments, in a process of its own."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "manage.py",
            *words,
            cwd=CHECKOUT,
            env={**essentials(), **self._settings(self.web_redis)},
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await asyncio.wait_for(process.communicate(), READY_WITHIN)
        if process.returncode:
            raise RuntimeError(f"manage.py {words} ended with {process.returncode}")
        return said.decode().strip()

    async def warm(self) -> None:
        """Let every worker write a reply, so that none is measured while it starts."""
        visitor = await self.visitor()
        asked = [await visitor.ask(script(tokens=1, seed=n)) for n in range(2 * len(self.workers))]
        for one in asked:
            await visitor.follower(one.conversation).follow()

    async def _start(self) -> None:
        for proxy in (self.web_redis, self.worker_redis, self.front):
            await self._proxies.enter_async_context(proxy)
        if isinstance(self.database, Path):
            shutil.copy(self.database, self.data / "db.sqlite3")
        for valkey in self.valkeys:
            valkey.start()
        self.model.start()
        for valkey in self.valkeys:
            await valkey.answers()
        await until(lambda: listens(self.model.port), within=READY_WITHIN, what="the model")
        webs, workers, agents = self._counts
        for _ in range(agents):
            await self.add_agents(ready=False)
        for _ in range(workers):
            await self.add_worker(ready=False)
        for _ in range(webs):
            await self.add_web()
        for worker in self.workers:
            await worker.wait_for_log("ready.", within=READY_WITHIN)
        for process in self.agents:
            await process.wait_for_log("takes runs", within=READY_WITHIN)

    async def _end(self) -> None:
        for visitor in self._visitors:
            await visitor.close()
        for valkey in self.valkeys:
            await valkey.client.aclose()
        for part in self.parts():
            part.kill()
        await self._proxies.aclose()

    def _part(self, name: str, command: Iterable[str], settings: Mapping[str, str]) -> Process:
        return Process(
            name,
            list(command),
            environment={**essentials(), **settings},
            directory=CHECKOUT,
            log=self.logs / f"{name}.log",
        )

    def _settings(self, redis_proxy: Proxy) -> dict[str, str]:
        ports = [valkey.port for valkey in self.valkeys]
        if self.proxied:
            ports[0] = redis_proxy.port
        settings = service_settings(self.data, self.database, ports, self.model.port)
        return {**settings, "SECRET_KEY": self._secret, **self.also}
