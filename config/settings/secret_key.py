"""The secret key of a development copy, which is kept in the data folder."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from django.utils.crypto import get_random_string


def development_key(data_dir: Path) -> str:
    """Return the secret key in the data folder, which is created at the first start."""
    file = data_dir / "secret_key"
    if not file.exists():
        # Another process may read the file as soon as it exists, so link it only when complete.
        with tempfile.NamedTemporaryFile("w", dir=data_dir) as draft:  # mode 0600
            draft.write(get_random_string(50))
            draft.flush()
            with suppress(FileExistsError):  # another process was faster: its key is used
                os.link(draft.name, file)
    return file.read_text()
