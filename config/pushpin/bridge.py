"""The bridge process: `python -m config.pushpin.bridge` sends each channel's events to Pushpin.

If GRIP_URL is not set, the process sleeps.
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
    from streams.pushpin.bridge import Bridge  # it needs Django's models

    bridge = Bridge(settings.BRIDGE_BIND)
    print(f"The bridge listens on {settings.BRIDGE_BIND}", flush=True)
    asyncio.run(bridge.run())


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    # Exit at once: Pushpin uses another bridge, or waits for the successor of this one.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main()
