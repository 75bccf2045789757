"""The data folder: a check that it is writable, and the paths of the Unix sockets in it."""

import fcntl
import os
import re
import tempfile
import time
from hashlib import sha256
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

# Other characters have a meaning in Pushpin's configuration, ZeroMQ addresses or URLs.
PLAIN = re.compile(r"[A-Za-z0-9/._+@~-]+")


def make_writable(folder: Path) -> Path:
    """Create the folder and return it. Raises `ImproperlyConfigured` if it is not writable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise unwritable(folder, error) from None
    return folder


def unwritable(folder: Path, error: OSError) -> ImproperlyConfigured:
    """Return the exception that says what to do about a folder that is not writable."""
    return ImproperlyConfigured(
        f"DATA_DIR {folder} cannot be written ({error.strerror}): make it a folder that belongs"
        " to this user, or set DATA_DIR to another one."
    )


def lock_file(file: Path, *, tries: int = 1) -> int | None:
    """Lock the file until this process ends. Tries again every 0.1 s. None if it stays locked."""
    lock = os.open(file, os.O_CREAT | os.O_RDWR, 0o600)
    for _ in range(tries):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.1)
        else:
            return lock
    os.close(lock)
    return None


def socket_path(folder: Path, name: str, *, longest: int = 100) -> Path:
    """Return the path of a Unix socket, or of a folder of sockets.

    It is in the data folder if that path is plain and has at most `longest` bytes; otherwise it is
    in the folder for temporary files. Linux allows 107 bytes; 36 Chinese characters take more.
    Raises `ImproperlyConfigured` if neither folder allows it.
    """
    if _fits(folder / name, longest):
        return folder / name
    digest = sha256(os.fsencode(folder)).hexdigest()[:16]
    instead = Path(tempfile.gettempdir()) / f"unspool-{digest}-{name}"
    if not _fits(instead, longest):
        raise ImproperlyConfigured(
            f"Neither DATA_DIR {folder} nor TMPDIR {tempfile.gettempdir()} can hold a Unix socket:"
            " set one of them to a short path of plain letters, such as TMPDIR=/tmp."
        )
    return instead


def _fits(socket: Path, longest: int) -> bool:
    return bool(PLAIN.fullmatch(str(socket))) and len(os.fsencode(socket)) <= longest
