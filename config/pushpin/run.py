"""The Pushpin process: `python -m config.pushpin.run` runs Pushpin and the proxy on this machine.

Pushpin holds the readers' connections. This module runs the four programs of Debian's package as an
ordinary user, with a configuration in the data folder. Pushpin's own runner gives each program its
own process group. If that runner is killed, the programs keep running and block the next start. If
GRIP_URL is not set, or names another machine, this process sleeps.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from base64 import b64encode
from pathlib import Path
from typing import NoReturn
from urllib.parse import parse_qs, urlsplit

from django.conf import settings

from config.data_dir import lock_file
from config.dev.child_process import die_with_parent
from config.dev.idle import idle
from streams.http.refusals import API
from streams.http.request_limits import HEAD

PROGRAMS = ("condure", "zurl", "pushpin-proxy", "pushpin-handler")
MAX_REQUESTS = 10_000  # to the web processes at once
ZURL_SOCKETS = 20  # each queues 100 requests; Pushpin answers further ones with 502
START_TIMEOUT = 10.0  # seconds for each program
LIBRARY = Path("/usr/lib/pushpin")  # Debian's folder with the names of internal sockets


def configuration(run: Path) -> str:
    """Return Pushpin's configuration, with a reason for each value that is not its default."""
    control = urlsplit(settings.GRIP_URL)
    key = b64encode(parse_qs(control.query)["key"][0].encode()).decode()
    port = control.port or 5561
    return f"""\
[global]
include={LIBRARY}/internal.conf
rundir={run}
ipc_prefix=pushpin-

[proxy]
routesfile=routes
# Debian's defaults point at a system daemon, without which every request hangs.
zurl_out_specs={",".join([f"ipc://{run}/pushpin-zurl-in"] * ZURL_SOCKETS)}
zurl_out_stream_specs=ipc://{run}/pushpin-zurl-in-stream
zurl_in_specs=ipc://{run}/pushpin-zurl-out
# The proxy in front of Pushpin sets X-Forwarded-Proto.
accept_x_forwarded_protocol=true
set_x_forwarded_protocol=proto-only
x_forwarded_for=append
sig_iss=pushpin
sig_key=base64:{key}
updates_check=off

[handler]
ipc_file_mode=700
# All events come from the bridges, to which Pushpin connects. The other ports are local only,
# because a program that reaches them can publish to any reader.
push_in_sub_specs={",".join(settings.BRIDGE_URLS)}
push_in_sub_connect=true
push_in_spec=ipc://{run}/pushpin-push-in
push_in_http_addr=127.0.0.1
push_in_http_port={port}
command_spec=ipc://{run}/pushpin-command
stats_spec=ipc://{run}/pushpin-stats
# No limits: by default Pushpin sends 2,500 messages a second, and drops messages that queue up.
message_rate=0
message_hwm=0
# ms that an event waits for a missing predecessor before the readers are sent to the log
message_wait=100
# s in which Pushpin drops a repeated id; the bridge repeats a channel's last event for 45 s
id_cache_ttl=60
"""


def zurl(run: Path) -> str:
    """Return the configuration of zurl, the program that sends requests to the web processes."""
    return f"""\
[General]
in_spec=ipc://{run}/pushpin-zurl-in
in_stream_spec=ipc://{run}/pushpin-zurl-in-stream
out_spec=ipc://{run}/pushpin-zurl-out
in_req_spec=
defpolicy=allow
max_open_requests={MAX_REQUESTS}
buffer_size=200000
timeout=600
in_hwm=1000
out_hwm=1000
"""


def routes(proxy: int) -> str:
    """Return Pushpin's routes. The route with the longest matching path wins.

    Pushpin requests the next page of a stream from the web processes directly, because it retries
    that request itself. WebSockets go to the web processes directly, because the proxy serves only
    HTTP.
    """
    origin = settings.PUSHPIN_ORIGIN
    lines = [
        *(f"*,path_beg={path} 127.0.0.1:{proxy}" for path in API),
        f"*,proto=ws,path_beg=/api/ {origin}",
        f"*,path_beg=/api/streams/ {origin}",
        f"* {origin}",
    ]
    return "\n".join([*lines, ""])


