"""Settings from the environment: each is of its kind, or ends the process with its name.

django-environ by itself takes `ture` for false, reads `1e3` as 13 and `10m` as 10, and what begins
with `$` as another variable's name. One that is set and empty, as by a Compose file, is not set.
"""

import math
import os
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

TRUE = ("true", "yes", "y", "on", "ok", "1")
FALSE = ("false", "no", "n", "off", "0")


def truth(text: str) -> bool:
    word = text.strip().lower()
    if word not in TRUE + FALSE:
        raise ValueError
    return word in TRUE


def finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


KINDS: dict[Any, tuple[Any, str]] = {  # how a value is read, and what one is told to be that is not
    str: (str, "text"),
    list: (list, "texts with commas between"),
    bool: (truth, "true or false"),
    int: (int, "a whole number"),
    float: (finite, "a number"),
    (int,): ((int,), "whole numbers with commas between"),
}


class Environment(environ.Env):  # type: ignore[misc]  # it comes without types
    """django-environ's calls, whose values all come through here."""

    def get_value(
        self, var: str, cast: Any = None, default: Any = None, parse_default: bool = False
    ) -> Any:
        text = os.environ.get(var)
        if not text:
            return default
        read, kind = KINDS[cast]
        try:
            return self.parse_value(text, read)
        except ValueError:
            raise ImproperlyConfigured(f"{var} must be {kind}, not {text!r}.") from None

    def choice(self, name: str, default: str, *others: str) -> str:
        """One of these words."""
        word = str(self.str(name, default)).strip()
        if word not in (default, *others):
            raise ImproperlyConfigured(f"{name} must be {_either(default, *others)}, not {word!r}.")
        return word


def _either(*words: str) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
