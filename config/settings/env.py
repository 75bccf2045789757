"""Reads settings from the environment; a value of the wrong type ends the process with its name.

By default django-environ reads `ture` as false, `1e3` as 13, `10m` as 10, and `$NAME` as another
variable. Here an empty value counts as not set, because a Compose file sets empty values.
"""

import math
import os
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

TRUE = ("true", "yes", "y", "on", "ok", "1")
FALSE = ("false", "no", "n", "off", "0")


def boolean(text: str) -> bool:
    """Read a boolean. Raises `ValueError`."""
    word = text.strip().lower()
    if word not in TRUE + FALSE:
        raise ValueError
    return word in TRUE


def finite(text: str) -> float:
    """Read a finite number. Raises `ValueError`."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


def pairs(text: str) -> dict[str, str]:
    """Read `name=value,name=value`. Raises `ValueError`, also for a name that is given twice."""
    found: dict[str, str] = {}
    for pair in filter(None, map(str.strip, text.split(","))):
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not (name and equals and value) or name in found:
            raise ValueError
        found[name] = value
    return found


KINDS: dict[Any, tuple[Any, str]] = {  # by type: its reader, and its name in the error message
    str: (str, "text"),
    list: (list, "texts with commas between"),
    bool: (boolean, "true or false"),
    int: (int, "a whole number"),
    float: (finite, "a number"),
    (int,): ((int,), "whole numbers with commas between"),
    dict: (pairs, "name=value pairs with commas between"),
}


class Environment(environ.Env):  # type: ignore[misc]  # it comes without types
    """django-environ's methods `str`, `int`, `bool` …, which all call `get_value`."""

    def get_value(
        self, var: str, cast: Any = None, default: Any = None, parse_default: bool = False
    ) -> Any:
        """Return the value or the default. Raises `ImproperlyConfigured` for a wrong type."""
        text = os.environ.get(var)
        if not text:
            return default
        read, kind = KINDS[cast]
        try:
            return self.parse_value(text, read)
        except ValueError:
            raise ImproperlyConfigured(f"{var} must be {kind}, not {text!r}.") from None

    def choice(self, name: str, default: str, *others: str) -> str:
        """Return one of these words. Raises `ImproperlyConfigured` for another."""
        word = str(self.str(name, default)).strip()
        if word not in (default, *others):
            raise ImproperlyConfigured(f"{name} must be {_either(default, *others)}, not {word!r}.")
        return word


def _either(*words: str) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
