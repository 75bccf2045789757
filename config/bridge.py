"""The bridge to Pushpin: `python -m config.bridge` brings it what its readers want to hear.

Where GRIP_URL is not set, it waits.
"""

import asyncio
import os
import signal

import django
from django.conf import settings

from config.idle import idle


def main() -> None:
    if not settings.GRIP_URL:
        idle("The bridge", "GRIP_URL is not set")
    django.setup()
    from streams.bridge import Bridge  # its models exist once Django is set up

    bridge = Bridge(settings.BRIDGE)
    print(f"The bridge listens on {settings.BRIDGE}", flush=True)
    asyncio.run(bridge.run())


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    # At once: its Pushpins have another, or wait for its successor.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main()
