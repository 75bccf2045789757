"""A data folder of any name, and one that cannot be written."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
from django.core.exceptions import ImproperlyConfigured
from kombu import Connection
from redis import ConnectionPool

from config.data_dir import socket_path
from tests.support.ports import essentials
from tests.unit.conftest import Read

CHECKOUT = Path(__file__).resolve().parents[2]
LONGEST = 107  # bytes of a Unix socket's path
NAMES = [
    "a#b",
    "50%25",
    "q?x=1",
    "a,b;c",
    "100%",
    'it\'s "so" $HOME',
    "c++ 1",
    "漢" * 60,
    "d" * 200,
]


@pytest.mark.parametrize("name", NAMES)
def test_every_process_uses_the_same_socket_path(name: str, read: Read, tmp_path: Path) -> None:
    folder = tmp_path / name
    told = read(DATA_DIR=str(folder))
    assert told["DATABASES"]["default"]["NAME"] == str(folder / "db.sqlite3")
    socket = str(told["VALKEY_SOCKET"])
    assert ConnectionPool.from_url(told["REDIS_URL"]).connection_kwargs["path"] == socket
    hostname = Connection(told["CELERY_BROKER_URL"]).hostname
    assert hostname is not None
    assert unquote(hostname.removeprefix("socket://")) == socket
    sockets = [
        socket,
        told["BRIDGE_BIND"].removeprefix("ipc://"),
        f"{told['PUSHPIN_RUN']}/{'s' * 35}",
    ]
    for path in sockets:
        assert len(os.fsencode(path)) <= LONGEST
        assert not set(path) & set("#%?,; ")  # which mean something to ZeroMQ or Pushpin
    assert told["BRIDGE_URLS"] == [told["BRIDGE_BIND"]]


def test_two_data_folders_have_different_sockets(tmp_path: Path) -> None:
    paths = [socket_path(tmp_path / name, "valkey.sock") for name in ("a#b", "a#c", "ab")]
    assert len(set(paths)) == 3


def test_a_missing_folder_for_sockets_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("t" * 120)))
    with pytest.raises(ImproperlyConfigured, match="set one of them to a short path"):
        socket_path(tmp_path / "a#b", "valkey.sock")


def test_a_folder_that_cannot_be_created_is_reported(read: Read, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ImproperlyConfigured, match=r"cannot be written .*Not a dir"):
        read(DATA_DIR=str(tmp_path / "file" / "data"))
    with pytest.raises(ImproperlyConfigured, match=r"cannot be written .*too long"):
        read(DATA_DIR=str(tmp_path / ("漢" * 100)))


@pytest.mark.parametrize("command", [["-m", "config.dev.run"], ["manage.py", "check"]])
def test_a_folder_that_cannot_be_written_is_reported(command: list[str]) -> None:
    folder = "/proc"  # where not even root can make a file
    done = subprocess.run(
        [sys.executable, *command],
        env={**essentials(), "DATA_DIR": folder},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert f"DATA_DIR {folder} cannot be written (" in last
    if "config.dev.run" in command:
        assert done.stderr.strip() == last


def test_a_read_only_folder_is_enough_when_nothing_is_stored_in_it(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> Path:
        raise AssertionError(f"{folder} need not be written")

    monkeypatch.setattr("config.data_dir.make_writable", refuse)
    elsewhere = {
        "SECRET_KEY": "s" * 50,
        "DATABASE_URL": "postgres://unspool@127.0.0.1/unspool",
        "REDIS_URL": "redis://127.0.0.1/0",
        "OPENAI_BASE_URL": "http://127.0.0.1/v1",
    }
    assert read(**elsewhere)["DATA_DIR"] == tmp_path
