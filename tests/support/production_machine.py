"""A fresh machine as docs/deploy describes it, with the system's PostgreSQL, Redis and nginx.

Each is an ordinary process with its own folder. It uses the configuration that the documents ship,
with other ports, folders and certificate.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.model_process import MODEL
from tests.support.ports import HOST, essentials, free_port, listens
from tests.support.postgresql import UP_WITHIN, PostgreSQL
from tests.support.process import Process
from tests.support.procfile import CHECKOUT
from tests.support.stack_settings import KEY
from tests.support.waiting import until

DEPLOY = CHECKOUT / "docs" / "deploy"
NAME = "chat.example.org"  # the host name in the shipped files
PLACES = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")  # nginx's folders for large bodies


class Machine:
    """`async with Machine() as machine`: everything but the service itself has been started."""

    def __init__(self) -> None:
        # Not below a folder that only root may enter, because PostgreSQL refuses to run as root.
        self.directory = Path(tempfile.mkdtemp(prefix="machine"))
        self.directory.chmod(0o755)
        self.port, self.http, self.https = free_port(), free_port(), free_port()
        self._redis_port, self._model_port = free_port(), free_port()
        self.database = PostgreSQL(self.directory)
        self.settings = self._settings()
        self.parts: list[Process] = []

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            sys.stderr.write(self.log_tails())
            await self._end()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            sys.stderr.write(self.log_tails())
        await self._end()

    def log_tails(self) -> str:
        return "\n".join(part.tail() for part in self.parts)

    def service(self, line: str, number: int) -> Process:
        """One instance of `unspool-<line>@.service`, started as systemd would."""
        unit = (DEPLOY / f"unspool-{line}@.service").read_text()
        command = re.search("^ExecStart=(.*)$", unit, re.MULTILINE)
        assert command
        said = command[1].replace("%%", "%").replace("%i", str(number))
        words = shlex.split(said.replace("/srv/unspool/.venv/bin/python", sys.executable))
        own = {"METRICS_PORT": str(free_port()), "PORT": str(self.port)}
        return self._begin(f"{line}{number}", words, also={**self.settings, **own})

    async def front(self) -> Process:
        """Start nginx with its package's configuration and the shipped one."""
        place = self.directory / "nginx"
        (place / "conf.d").mkdir(parents=True)
        self._certificate(place)
        shipped = (DEPLOY / "nginx.conf").read_text()
        for said, meant in (
            ("127.0.0.1:8000", f"{HOST}:{self.port}"),
            ("listen 80;", f"listen {HOST}:{self.http};"),
            ("listen 443 ", f"listen {HOST}:{self.https} "),
            ("/etc/ssl/unspool", str(place)),
            ("/var/log/nginx", str(place)),
        ):
            assert said in shipped
            shipped = shipped.replace(said, meant)
        shipped = re.sub(r"\n *listen \[::\]:.*", "", shipped)
        (place / "conf.d" / "unspool.conf").write_text(shipped)
        large = "".join(f"{name}_temp_path {place}/{name};\n" for name in PLACES)
        (place / "conf.d" / "places.conf").write_text(large)
        packaged = Path("/etc/nginx/nginx.conf").read_text()
        packaged = re.sub(
            "^user .*;", f"user {pwd.getpwuid(os.getuid()).pw_name};", packaged, flags=re.MULTILINE
        )
        packaged = packaged.replace("/run/nginx.pid", f"{place}/pid")
        packaged = packaged.replace("/var/log/nginx", str(place))
        packaged = packaged.replace("/etc/nginx/conf.d", f"{place}/conf.d")
        packaged = packaged.replace("include /etc/nginx/sites-enabled/*;", "")
        (place / "nginx.conf").write_text(packaged)
        begin = ["nginx", "-c", str(place / "nginx.conf"), "-e", str(place / "error.log")]
        self._do([*begin, "-t"])
        nginx = self._begin("nginx", [*begin, "-g", "daemon off;"])
        await until(lambda: listens(self.https), within=UP_WITHIN, what="nginx")
        return nginx

    def reload(self, nginx: Process) -> None:
        """Let nginx read its files again, as `systemctl reload` does."""
        self._do([*nginx.command[:5], "-s", "reload"])

    def manage(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command with the settings of the service. The command must succeed."""
        return self._do([sys.executable, "manage.py", *words], also=self.settings)

    def _settings(self) -> dict[str, str]:
        """The shipped environment file, filled in."""
        lines = (DEPLOY / "unspool.env").read_text().splitlines()
        given = dict(line.split("=", 1) for line in lines if line and line[0] != "#")
        filled = {
            "SECRET_KEY": secrets.token_urlsafe(50),
            "DATABASE_URL": given["DATABASE_URL"].replace(":5432", f":{self.database.port}"),
            "REDIS_URL": given["REDIS_URL"].replace(":6379", f":{self._redis_port}"),
            "OPENAI_API_KEY": KEY,
            "DATA_DIR": str(self.directory / "data"),
        }
        assert given.keys() >= filled.keys()
        url = f"http://{HOST}:{self._model_port}/v1"
        model = {"OPENAI_BASE_URL": url, "LLM_MODEL": "test"}
        return {**given, **filled, **model}

    async def _start(self) -> None:
        ready = str(self.directory / "ready")
        self._begin("model", [*MODEL, "--port", str(self._model_port), "--ready-file", ready])
        self._redis()
        await self._postgresql()
        for port, what in ((self._redis_port, "Redis"), (self._model_port, "the model")):
            await until(partial(listens, port), within=UP_WITHIN, what=what)

    def _redis(self) -> None:
        """Start Redis with the configuration in docs/operations.md."""
        page = (CHECKOUT / "docs" / "operations.md").read_text()
        asked = re.search(r"```\n(appendonly yes\n.*?)```", page, re.DOTALL)
        assert asked
        place = self.directory / "redis"
        place.mkdir()
        file = place / "redis.conf"
        file.write_text(f"bind {HOST}\nport {self._redis_port}\ndir {place}\n{asked[1]}")
        self._begin("redis", ["redis-server", str(file)])

    async def _postgresql(self) -> None:
        """Start PostgreSQL, and create the user and the database with the shipped steps."""
        self.parts.append(self.database)
        self.database.start()
        await self.database.answers()
        steps = (DEPLOY / "README.md").read_text()
        making = re.search("^runuser -u postgres -- (psql .*)$", steps, re.MULTILINE)
        assert making
        there = ["-h", str(self.database.sockets), "-p", str(self.database.port), "-U", "postgres"]
        self._do([*shlex.split(making[1]), *there])

    def _certificate(self, place: Path) -> None:
        self._do(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
                *("-keyout", str(place / "key.pem"), "-out", str(self.certificate)),
                *("-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME},IP:{HOST}"),
            ]
        )

    @property
    def certificate(self) -> Path:
        """The certificate that a browser must trust."""
        return self.directory / "nginx" / "fullchain.pem"

    def _do(
        self, words: Sequence[str], *, also: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            words,
            env={**essentials(), **(also or {})},
            cwd=CHECKOUT if also else self.directory,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done

    def _begin(
        self, name: str, words: Sequence[str], *, also: dict[str, str] | None = None
    ) -> Process:
        part = Process(
            name,
            words,
            environment={**essentials(), **(also or {})},
            directory=CHECKOUT,
            log=self.directory / f"{name}.log",
        )
        self.parts.append(part)
        part.start()
        return part

    async def _end(self) -> None:
        for part in reversed(self.parts):
            if part is self.database:  # its children are in other process groups
                part.terminate()
                await part.ended(within=20)
            part.kill()
        shutil.rmtree(self.directory)
