"""A child process that ends when we do, however we went."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable


def die_with_parent(number: signal.Signals) -> Callable[[], None]:
    """What a child runs before its program: the kernel sends it `number` when we are gone.

    For `preexec_fn`. Only Linux has it; elsewhere a child outlives whoever was killed.
    """
    parent = os.getpid()

    def ask() -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, number)  # PR_SET_PDEATHSIG
            if os.getppid() != parent:
                os._exit(1)  # it went before the kernel was told

    return ask