def programs(home: Path, run: Path) -> list[tuple[list[str], str]]:
    """Return the command of each Pushpin program, and the name of the last socket that it makes.

    The listener comes first. Each other program comes after the programs to which it connects.
    """
    config = f"--config={home / 'pushpin.conf'}"
    common = ["--ipc-prefix=pushpin-", "--loglevel=1"]
    host = f"[{settings.HOST}]" if ":" in settings.HOST else settings.HOST
    # A connection must survive some heartbeats that arrive late.
    idle_timeout = max(settings.PUSHPIN_IDLE_TIMEOUT, round(5 * settings.STREAM_HEARTBEAT))
    listener = [
        "condure",
        "--log-level=1",
        f"--listen={host}:{settings.PUSHPIN_PORT},stream",
        f"--zclient-stream=ipc://{run}/pushpin-condure",
        f"--buffer-size={HEAD}",
        f"--stream-maxconn={settings.PUSHPIN_MAX_CONNECTIONS}",
        f"--stream-timeout={idle_timeout}",
    ]
    return [
        (listener, "condure-in"),
        (["zurl", f"--config={home / 'zurl.conf'}", "--loglevel=1"], "zurl-out"),
        (["pushpin-proxy", config, *common, "--quiet-check"], "proxy-command"),
        (["pushpin-handler", config, *common], "stats"),
    ]


def start_proxy(sock: socket.socket) -> subprocess.Popen[bytes]:
    """Start the proxy with a socket that accepts connections already."""
    command = [sys.executable, "-m", "config.pushpin.proxy", str(sock.fileno())]
    preexec = die_with_parent(signal.SIGKILL)
    with sock:
        return subprocess.Popen(command, pass_fds=[sock.fileno()], preexec_fn=preexec)


def start(command: list[str], socket_file: Path) -> subprocess.Popen[bytes]:
    """Start a program and wait for its socket. Exits if the program does not make it in time."""
    part = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent(signal.SIGKILL)
    )
    end = time.monotonic() + START_TIMEOUT
    while not socket_file.exists():
        if part.poll() is not None or time.monotonic() > end:
            part.kill()
            sys.exit(f"{command[0]} did not start.")
        time.sleep(0.001)
    return part


def run_here() -> NoReturn:
    """Run Pushpin and the proxy until one of the programs ends, or until SIGTERM or SIGINT."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        sys.exit(f"GRIP_URL is set, but {missing[0]} is missing: apt-get install pushpin")
    run, home = settings.PUSHPIN_RUN, settings.DATA_DIR / "pushpin"
    for place in (run, home):
        place.mkdir(mode=0o700, exist_ok=True)
    lock = lock_file(home / "lock")  # two Pushpins would take each other's sockets
    if lock is None:
        sys.exit(f"Another Pushpin is running on {home}: stop it first.")
    for stale in run.iterdir():
        stale.unlink()
    config = home / "pushpin.conf"
    config.touch(mode=0o600)  # it holds the key
    config.write_text(configuration(run))
    (home / "zurl.conf").write_text(zurl(run))
    proxy = socket.create_server(("127.0.0.1", 0))
    (home / "routes").write_text(routes(proxy.getsockname()[1]))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    parts: list[subprocess.Popen[bytes]] = []
    try:
        for command, last in programs(home, run):
            parts.append(start(command, run / f"pushpin-{last}"))
            # Before the last program is ready, Pushpin answers 503, and a browser's EventSource
            # does not reconnect after that. So the listener is paused, and clients wait at its
            # port. (Popen.send_signal would reap a dead program, and os.wait would miss it.)
            os.kill(parts[0].pid, signal.SIGSTOP)
        parts.append(start_proxy(proxy))
        os.kill(parts[0].pid, signal.SIGCONT)
        print(f"Pushpin listens on {settings.HOST} port {settings.PUSHPIN_PORT}", flush=True)
        gone, status = os.wait()
        # The other programs would only wait for the one that has ended.
        name = [*PROGRAMS, "The proxy"][[part.pid for part in parts].index(gone)]
        sys.exit(f"{name} has exited with status {os.waitstatus_to_exitcode(status)}.")
    finally:
        for part in parts:
            part.kill()  # nothing to finish: readers reconnect with their cursor
        os.close(lock)


def main() -> None:
    if not settings.GRIP_URL:
        why = "GRIP_URL is not set"
    elif urlsplit(settings.GRIP_URL).hostname not in ("127.0.0.1", "localhost", "::1"):
        why = "GRIP_URL names another machine"
    else:
        run_here()
    idle("Pushpin", why)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main()
