"""The bridge to Pushpin: `python -m config.bridge` brings it what its readers want to hear.

Where GRIP_URL is not set, it waits.
"""

import asyncio
import os
import signal

import django
from django.conf import settings


def main() -> None:
    if not settings.GRIP_URL:
        print("The bridge is not needed: GRIP_URL is not set.", flush=True)
        while True:
            signal.pause()
    django.setup()
    asyncio.run(serve())


async def serve() -> None:
    from streams.bridge import Bridge  # its models exist once Django is set up

    bridge = Bridge(settings.BRIDGE)
    print(f"The bridge listens on {settings.BRIDGE}", flush=True)
    await bridge.run()


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    # At once: its Pushpins have another, or wait for its successor.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main()
