"""The settings of the web processes and workers of a test's stack."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.support.ports import HOST

KEY = "sk-acceptance-never-shown"  # the model's key: no log and no answer may hold it


def service_settings(
    data: Path, database: Path | str, redis: Iterable[int], model: int
) -> dict[str, str]:
    """The settings for a URL of a database, or for a database file copied to the folder `data`.

    `redis` and `model` are ports.
    """
    copy = f"sqlite:///{data / 'db.sqlite3'}"
    return {
        "DATA_DIR": str(data),
        "DATABASE_URL": copy if isinstance(database, Path) else database,
        "REDIS_URL": ",".join(f"redis://{HOST}:{port}/0" for port in redis),
        "OPENAI_BASE_URL": f"http://{HOST}:{model}/v1",
        "OPENAI_API_KEY": KEY,
        "LLM_MODEL": "scripted",
        "ALLOW_ANONYMOUS": "true",
        # Some replies last until the test cancels them.
        "MAX_OUTPUT_TOKENS": "1000000",
        "RUN_TIMEOUT": "36000",
    }
