"""Event stream clients from npm: installs a project with them, and reads streams with one."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "faults" / "readers"
INSTALLED_WITHIN = 120.0  # seconds for npm
Event = tuple[str, str, str]  # its name, its data, and the client's last event id


def install(directory: Path) -> Path:
    """Install the project's packages, by name and version, in a folder outside the checkout."""
    project = directory / "readers"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("node_modules"))
    flags = ["--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run(["npm", "install", *flags], cwd=project, timeout=INSTALLED_WITHIN, check=True)
    return project


async def events_read_by(
    reader: str, urls: Sequence[str], cookies: str, project: Path, *, within: float
) -> list[list[Event]]:
    """The events that this client library reads from each URL, until each answers 204."""
    process = await asyncio.create_subprocess_exec(
        *("node", "read.mjs", reader, cookies, *urls),
        cwd=project,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(within):
            out, complaint = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, complaint.decode()[-2000:]
    heard: list[list[Event]] = [[] for _ in urls]
    for line in out.decode().split("\n")[:-1]:  # not `splitlines`, which also cuts at U+2028
        type, data, id, which = json.loads(line)
        heard[which].append((type, data, id))
    return heard
