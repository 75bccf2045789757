"""`make run`: every part of the service on this machine, until Ctrl-C."""

import fcntl
import multiprocessing
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from config.data_dir import make_writable, unwritable
from config.dev.supervisor import ProcessExited, Supervisor
from config.parts_file import PartsFile

CHECKOUT = Path(__file__).resolve().parent.parent.parent
PATIENCE = 90.0  # seconds for each part: the first start on a slow disk reads everything anew
MIGRATING = 600  # seconds


def say(text: str) -> None:
    print(text, flush=True)


def claim(port: int) -> tuple[Path, int]:
    """A data folder that is ours alone, and the lock that makes it so."""
    given = os.environ.get("DATA_DIR")
    own = CHECKOUT / "data"
    folders = [Path(given).resolve()] if given else [own, own / f"port-{port}"]
    for folder in folders:
        try:
            make_writable(folder)
            lock = os.open(folder / "run.lock", os.O_CREAT | os.O_RDWR, 0o600)
        except ImproperlyConfigured as error:
            sys.exit(str(error))
        except OSError as error:
            sys.exit(str(unwritable(folder, error)))
        # Both `make run` and honcho may have been killed: their parts then run on, unwatched.
        if left := PartsFile(folder).left_behind():
            sys.exit(left)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            PartsFile(folder).clear()  # those that it names have ended
            if folder != folders[0]:
                say(f"Another copy is using {shown(own)}, so this one keeps to {shown(folder)}.")
            return folder, lock
    sys.exit(f"Another copy is using {shown(folders[-1])}: stop it, or set PORT or DATA_DIR.")


def shown(path: Path) -> str:
    return str(path.relative_to(CHECKOUT) if path.is_relative_to(CHECKOUT) else path)


def reserve(host: str, port: int) -> socket.socket:
    """The port, bound but not listening, so that no second copy can start on it beside us."""
    seat = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        # Connections of an earlier copy may linger, so this one is asked for with REUSEADDR …
        seat.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        seat.bind((host, port))
    except OSError as error:
        sys.exit(f"Port {port} cannot be had ({error.strerror}): choose another with PORT=… .")
    # … and kept without, which refuses the next who asks, but lets the web process share it.
    seat.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    seat.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return seat


def check_semaphores() -> None:
    """honcho keeps its queue with a POSIX semaphore, which Linux makes in /dev/shm."""
    try:
        multiprocessing.get_context("fork").Lock()
    except OSError as error:
        sys.exit(
            f"A semaphore cannot be made ({error.strerror}), which honcho needs to run the parts:"
            " make /dev/shm writable (mount -t tmpfs tmpfs /dev/shm; docker run --tmpfs /dev/shm),"
            " or start each line of Procfile on its own, with DATA_DIR set alike."
        )


def migrate() -> None:
    started = time.monotonic()
    command = [sys.executable, "manage.py", "migrate", "--noinput", "--verbosity", "1"]
    try:
        done = subprocess.run(
            command,
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=MIGRATING,
        )
    except subprocess.TimeoutExpired:
        sys.exit(f"The database could not be brought up to date in {MIGRATING} seconds.")
    if done.returncode:
        sys.exit(f"{done.stdout}\nThe database could not be brought up to date: see above.")
    say(f"  database  ready after {time.monotonic() - started:.1f} s")


def valkey_answers() -> bool:
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(1)
        try:
            line.connect(str(settings.VALKEY_SOCKET))
            line.sendall(b"PING\r\n")
            return line.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def start(parts: Supervisor) -> None:
    """Wait for each part, in plain words."""
    awaited = ["worker", "web"]
    if settings.EMBEDDED_MODEL:
        awaited.insert(0, "model")
    else:
        say(f"  model     {settings.OPENAI_BASE_URL or 'the one of OPENAI_API_KEY'}, not embedded")
    if settings.EMBEDDED_VALKEY:
        awaited.insert(0, "valkey")
    else:
        say("  valkey    the one at REDIS_URL, not embedded")
    if settings.GRIP_URL:
        awaited += ["bridge", "pushpin"]
    started = time.monotonic()
    for name in awaited:
        if not parts.wait(partial(ready, parts, name), PATIENCE):
            show(parts, name)
            sys.exit(f"The {name} was not ready after {PATIENCE:.0f} seconds.")
        say(f"  {name:<9} ready after {time.monotonic() - started:.1f} s")


def ready(parts: Supervisor, name: str) -> bool:
    return valkey_answers() if name == "valkey" else name in parts.ready


def welcome(host: str, data: Path) -> None:
    port = settings.PUSHPIN_PORT if settings.GRIP_URL else settings.PORT
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    say(f"""
Everything is kept in {shown(data)}. Ask in a browser, in a terminal, or with curl, which begins
a session as a browser does:

  .venv/bin/python manage.py chat --url {address}

  jar={shlex.quote(f"{shown(data)}/cookies")}; curl -s -o /dev/null -c "$jar" {address}
  curl -s -b "$jar" -H "X-CSRFToken: $(awk '/csrftoken/ {{print $7}}' "$jar")" \\
       -H 'Content-Type: application/json' -H 'Prefer: wait=30' \\
       -d '{{"message": "What is a river?"}}' {address}api/conversations/

Ctrl-C ends it. Unspool answers at {address}
""")


def show(parts: Supervisor, name: str) -> None:
    say(f"\nThe last lines of {name}:")
    for line in list(parts.lines[name]) or ["(it said nothing)"]:
        say(f"  {line}")


def interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(sig) is not signal.SIG_IGN or sig != signal.SIGHUP:  # nohup
            signal.signal(sig, interrupt)
    port = os.environ.get("PORT") or "8000"
    if not port.isdecimal() or not 0 < int(port) < 65536:
        sys.exit(f"PORT must be a number from 1 to 65535, not {port!r}.")
    check_semaphores()
    data, lock = claim(int(port))
    # honcho gives each line a PORT of its own.
    origin = os.environ.get("PUSHPIN_ORIGIN") or f"127.0.0.1:{port}"
    os.environ |= {"DATA_DIR": str(data), "PORT": port, "PUSHPIN_ORIGIN": origin}
    try:
        seat = reserve(settings.HOST, settings.PORT)
    except ImproperlyConfigured as error:
        sys.exit(str(error))
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.HOST, settings.HOST)
    say("Starting Unspool")
    with seat:
        migrate()
        settings.MODEL_URL_FILE.unlink(missing_ok=True)  # of a copy that was killed
        run(Supervisor(CHECKOUT, settings.PORT, lock=lock, file=PartsFile(data)), host, data)


def run(parts: Supervisor, host: str, data: Path) -> None:
    """Stay until somebody ends it, or a part ends by itself."""
    try:
        start(parts)
        parts.loud = True
        welcome(host, data)
        parts.wait(lambda: False, float("inf"))
    except ProcessExited as death:
        show(parts, death.name)
        parts.loud = False
        sys.exit(f"\nThe part {death.name} has ended by itself, so the others are ended too.")
    except KeyboardInterrupt:
        say("\nEnding. Replies that are being written are kept, and go on at the next start.")
    finally:
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(sig, lambda *_: parts.kill())  # asked twice: at once
        started = time.monotonic()
        parts.end()
        say(f"Ended after {time.monotonic() - started:.1f} s, with nothing left running.")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        say("\nEnded before it had started.")
