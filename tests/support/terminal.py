"""`manage.py chat` as people use it: at a terminal, whose screen can be read, and in a pipe."""

from __future__ import annotations

import asyncio
import codecs
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from http.cookiejar import MozillaCookieJar
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.ports import HOST, essentials
from tests.support.procfile import CHECKOUT
from tests.support.stack import Stack
from tests.support.visitor import Visitor
from tests.support.waiting import until

ROWS, COLUMNS = 24, 80
CONTROL_C, CONTROL_D = "\x03", "\x04"
_STEP = re.compile(
    r"\x1b\[(\d*)(?:[;\d]*)([A-Za-z])|\x1b\[\?[\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+|\x1b"
)


class Screen:
    """All lines of a terminal, including those that scrolled away."""

    def __init__(self) -> None:
        self.lines = [""]
        self._row = self._column = 0

    def draw(self, text: str) -> None:
        for step in _STEP.finditer(text):
            match step[0], step[2]:
                case "\r", _:
                    self._column = 0
                case "\n", _:
                    self._row += 1
                    self.lines += [""] * (self._row + 1 - len(self.lines))
                case _, "A":
                    self._row = max(0, self._row - int(step[1] or 1))
                case _, "K":
                    self.lines[self._row] = ""
                case said, None if not said.startswith("\x1b"):
                    before = self.lines[self._row].ljust(self._column)
                    end = self._column + len(said)
                    self.lines[self._row] = before[: self._column] + said + before[end:]
                    self._column = end

    @property
    def line(self) -> str:
        """The line of the cursor."""
        return self.lines[self._row].rstrip()

    def __str__(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines)


class Chat:
    """`async with Chat(stack, data, "--follow") as chat`: one process, killed at the end.

    It runs at a terminal, or with a pipe whose input is `piped`. `data` is the folder of its
    session.
    """

    def __init__(
        self,
        stack: Stack,
        data: Path,
        *arguments: str,
        piped: str | None = None,
        port: int | None = None,
    ) -> None:
        self.port = port or stack.ports[stack.web.name]
        url = f"http://{HOST}:{self.port}/"
        self.command = [sys.executable, "manage.py", "chat", "--url", url, *arguments]
        self.environment = essentials() | {"DATA_DIR": str(data), "TERM": "xterm-256color"}
        self.piped = piped
        self.output = ""  # all that it wrote to the terminal
        self.screen = Screen()
        self._own = Path(tempfile.mkdtemp(dir=data))
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    async def __aenter__(self) -> Self:
        self._terminal, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        with (self._own / "out").open("wb") as out, (self._own / "err").open("wb") as err:
            self.process = subprocess.Popen(
                self.command,
                cwd=CHECKOUT,
                env=self.environment,
                stdin=theirs if self.piped is None else subprocess.PIPE,
                stdout=theirs if self.piped is None else out,
                stderr=theirs if self.piped is None else err,
                start_new_session=True,
                # Ctrl-C is a signal only from a terminal that controls the session.
                preexec_fn=_controlled if self.piped is None else None,
            )
        os.close(theirs)
        if self.piped is None:
            asyncio.get_running_loop().add_reader(self._terminal, self._read)
        elif self.process.stdin:
            self.process.stdin.write(self.piped.encode())
            self.process.stdin.close()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            sys.stderr.write(f"--- chat\n{self.screen}\n{self.out}\n{self.err}\n")
        asyncio.get_running_loop().remove_reader(self._terminal)
        self.process.kill()
        await asyncio.to_thread(self.process.wait)
        os.close(self._terminal)

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    async def wait_for_text(self, text: str, *, within: float = 30) -> None:
        await until(lambda: text in str(self.screen), within=within, what=f"{text!r} on the screen")

    async def wait_for_prompt(self) -> None:
        """Wait until it prompts for a message."""
        await until(lambda: self.screen.line == "›", within=30, what="a prompt")

    @property
    def out(self) -> str:
        """All that it has written into its pipe."""
        return (self._own / "out").read_text()

    @property
    def err(self) -> str:
        return (self._own / "err").read_text()

    async def ended(self, *, within: float = 60) -> int:
        """Its exit status."""
        await until(lambda: self.process.poll() is not None, within=within, what="the chat's end")
        return int(self.process.returncode)

    def _read(self) -> None:
        try:
            said = os.read(self._terminal, 65536)
        except OSError:  # EIO: the other side is closed
            said = b""
        if not said:
            asyncio.get_running_loop().remove_reader(self._terminal)
        text = self._decoder.decode(said)
        self.output += text
        self.screen.draw(text)


def _controlled() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def visitor_of(stack: Stack, data: Path) -> Visitor:
    """The visitor of a chat's session; call `close()` when done."""
    port = stack.ports[stack.web.name]
    jar = MozillaCookieJar(data / f"chat-{HOST}-{port}.cookies")
    jar.load(ignore_discard=True)
    visitor = Visitor(HOST, port)
    visitor.http.cookies = jar
    visitor.http.headers["X-CSRFToken"] = visitor.http.cookies["csrftoken"]
    return visitor
