"""The data folder: whether it can be written, and where the sockets of the embedded parts are."""

import os
import re
import tempfile
from hashlib import sha256
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

# Pushpin's configuration, ZeroMQ's addresses and URLs each give other signs a meaning.
PLAIN = re.compile(r"[A-Za-z0-9/._+@~-]+")


def make_writable(folder: Path) -> Path:
    """Make the folder. Raises `ImproperlyConfigured` where it cannot be made, or not be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise unwritable(folder, error) from None
    return folder


def unwritable(folder: Path, error: OSError) -> ImproperlyConfigured:
    return ImproperlyConfigured(
        f"DATA_DIR {folder} cannot be written ({error.strerror}): make it a folder that belongs"
        " to this user, or set DATA_DIR to another one."
    )


def socket_path(folder: Path, name: str, *, longest: int = 100) -> Path:
    """Where a part's Unix socket is, or a folder of some: in the data folder, if its name allows.

    A socket's path ends at 107 bytes, which 36 Chinese characters fill. `longest` is in bytes.
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
