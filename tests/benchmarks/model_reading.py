"""Reads replies as a worker does (`workers.generators.base`), drops them, and measures the cost.

    python -m tests.benchmarks.model_reading <replies> <tokens a second> <seconds>

Prints a line once it is ready, and at the end the processor µs per token.
"""

import asyncio
import gc
import os
import sys
import time
from contextlib import aclosing

import django
import uvloop

from tests.support.visitor import script

WARM = 3.0  # seconds from the start until the counting begins


async def listen(message: str, heard: list[int]) -> None:
    from workers.generators.base import generate
    from workers.prompt.messages import PromptMessage

    async with aclosing(generate([PromptMessage("user", message)], model="scripted")) as said:
        async for _ in said:
            heard[0] += 1


async def main(replies: int, rate: float, seconds: float) -> None:
    heard = [0]
    await listen(script(tokens=3), heard)
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    await asyncio.sleep(0.5)
    wishes = {"tokens": int((seconds + WARM) * rate), "rate": rate}
    tasks = [asyncio.create_task(listen(script(**wishes, seed=n), heard)) for n in range(replies)]
    await asyncio.sleep(WARM)
    begun, before = time.process_time(), heard[0]
    await asyncio.sleep(seconds - 1)
    print(1e6 * (time.process_time() - begun) / max(1, heard[0] - before))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    uvloop.run(main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
