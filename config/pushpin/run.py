"""Pushpin, which holds the readers' connections: `python -m config.pushpin.run` runs it here.

It runs the four programs of Debian's package, as an ordinary user, with a configuration of our own
in the data folder, and the door beside them. Pushpin's own runner gives each a process group of its
own, so that whoever kills the runner leaves four behind that block the next start. Where GRIP_URL
is not set, or names another machine's, it waits.
"""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from base64 import b64encode
from pathlib import Path
from types import FrameType
from typing import NoReturn
from urllib.parse import parse_qs, urlsplit

from django.conf import settings

from config.bounds import HEAD
from config.dev.child_process import die_with_parent
from config.dev.idle import idle

PROGRAMS = ("condure", "zurl", "pushpin-proxy", "pushpin-handler")
REQUESTS = 10_000  # to the web processes at once
LINES = 20  # to zurl, each for 100 waiting requests: what finds no room is refused with 502
QUIET = 75  # seconds in which a connection says and takes nothing; Prefer: wait lasts 60
STARTING = 10.0  # seconds for each program
LIBRARY = Path("/usr/lib/pushpin")  # where Debian keeps the names of Pushpin's inner sockets


def configuration(run: Path) -> str:
    """Pushpin's configuration, with a reason for whatever is not its default."""
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
# Debian's point at a system daemon, without which every request hangs.
zurl_out_specs={",".join([f"ipc://{run}/pushpin-zurl-in"] * LINES)}
zurl_out_stream_specs=ipc://{run}/pushpin-zurl-in-stream
zurl_in_specs=ipc://{run}/pushpin-zurl-out
# Whether a browser came by HTTPS is for the proxy before Pushpin to say.
accept_x_forwarded_protocol=true
set_x_forwarded_protocol=proto-only
x_forwarded_for=append
sig_iss=pushpin
sig_key=base64:{key}
updates_check=off

[handler]
ipc_file_mode=700
# Everything comes from the bridges, to which Pushpin connects. The other ports are its own
# machine's: who reaches them may say anything to anybody.
push_in_sub_specs={",".join(settings.BRIDGE_URLS)}
push_in_sub_connect=true
push_in_spec=ipc://{run}/pushpin-push-in
push_in_http_addr=127.0.0.1
push_in_http_port={port}
command_spec=ipc://{run}/pushpin-command
stats_spec=ipc://{run}/pushpin-stats
# No limits: by default 2,500 deliveries a second, and what queues behind them is dropped.
message_rate=0
message_hwm=0
# ms that an event waits for its lost predecessor before its readers ask the log
message_wait=100
# s in which an event's id is not said again; the bridge's last word is, for 45
id_cache_ttl=60
"""


def zurl(run: Path) -> str:
    """The configuration of the part that asks the web processes."""
    return f"""\
[General]
in_spec=ipc://{run}/pushpin-zurl-in
in_stream_spec=ipc://{run}/pushpin-zurl-in-stream
out_spec=ipc://{run}/pushpin-zurl-out
in_req_spec=
defpolicy=allow
max_open_requests={REQUESTS}
buffer_size=200000
timeout=600
in_hwm=1000
out_hwm=1000
"""


def routes(door: int) -> str:
    """Whom Pushpin asks: the longest beginning that fits counts.

    What comes next it asks the web processes themselves: it knows how to ask again.
    """
    origin = settings.PUSHPIN_ORIGIN
    return f"*,path_beg=/api/ 127.0.0.1:{door}\n*,path_beg=/api/streams/ {origin}\n* {origin}\n"


def programs(home: Path, run: Path) -> list[tuple[list[str], str]]:
    """Pushpin's four programs, as its own runner would start them, and the last socket of each.

    The listener comes first, and every other after those to whose sockets it connects.
    """
    config = f"--config={home / 'pushpin.conf'}"
    inside = ["--ipc-prefix=pushpin-", "--loglevel=1"]
    host = f"[{settings.HOST}]" if ":" in settings.HOST else settings.HOST
    listener = [
        "condure",
        "--log-level=1",
        f"--listen={host}:{settings.PUSHPIN_PORT},stream",
        f"--zclient-stream=ipc://{run}/pushpin-condure",
        f"--buffer-size={HEAD}",
        f"--stream-maxconn={settings.PUSHPIN_MAX_CONNECTIONS}",
        f"--stream-timeout={max(QUIET, round(5 * settings.STREAM_HEARTBEAT))}",
    ]
    return [
        (listener, "condure-in"),
        (["zurl", f"--config={home / 'zurl.conf'}", "--loglevel=1"], "zurl-out"),
        (["pushpin-proxy", config, *inside, "--quiet-check"], "proxy-command"),
        (["pushpin-handler", config, *inside], "stats"),
    ]


def seize(home: Path) -> int:
    """Have the folder to ourselves: two Pushpins would take each other's sockets away."""
    lock = os.open(home / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"Another Pushpin is running on {home}: stop it first.")
    return lock


