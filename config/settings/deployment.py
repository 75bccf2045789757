"""Settings: development or production, the data folder, and the secret key."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from django.utils.crypto import get_random_string

from config.data_dir import make_writable
from config.settings.env import Environment
from config.settings.renamed import refuse_old_names

refuse_old_names(os.environ)
env = Environment()
BASE_DIR = Path(__file__).resolve().parent.parent.parent

PRODUCTION = env.bool("PRODUCTION", False)  # requires the settings below, and users must log in
DEBUG = env.bool("DEBUG", False)  # Django's: sends tracebacks to the browser; never in production
# Files of the embedded servers.
DATA_DIR = Path(env.str("DATA_DIR", str(BASE_DIR / "data"))).resolve()
REQUIRED = {  # in production; of several names in one key one is enough
    ("SECRET_KEY",): "it signs sessions; make one of 50 random characters.",
    ("ALLOWED_HOSTS",): "the host names that the service answers to.",
    ("DATABASE_URL",): "it stores the conversations; postgres://user:password@host:port/name.",
    ("REDIS_URL",): "the log and the broker; redis://host:port/0, with an append-only file.",
    ("OPENAI_API_KEY", "OPENAI_BASE_URL"): "the embedded model is for trials only.",
}


def development_key() -> str:
    """Return the secret key in the data folder, which is created at the first start."""
    file = DATA_DIR / "secret_key"
    if not file.exists():
        # Another process may read the file as soon as it exists, so link it only when complete.
        with tempfile.NamedTemporaryFile("w", dir=DATA_DIR) as draft:  # mode 0600
            draft.write(get_random_string(50))
            draft.flush()
            with suppress(FileExistsError):  # another process was faster: its key is used
                os.link(draft.name, file)
    return file.read_text()


if PRODUCTION and (
    missing := [
        f"PRODUCTION is set, so {' or '.join(names)} must be too: {why}"
        for names, why in REQUIRED.items()
        if not any(env.str(name, "") for name in names)
    ]
):
    raise ImproperlyConfigured("\n".join(missing))
# If one of these is not set, its replacement keeps files in the data folder.
unset = [names for names in REQUIRED if not any(env.str(name, "") for name in names)]
if unset not in ([], [("ALLOWED_HOSTS",)]) or not DATA_DIR.is_dir():
    make_writable(DATA_DIR)
SECRET_KEY = env.str("SECRET_KEY", "") or development_key()
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=[".localhost", "127.0.0.1", "[::1]"])
if PRODUCTION:
    ALLOWED_HOSTS += ["127.0.0.1", "[::1]"]  # for health checks from this machine
