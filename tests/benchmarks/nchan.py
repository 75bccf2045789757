"""nchan as a peer: event streams by a module of nginx, written in C. Its log is in its own memory.

Debian's package is libnginx-mod-nchan. If it is not installed, its rows are left out.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.support.ports import HOST, essentials
from tests.support.process import Process

NCHAN = "nchan"
MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
MISSING = "nchan is not installed (apt install libnginx-mod-nchan), so its rows are left out."
CONFIGURATION = r"""
load_module {module};
daemon off;
master_process off;
pid {place}/nginx.pid;
error_log {place}/error.log;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    keepalive_requests 1000000;
    nchan_max_reserved_memory 256m;
    nchan_message_buffer_length 20000;
    server {{
        listen {host}:{port} backlog=4096;
        location ~ ^/publish/(\w+)$ {{
            nchan_publisher;
            nchan_channel_id $1;
        }}
        location ~ ^/events/(\w+)/$ {{
            nchan_subscriber eventsource;
            nchan_channel_id $1;
            nchan_subscriber_first_message oldest;
            nchan_eventsource_ping_interval 15;
        }}
    }}
}}
"""


def with_nchan(ours: str, *others: str) -> tuple[str, ...]:
    """These names, and nchan after ours if it is installed."""
    if MODULE.exists() and shutil.which("nginx"):
        return (ours, NCHAN, *others)
    print(MISSING, file=sys.stderr)
    return (ours, *others)


def nchan_process(port: int, place: Path) -> Process:
    """nginx as one process, with the module and nothing else."""
    configuration = place / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(module=MODULE, place=place, host=HOST, port=port))
    return Process(
        "peer",
        ["nginx", "-p", str(place), "-c", str(configuration)],
        environment=essentials(),
        directory=place,
        log=place / "peer.log",
    )
