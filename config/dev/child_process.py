"""A child process that the kernel stops when its parent ends, even if the parent was killed."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable


def die_with_parent(number: signal.Signals) -> Callable[[], None]:
    """Return a `preexec_fn` that makes the kernel send the child this signal at its parent's end.

    Only Linux can do this. Elsewhere a child outlives a parent that was killed.
    """
    parent = os.getpid()

    def ask() -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, number)  # PR_SET_PDEATHSIG
            if os.getppid() != parent:
                os._exit(1)  # the parent had ended before the call above

    return ask
