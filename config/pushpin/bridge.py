"""The bridge to Pushpin: `python -m config.pushpin.bridge` brings it what its readers want to hear.

Where GRIP_URL is not set, it waits.
"""

import asyncio
import os
import signal

import django
from django.conf import settings

from config.dev.idle import idle


def main() -> None:
    if not settings.GRIP_URL:
        idle("The bridge", "GRIP_URL is not set")
    django.setup()
    from streams.pushpin.bridge import Bridge  # its models exist once Django is set up

    bridge = Bridge(settings.BRIDGE_BIND)
    print(f"The bridge listens on {settings.BRIDGE_BIND}", flush=True)
    asyncio.run(bridge.run())


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    # At once: its Pushpins have another, or wait for its successor.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main()
