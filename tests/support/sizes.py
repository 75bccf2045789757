"""The sizes of the tests (small, CI's, or a release's), and the seed of all random choices.

With THOROUGH=1 the generated tests have CI's size. With RELEASE=1 all tests have a release's size.
"""

from __future__ import annotations

import os
import random

RELEASE = os.environ.get("RELEASE") == "1"
THOROUGH = RELEASE or os.environ.get("THOROUGH") == "1"
# Kept in the environment, because all parallel test processes need the same one.
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(2**32))
os.environ["SEED"] = str(SEED)
EXAMPLES = 100 if THOROUGH else 20  # of each property that Hypothesis checks
