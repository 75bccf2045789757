"""The production profile: the settings that it requires, its headers, and its logs."""

from __future__ import annotations

import json
import random
import re
import secrets
import ssl
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.faults.conftest import Judge, Size, Stacks
from tests.support.many_followers import delta, following, numbered_since, wait_for_all
from tests.support.ports import HOST, essentials
from tests.support.postgresql import UP_WITHIN
from tests.support.procfile import CHECKOUT, command_of
from tests.support.production_machine import NAME, Machine
from tests.support.visitor import Visitor, script
from tests.support.waiting import until

COMPLETE = {
    "PRODUCTION": "true",
    "SECRET_KEY": secrets.token_urlsafe(50),
    "ALLOWED_HOSTS": "chat.example.org",
    "DATABASE_URL": "postgres://unspool:password@127.0.0.1:5432/unspool",
    "REDIS_URL": "redis://127.0.0.1:6379/0",
    "OPENAI_API_KEY": "sk-example",
}
LONG = 20_000  # tokens: a reply that lasts until it is cancelled
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


def test_each_setting_that_production_needs_is_reported(tmp_path: Path) -> None:
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
def test_no_process_starts_without_the_settings_that_production_needs(
    line: str, tmp_path: Path
) -> None:
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


@pytest.mark.parametrize("url", [",", "redis:6379", "redis://a,http://b", "redis://a;redis://b"])
def test_an_invalid_redis_url_is_reported_at_once(url: str, tmp_path: Path) -> None:
    done = manage({"REDIS_URL": url}, tmp_path, "check")
    assert done.returncode != 0
    assert "REDIS_URL must be" in done.stderr


async def test_production_works_from_sign_in_to_the_last_log_line(stacks: Stacks) -> None:
    """As behind a proxy that ends HTTPS."""
    own = ("PRODUCTION", "SECRET_KEY", "ALLOWED_HOSTS")  # where the parts are, the stack knows
    settings = {name: COMPLETE[name] for name in own}
    settings |= {"ALLOW_ANONYMOUS": "false", "TRUSTED_PROXIES": HOST}
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
            anonymous = await http.get("/api/conversations/", headers=FORWARDED)
            assert anonymous.status_code == 401
        holder = Visitor(HOST, port)
        holder.use_token(made.stdout.strip())
        holder.http.headers.update(FORWARDED | {"X-Request-ID": "the-one-to-follow"})
        one = await holder.ask(script(tokens=5))
        follower = holder.follower(one.conversation, cursor=one.cursor)
        follower.headers = {**follower.headers, **FORWARDED}
        async with following([follower], within=30):
            pass
        await holder.close()
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
                if re.match(f"run {one.run} {said}", line["message"])
            ] == ["the-one-to-follow"]


@pytest.mark.long
async def test_a_machine_set_up_by_the_documents_serves_at_once(
    judge: Judge, size: Size[int], chance: random.Random
) -> None:
    """docs/deploy's steps with its files; readers whose connections are cut come through nginx.

    Meanwhile each process of the service is replaced, nginx reads its files anew, and for a
    moment no web process is there at all.
    """
    async with Machine() as machine:
        assert "no issues" in machine.manage("check", "--deploy", "--fail-level", "WARNING").stdout
        machine.manage("migrate", "--noinput", "--verbosity", "0")
        who = ("--username", "ada", "--email", "ada@example.org")
        machine.manage("createsuperuser", "--noinput", *who)
        token = machine.manage("token", "create", "ada", "--name", "reports").stdout.strip()
        webs, workers = (
            [machine.service(line, number) for number in (1, 2)] for line in ("web", "worker")
        )
        for part, ready in [(web, "listens on") for web in webs] + [(w, "ready.") for w in workers]:
            await part.wait_for_log(ready, within=UP_WITHIN)
        nginx = await machine.front()
        assert "ILL" not in machine.manage("doctor").stdout

        trusted = ssl.create_default_context(cafile=machine.certificate)
        holder = Visitor(HOST, machine.https, tls=trusted)
        holder.use_token(token)
        holder.http.headers["Host"] = NAME
        plain = await holder.http.get(f"http://{HOST}:{machine.http}/")
        assert (plain.status_code, plain.headers["Location"]) == (301, f"https://{NAME}/")
        assert (await holder.http.get("/metrics")).status_code == 404
        page = await holder.http.get("/")
        assert page.status_code == 200
        assert all("Secure" in cookie for cookie in page.headers.get_list("Set-Cookie"))

        cuts = size(10, 50)
        asked = [await holder.ask(script(tokens=LONG, rate=60, seed=n)) for n in range(4)]
        followers = [
            holder.follower(
                one.conversation,
                cursor=one.cursor if n % 2 else None,
                cuts=[chance.randrange(1, 30_000) for _ in range(cuts)],
                retry_at_most=1,
            )
            for one in asked
            for n in range(5)
        ]
        for follower in followers:
            follower.headers = {**follower.headers, "Host": NAME}
        async with following(followers, within=size(60, 300)):
            await wait_for_all(followers, delta(20), within=30)
            for part in (*workers, *webs):
                begun = time.monotonic()
                part.terminate()
                await part.ended(within=10)
                part.start()
                machine.reload(nginx)
                await wait_for_all(followers, numbered_since(begun + 0.5), within=30)
            for web in webs:
                web.kill()
            stream = await holder.http.get(asked[0].events)
            assert (stream.status_code, stream.text.count("heartbeat")) == (200, 1)
            begun = time.monotonic()
            for web in webs:
                web.start()
            await wait_for_all(followers, numbered_since(begun), within=30)
            await until(
                lambda: all(len(one.recording.connections) > cuts for one in followers),
                within=size(60, 300),
                what="each cut",
            )
            for one in asked:
                await holder.cancel(one.run)
            asked.append(await holder.ask(script(tokens=60, rate=60, seed=5)))
            followers.append(holder.follower(asked[-1].conversation, cursor=asked[-1].cursor))
            followers[-1].headers = {**followers[-1].headers, "Host": NAME}
            await followers[-1].follow()
        assert (await holder.run(asked[-1].run))["status"] == "completed"
        report = await judge(holder, asked, followers)
        await holder.close()
        assert report.clean, report
