"""How much the tests try: small sizes, CI's, or a release's, and the seed of all random choices.

THOROUGH=1 gives the generated tests the budget of CI, RELEASE=1 all tests the sizes of a release.
"""

from __future__ import annotations

import os
import random

RELEASE = os.environ.get("RELEASE") == "1"
THOROUGH = RELEASE or os.environ.get("THOROUGH") == "1"
# Kept in the environment, because each of several test processes at once needs the same one.
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(2**32))
os.environ["SEED"] = str(SEED)
EXAMPLES = 100 if THOROUGH else 20  # of each property that Hypothesis checks
