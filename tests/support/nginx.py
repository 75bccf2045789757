"""nginx on the configuration that docs/deploy ships, but without TLS, in front of one server."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.ports import HOST, essentials, free_port, listens
from tests.support.process import Process
from tests.support.waiting import until

CHECKOUT = Path(__file__).resolve().parents[2]
PLACES = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


async def nginx_before(port: int, place: Path) -> tuple[Process, int]:
    """Start nginx, and return its process and its port. The caller must kill the process."""
    own = free_port()
    shipped = (CHECKOUT / "docs" / "deploy" / "nginx.conf").read_text()
    shipped = shipped.replace("127.0.0.1:8000", f"{HOST}:{port}")
    shipped = re.sub(r"server \{\n *listen 80;.*?\n\}\n", "", shipped, flags=re.DOTALL)
    shipped = re.sub(r"listen 443 ssl http2;.*", f"listen {HOST}:{own};", shipped)
    shipped = re.sub(r" *(listen \[::\]|ssl_certificate).*\n", "", shipped)
    shipped = shipped.replace("/var/log/nginx", str(place))
    place.mkdir(parents=True)
    temporary = "".join(f"{name}_temp_path {place}/{name};\n" for name in PLACES)
    configuration = place / "nginx.conf"
    configuration.write_text(
        f"pid {place}/pid;\nerror_log {place}/error.log;\nevents {{}}\n"
        f"http {{\n{temporary}{shipped}}}\n"
    )
    process = Process(
        "nginx",
        ["nginx", "-c", str(configuration), "-e", f"{place}/error.log", "-g", "daemon off;"],
        environment=essentials(),
        directory=place,
        log=place / "nginx.log",
    )
    process.start()
    await until(lambda: listens(own), within=20, what="nginx")
    return process, own
