"""A private PostgreSQL server from the system's package, which can be killed and restarted."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import psutil
import psycopg

from tests.support.ports import HOST, essentials, free_port
from tests.support.process import Process, alive
from tests.support.waiting import until

UP_WITHIN = 30.0  # seconds
OWNER = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"]


class PostgreSQL(Process):
    """A server with its files in `directory`, which other users than root must be able to enter.

    Its Unix socket accepts every user. Over TCP, users authenticate with `method`.
    """

    def __init__(self, directory: Path, *, method: str = "scram-sha-256") -> None:
        programs = max(
            Path("/usr/lib/postgresql").glob("*/bin"), key=lambda bin: int(bin.parent.name)
        )
        self.port = free_port()
        self.sockets = directory / "sockets"
        place = directory / "database"
        owner: list[str] = []
        for folder in (place, self.sockets):
            folder.mkdir()
            if os.getuid() == 0:  # PostgreSQL refuses to run as root
                shutil.chown(folder, "postgres", "postgres")
                owner = OWNER
        ways = ["--auth-local=trust", f"--auth-host={method}", "-U", "postgres", "-E", "UTF8"]
        subprocess.run(
            [*owner, str(programs / "initdb"), "-D", str(place), *ways],
            cwd=directory,
            env=essentials(),
            capture_output=True,
            timeout=120,
            check=True,
        )
        wishes = ["-k", str(self.sockets), "-p", str(self.port), "-h", HOST]
        super().__init__(
            "postgresql",
            [*owner, str(programs / "postgres"), "-D", str(place), *wishes],
            environment=essentials(),
            directory=directory,
            log=directory / "postgresql.log",
        )

    @classmethod
    @asynccontextmanager
    async def running_server(cls) -> AsyncIterator[Self]:
        """A running server in its own folder, without passwords."""
        directory = Path(tempfile.mkdtemp(prefix="postgresql"))
        directory.chmod(0o755)
        server = cls(directory, method="trust")
        server.start()
        try:
            await server.answers()
            yield server
        finally:
            if server.running:
                await server.kill_all()
            shutil.rmtree(directory)

    @property
    def url(self) -> str:
        return f"postgres://postgres@{HOST}:{self.port}/postgres"

    async def answers(self) -> None:
        """Wait until it accepts a connection, which is some time after it listens."""
        await until(self._accepts, within=UP_WITHIN, what="PostgreSQL")

    def _accepts(self) -> bool:
        try:
            psycopg.connect(host=str(self.sockets), port=self.port, user="postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    async def kill_all(self) -> None:
        """Kill the server, and wait for its children, which end by themselves when they notice."""
        children = psutil.Process(self.pid).children()
        self.kill()
        await until(
            lambda: not any(map(alive, children)),
            within=UP_WITHIN,
            what="the end of PostgreSQL's children",
        )
