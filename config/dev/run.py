"""`make run`: starts every process of the service on this machine, and stops them at Ctrl-C."""

import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from config.data_dir import lock_file, make_writable, unwritable
from config.dev.supervisor import ProcessExited, Supervisor

CHECKOUT = Path(__file__).resolve().parent.parent.parent
READY_TIMEOUT = 90.0  # seconds for each process: the first start from a slow disk takes long
MIGRATE_TIMEOUT = 600  # seconds


def say(text: str) -> None:
    with suppress(OSError):  # the terminal has been closed
        print(text, flush=True)


def is_hung_up() -> bool:
    """Whether the terminal at standard input has been closed.

    The kernel sends SIGHUP to the process that leads the terminal's session. That can be make,
    which then waits for this process and does not tell it.
    """
    terminal = select.poll()
    terminal.register(0, 0)
    return any(state & select.POLLHUP for _, state in terminal.poll(0))


def claim(port: int) -> tuple[Path, int]:
    """Return a data folder that no other copy uses, and its lock. Exits if there is none."""
    data_dir = os.environ.get("DATA_DIR")
    own = CHECKOUT / "data"
    folders = [Path(data_dir).resolve()] if data_dir else [own, own / f"port-{port}"]
    for folder in folders:
        try:
            make_writable(folder)
            lock = lock_file(folder / "run.lock")
        except ImproperlyConfigured as error:
            sys.exit(str(error))
        except OSError as error:
            sys.exit(str(unwritable(folder, error)))
        if lock is not None:
            if folder != folders[0]:
                say(f"Another copy uses {shown(own)}, so this one uses {shown(folder)}.")
            return folder, lock
    sys.exit(f"Another copy uses {shown(folders[-1])}: stop it, or set PORT or DATA_DIR.")


def shown(path: Path) -> str:
    """Return the path as text, relative to the checkout if it is inside."""
    return str(path.relative_to(CHECKOUT) if path.is_relative_to(CHECKOUT) else path)


def reserve(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to the port but not listening, to keep a second copy away."""
    reserved = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        # Connections of an earlier copy may linger, so bind with SO_REUSEADDR.
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind((host, port))
    except OSError as error:
        sys.exit(f"Port {port} cannot be had ({error.strerror}): choose another with PORT=… .")
    # Without SO_REUSEADDR, a second copy cannot bind. SO_REUSEPORT lets the web process share the
    # port.
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return reserved


def migrate() -> None:
    """Apply the database migrations. Exits with their output if they fail."""
    started = time.monotonic()
    command = [sys.executable, "manage.py", "migrate", "--noinput", "--verbosity", "1"]
    try:
        done = subprocess.run(
            command,
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=MIGRATE_TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        sys.exit(f"The database migrations did not end within {MIGRATE_TIMEOUT} seconds.")
    if done.returncode:
        sys.exit(f"{done.stdout}\nThe database migrations failed: see above.")
    say(f"  database  ready after {time.monotonic() - started:.1f} s")


def valkey_answers() -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(str(settings.VALKEY_SOCKET))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def start(parts: Supervisor) -> None:
    """Wait until each process is ready, and print a line for each. Exits if one is too slow."""
    names = ["worker", "web"]
    if settings.EMBEDDED_MODEL:
        names.insert(0, "model")
    else:
        say(f"  model     {settings.OPENAI_BASE_URL or 'the API of OPENAI_API_KEY'}, not embedded")
    if settings.EMBEDDED_VALKEY:
        names.insert(0, "valkey")
    else:
        say("  valkey    the one at REDIS_URL, not embedded")
    if settings.AGENTS:
        names.insert(-1, "agents")
    if settings.GRIP_URL:
        names += ["bridge", "pushpin"]
    started = time.monotonic()
    for name in names:
        if not parts.wait(partial(ready, parts, name), READY_TIMEOUT):
            print_last_lines(parts, name)
            sys.exit(f"The {name} was not ready after {READY_TIMEOUT:.0f} seconds.")
        say(f"  {name:<9} ready after {time.monotonic() - started:.1f} s")


def ready(parts: Supervisor, name: str) -> bool:
    return valkey_answers() if name == "valkey" else name in parts.ready


def welcome(host: str, data: Path) -> None:
    port = settings.PUSHPIN_PORT if settings.GRIP_URL else settings.PORT
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    say(f"""
All data is in {shown(data)}. Ask a question in a browser, in a terminal, or with curl, which
begins a session as a browser does:

  .venv/bin/python manage.py chat --url {address}

  jar={shlex.quote(f"{shown(data)}/cookies")}; curl -s -o /dev/null -c "$jar" {address}
  curl -s -b "$jar" -H "X-CSRFToken: $(awk '/csrftoken/ {{print $7}}' "$jar")" \\
       -H 'Content-Type: application/json' -H 'Prefer: wait=30' \\
       -d '{{"message": "What is a river?"}}' {address}api/conversations/

Ctrl-C stops it. Unspool answers at {address}
""")


def print_last_lines(parts: Supervisor, name: str) -> None:
    say(f"\nThe last lines of {name}:")
    for line in list(parts.lines[name]) or ["(no output)"]:
        say(f"  {line}")


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(sig) is not signal.SIG_IGN or sig != signal.SIGHUP:  # nohup
            signal.signal(sig, signal.default_int_handler)  # KeyboardInterrupt
    port = os.environ.get("PORT") or "8000"
    if not port.isdecimal() or not 0 < int(port) < 65536:
        sys.exit(f"PORT must be a number from 1 to 65535, not {port!r}.")
    data, lock = claim(int(port))
    drain = os.environ.get("AGENT_DRAIN") or "2.5"  # seconds, so that Ctrl-C ends everything soon
    os.environ |= {"DATA_DIR": str(data), "PORT": port, "AGENT_DRAIN": drain}
    try:
        reserved = reserve(settings.HOST, settings.PORT)
    except ImproperlyConfigured as error:
        sys.exit(str(error))
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.HOST, settings.HOST)
    say("Starting Unspool")
    with reserved:
        migrate()
        settings.MODEL_URL_FILE.unlink(missing_ok=True)  # left behind by a copy that was killed
        run(Supervisor(CHECKOUT, lock=lock), host, data)


def run(parts: Supervisor, host: str, data: Path) -> None:
    """Wait until Ctrl-C, a signal, or the end of a process or the terminal. Then stop them all."""
    has_terminal = os.isatty(0)
    try:
        start(parts)
        parts.loud = True
        welcome(host, data)
        parts.wait(is_hung_up if has_terminal else lambda: False, float("inf"))
    except ProcessExited as exited:
        print_last_lines(parts, exited.name)
        parts.loud = False
        sys.exit(f"\nThe process {exited.name} has exited, so the others are stopped too.")
    except KeyboardInterrupt:
        say("\nStopping. Unfinished replies continue at the next start.")
    finally:
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(sig, lambda *_: parts.kill())  # a second signal kills at once
        started = time.monotonic()
        parts.end()
        say(f"Stopped after {time.monotonic() - started:.1f} s. No process is left.")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        say("\nStopped before the start was complete.")
