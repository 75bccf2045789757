"""The vendors' own clients of other wires: npm packages, and Node processes that a test directs.

A Node process has any number of pages, each with a name.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from tests.support.npm import INSTALLED_WITHIN
from tests.support.visitor import Visitor

ANSWERED_WITHIN = 90.0  # seconds; a test with a tighter bound measures it itself
LINE = 32 * 1024 * 1024  # bytes of one answer, which holds a whole chat
FLAGS = ("--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--legacy-peer-deps")


def install(project: Path, packages: Mapping[str, str]) -> Path:
    """A folder in which these packages are installed by name and version."""
    project.mkdir(parents=True)
    (project / "package.json").write_text('{"private": true, "type": "module"}')
    names = [f"{name}@{version}" for name, version in packages.items()]
    command = ["npm", "install", *FLAGS, *names]
    subprocess.run(command, cwd=project, timeout=INSTALLED_WITHIN, check=True, capture_output=True)
    return project


def install_once(directory: Path, packages: Mapping[str, str]) -> Path:
    """Install the packages once for all test processes that share `directory`. The others wait."""
    name = hashlib.sha256(json.dumps(packages, sort_keys=True).encode()).hexdigest()[:16]
    project = directory / name
    with (directory / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not project.exists():
            install(directory / f"{name}.new", packages).rename(project)
    return project


class VendorProcess:
    """`async with VendorProcess(script, project) as client`: a Node script, directed by JSON."""

    def __init__(self, script: Path, project: Path) -> None:
        # Node looks for packages beside the script, and above it.
        self._script = Path(tempfile.mkdtemp(dir=project)) / script.name
        shutil.copy(script, self._script)
        self._numbers = count()
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *("node", str(self._script)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE,
        )
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reading

    async def do(self, op: str, **order: Any) -> dict[str, Any]:
        """Send an order, and return its answer. Raises `AssertionError` with the script's error."""
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"n": number, "op": op, **order}).encode() + b"\n")
        found: dict[str, Any] = await asyncio.wait_for(answer, ANSWERED_WITHIN)
        assert "fault" not in found, found["fault"]
        return found

    async def _read(self) -> None:
        assert self._process.stdout
        async for line in self._process.stdout:
            found = json.loads(line)
            answer = self._asked.pop(found.pop("n"))
            if not answer.done():
                answer.set_result(found)
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(AssertionError("the client's process ended"))


@dataclass(kw_only=True)
class VendorPage:
    """One page in a vendor's client, whose requests go to this port in the visitor's name."""

    client: VendorProcess
    visitor: Visitor
    port: int
    name: str = field(default_factory=lambda: uuid4().hex)

    async def begin(
        self, path: str, *, also: Mapping[str, str] | None = None, **order: Any
    ) -> None:
        """Open the page in the client. `also` has further headers of each request."""
        headers = {**self.visitor.write_credentials(), **(also or {})}
        await self.do(
            "open", url=f"http://{self.visitor.host}:{self.port}{path}", headers=headers, **order
        )

    async def do(self, op: str, **order: Any) -> dict[str, Any]:
        return await self.client.do(op, name=self.name, **order)

    async def send(self, text: str, **order: Any) -> dict[str, Any]:
        return await self.do("send", text=text, **order)
