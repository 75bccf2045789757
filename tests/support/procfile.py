"""The commands of the Procfile, as the tests start them."""

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def procfile() -> dict[str, str]:
    """The Procfile's lines by name."""
    lines = (CHECKOUT / "Procfile").read_text().splitlines()
    pairs = (line.split(":", 1) for line in lines if line.strip() and not line.startswith("#"))
    return {name.strip(): command.strip() for name, command in pairs}


def command_of(line: str) -> list[str]:
    """A shell command for a line of the Procfile. It uses `exec`, so signals reach the program."""
    command = procfile()[line]
    return ["/bin/sh", "-c", command if command.startswith("exec ") else f"exec {command}"]
