"""Caddy on the configuration that docs/deploy ships, but without TLS, in front of one server."""

from __future__ import annotations

from pathlib import Path

from tests.support.ports import HOST, essentials, free_port, listens
from tests.support.process import Process
from tests.support.production_machine import DEPLOY, NAME
from tests.support.waiting import until


async def caddy_before(port: int, place: Path) -> tuple[Process, int]:
    """Start Caddy, and return its process and its port. The caller must kill the process."""
    own = free_port()
    shipped = (DEPLOY / "Caddyfile").read_text()
    for said, meant in ((NAME, f"http://{HOST}:{own}"), ("127.0.0.1:8000", f"{HOST}:{port}")):
        assert said in shipped
        shipped = shipped.replace(said, meant)
    place.mkdir(parents=True)
    configuration = place / "Caddyfile"
    configuration.write_text("{\n\tadmin off\n}\n" + shipped)
    process = Process(
        "caddy",
        ["caddy", "run", "--config", str(configuration)],
        environment={**essentials(), "HOME": str(place)},
        directory=place,
        log=place / "caddy.log",
    )
    process.start()
    await until(lambda: listens(own), within=20, what="Caddy")
    return process, own
