"""What dev and demo print: lines that say who wrote them, in colour where there is a terminal."""

import sys
from collections.abc import Mapping

import click

COLOURS: Mapping[str, str] = {"web": "cyan", "relay": "yellow", "worker": "green", "tasks": "magenta"}


def is_terminal() -> bool:
    """Tell whether a person is likely to be reading stdout."""
    return sys.stdout.isatty()


def write_line(name: str, line: str) -> None:
    """Print a line of a program's output after its name. click drops the colour when this is no terminal."""
    label = click.style(f"{name:7}", fg=COLOURS.get(name), bold=True)
    click.echo(f"{label}{line}")


def discard(_name: str, _line: str) -> None:
    """Print nothing; the supervisor keeps the last lines for when something goes wrong."""
