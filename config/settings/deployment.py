"""What kind of copy this is: development or production, where its data is, and its secret."""

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

PRODUCTION = env.bool("PRODUCTION", False)  # demands what is below, shuts visitors out
DEBUG = env.bool("DEBUG", False)  # Django's own: tracebacks to the browser, never in production
DATA_DIR = Path(env.str("DATA_DIR", str(BASE_DIR / "data"))).resolve()  # what embedded parts keep
DEMANDED = {  # in production; one of those that stand together is enough
    ("SECRET_KEY",): "it signs sessions; make one of 50 random characters.",
    ("ALLOWED_HOSTS",): "the names it answers to.",
    ("DATABASE_URL",): "what holds the conversations; postgres://user:password@host:port/name.",
    ("REDIS_URL",): "the log and the broker; redis://host:port/0, with an append-only file.",
    ("OPENAI_API_KEY", "OPENAI_BASE_URL"): "the embedded model is for trying things out.",
}


def development_key() -> str:
    """A secret of this copy's own, made once and kept in its data folder."""
    kept = DATA_DIR / "secret_key"
    if not kept.exists():
        # Another process may read it as soon as it is there: so it comes to its place whole.
        with tempfile.NamedTemporaryFile("w", dir=DATA_DIR) as draft:  # mode 0600
            draft.write(get_random_string(50))
            draft.flush()
            with suppress(FileExistsError):  # another process was quicker: then it is that one
                os.link(draft.name, kept)
    return kept.read_text()


if PRODUCTION and (
    missing := [
        f"PRODUCTION is set, so {' or '.join(names)} must be too: {why}"
        for names, why in DEMANDED.items()
        if not any(env.str(name, "") for name in names)
    ]
):
    raise ImproperlyConfigured("\n".join(missing))
# What is not set is made or kept here: a key, the embedded Valkey, the embedded model, SQLite.
kept_here = [names for names in DEMANDED if not any(env.str(name, "") for name in names)]
if kept_here not in ([], [("ALLOWED_HOSTS",)]) or not DATA_DIR.is_dir():
    make_writable(DATA_DIR)
SECRET_KEY = env.str("SECRET_KEY", "") or development_key()
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=[".localhost", "127.0.0.1", "[::1]"])
if PRODUCTION:
    ALLOWED_HOSTS += ["127.0.0.1", "[::1]"]  # at which the machine itself asks how it is