def open_door(sock: socket.socket) -> subprocess.Popen[bytes]:
    """The door, at a socket that takes connections already."""
    command = [sys.executable, "-m", "config.pushpin.proxy", str(sock.fileno())]
    tied = die_with_parent(signal.SIGKILL)
    with sock:
        return subprocess.Popen(command, pass_fds=[sock.fileno()], preexec_fn=tied)


def start(command: list[str], made: Path) -> subprocess.Popen[bytes]:
    """A program that has made its socket."""
    part = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent(signal.SIGKILL)
    )
    end = time.monotonic() + STARTING
    while not made.exists():
        if part.poll() is not None or time.monotonic() > end:
            part.kill()
            sys.exit(f"{command[0]} did not start.")
        time.sleep(0.001)
    return part


def leave(signum: int, frame: FrameType | None) -> NoReturn:
    sys.exit(0)


def run_here() -> NoReturn:
    """Run all of it until one of its programs ends, or we are told to."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        sys.exit(f"GRIP_URL is set, but {missing[0]} is missing: apt-get install pushpin")
    run, home = settings.PUSHPIN_RUN, settings.DATA_DIR / "pushpin"
    for place in (run, home):
        place.mkdir(mode=0o700, exist_ok=True)
    lock = seize(home)
    for stale in run.iterdir():
        stale.unlink()
    config = home / "pushpin.conf"
    config.touch(mode=0o600)  # it holds the key
    config.write_text(configuration(run))
    (home / "zurl.conf").write_text(zurl(run))
    door = socket.create_server(("127.0.0.1", 0))
    (home / "routes").write_text(routes(door.getsockname()[1]))
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    parts: list[subprocess.Popen[bytes]] = []
    try:
        for command, last in programs(home, run):
            parts.append(start(command, run / f"pushpin-{last}"))
            # Whoever is let in before the last can answer is refused with 503, from which a
            # browser does not come back: so the listener is held, and they wait at its port.
            # (By `os.kill`: a Popen would ask first whether it lives, and forget that it does not.)
            os.kill(parts[0].pid, signal.SIGSTOP)
        parts.append(open_door(door))
        os.kill(parts[0].pid, signal.SIGCONT)
        print(f"Pushpin listens on {settings.HOST} port {settings.PUSHPIN_PORT}", flush=True)
        gone, status = os.wait()
        # A part that has ended alone leaves the others waiting for it.
        name = [*PROGRAMS, "The door"][[part.pid for part in parts].index(gone)]
        sys.exit(f"{name} has ended with {os.waitstatus_to_exitcode(status)}.")
    finally:
        for part in parts:
            part.kill()  # there is nothing to finish: readers come back from their cursor
        os.close(lock)


def main() -> None:
    if not settings.GRIP_URL:
        why = "GRIP_URL is not set"
    elif urlsplit(settings.GRIP_URL).hostname not in ("127.0.0.1", "localhost", "::1"):
        why = "GRIP_URL names another machine's"
    else:
        run_here()
    idle("Pushpin", why)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main()
