"""The OpenAPI document of the worker protocol, wherever this package is installed."""

from pathlib import Path
from typing import Final

NAME: Final = "process-job.yaml"


def find(package: Path | None = None) -> Path:
    """The document's file: beside this package in a wheel, in `openapi/` at the top of a checkout.

    Raises FileNotFoundError, which names both places, when it stands in neither. `package` is the folder that
    holds this module.
    """
    folder = package or Path(__file__).resolve().parent
    places = (folder / NAME, folder.joinpath("..", "..", "..", "openapi", NAME).resolve())
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(
        f"{NAME} is neither at {places[0]} (a wheel) nor at {places[1]} (a checkout): "
        "install outboxkit from a built wheel, or in editable mode from a whole checkout."
    )


def text(package: Path | None = None) -> str:
    """The document as it was written, in YAML."""
    return find(package).read_text(encoding="utf-8")
