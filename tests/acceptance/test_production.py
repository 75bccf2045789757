"""The production profile: what it demands, what it tells browsers, and what it writes down."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.acceptance.conftest import Stacks
from tests.acceptance.crowd import following
from tests.acceptance.place import HOST, essentials
from tests.acceptance.stack import CHECKOUT, command_of
from tests.acceptance.visitor import Visitor, script

COMPLETE = {
    "PRODUCTION": "true",
    "SECRET_KEY": secrets.token_urlsafe(50),
    "ALLOWED_HOSTS": "chat.example.org",
    "DATABASE_URL": "postgres://unspool:password@127.0.0.1:5432/unspool",
    "REDIS_URL": "redis://127.0.0.1:6379/0",
    "OPENAI_API_KEY": "sk-example",
}
FORWARDED = {"Host": "chat.example.org", "X-Forwarded-Proto": "https"}


def manage(settings: dict[str, str], data: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What a command says, and its exit code."""
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "manage.py", *words],
        env={**essentials(), "DATA_DIR": str(data), **settings},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_djangos_own_check_of_a_deployment_finds_nothing(tmp_path: Path) -> None:
    done = manage(COMPLETE, tmp_path, "check", "--deploy", "--fail-level", "WARNING")
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout


def test_what_production_cannot_do_without_is_said_in_a_sentence_each(tmp_path: Path) -> None:
    done = manage({"PRODUCTION": "true"}, tmp_path, "check")
    assert done.returncode != 0
    assert re.findall(r"PRODUCTION is set, so (.*) must be too: .+\.$", done.stderr, re.M) == [
        "SECRET_KEY",
        "ALLOWED_HOSTS",
        "DATABASE_URL",
        "REDIS_URL",
        "OPENAI_API_KEY or OPENAI_BASE_URL",
    ]


@pytest.mark.parametrize("line", ["web", "worker"])
def test_no_process_begins_without_what_production_demands(line: str, tmp_path: Path) -> None:
    lacking = {name: value for name, value in COMPLETE.items() if name != "REDIS_URL"}
    ended = subprocess.run(
        command_of(line),
        env={**essentials(), "DATA_DIR": str(tmp_path), **lacking},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode != 0
    assert "PRODUCTION is set, so REDIS_URL must be too" in ended.stderr


def test_a_signing_key_that_can_be_guessed_is_refused(tmp_path: Path) -> None:
    done = manage({**COMPLETE, "STREAM_SIGNING_KEY": "short"}, tmp_path, "check")
    assert "STREAM_SIGNING_KEY can be guessed" in done.stderr


async def test_production_from_a_users_log_in_to_the_last_line_of_the_log(stacks: Stacks) -> None:
    """As behind a proxy that speaks HTTPS with the browser."""
    own = ("PRODUCTION", "SECRET_KEY", "ALLOWED_HOSTS")  # where the parts are, the stack knows
    settings = {name: COMPLETE[name] for name in own} | {"ALLOW_ANONYMOUS": "false"}
    async with stacks(also=settings) as stack:
        environment = dict(stack.web.environment)
        make = "from django.contrib.auth.models import User; User.objects.create_user('ada')"
        assert manage(environment, stack.data, "shell", "-c", make).returncode == 0
        made = manage(environment, stack.data, "token", "create", "ada", "--name", "test")
        port = stack.ports[stack.web.name]
        at = f"http://{HOST}:{port}"
        async with httpx.AsyncClient(base_url=at, trust_env=False) as http:
            plain = await http.get("/", headers={"Host": "chat.example.org"})
            assert plain.status_code == 301
            assert plain.headers["Location"] == "https://chat.example.org/"
            for path in ("/health/live", "/health/ready", "/metrics"):
                assert (await http.get(path)).status_code == 200
            page = await http.get("/", headers=FORWARDED)
            assert page.status_code == 200
            assert "max-age=31536000" in page.headers["Strict-Transport-Security"]
            assert all("Secure" in cookie for cookie in page.headers.get_list("Set-Cookie"))
            nobody = await http.get("/api/conversations/", headers=FORWARDED)
            assert nobody.status_code == 401
        holder = Visitor(HOST, port)
        holder.show(made.stdout.strip())
        holder.http.headers.update(FORWARDED | {"X-Request-ID": "the-one-to-follow"})
        one = await holder.ask(script(tokens=5))
        follower = holder.follower(one.conversation, cursor=one.cursor)
        follower.headers = {**follower.headers, **FORWARDED}
        async with following([follower], within=30):
            pass
        await holder.leave()
        lines = {
            part.name: [
                json.loads(line) for line in part.log.read_text().splitlines() if line[:1] == "{"
            ]
            for part in (stack.web, stack.worker)
        }
        for name, said in ((stack.web.name, "queued"), (stack.worker.name, "claimed")):
            assert [
                line["request"]
                for line in lines[name]
                if re.match(f"run {one.run} {said}", line["said"])
            ] == ["the-one-to-follow"]
