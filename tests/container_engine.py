"""The container engine, for tests: whether one answers, and whether it has an image or can pull it.

docker and testcontainers are imported only where something points to an engine: they cost 0.2 s.
"""

import os
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SOCKET = Path("/var/run/docker.sock")
# Seconds an engine may take for an answer; when it pulls, for a sign of progress.
PATIENCE = 10


class UnavailableError(Exception):
    """There is no engine that answers, or it has no such image and cannot pull it; the message says which, and why."""


def ensure_images(*images: str) -> None:
    """Have the engine pull those of the images that it has not got (and the one testcontainers itself needs).

    Raises UnavailableError.
    """
    engine = connect()
    from testcontainers.core.config import testcontainers_config

    prefix = testcontainers_config.hub_image_name_prefix
    cleaner = [] if testcontainers_config.ryuk_disabled else [testcontainers_config.ryuk_image]
    try:
        for image in [*images, *cleaner]:
            ensure_image(engine, prefix + image)
    finally:
        engine.close()


def connect() -> Any:
    """Return a client of the engine; raises UnavailableError when none answers."""
    if not might_answer():
        raise UnavailableError(f"no container engine answers at {where()}")
    from docker.errors import DockerException
    from testcontainers.core.docker_client import DockerClient

    try:
        return DockerClient(timeout=PATIENCE).client
    except (DockerException, OSError) as error:
        raise UnavailableError(f"no container engine answers at {where()}: {error}") from error


def might_answer() -> bool:
    """Tell whether anything points to an engine; without, to ask it is no use."""
    if host := os.environ.get("DOCKER_HOST"):
        return not host.startswith("unix:") or is_listening(Path(urlsplit(host).path))
    return is_listening(SOCKET) or has_context() or Path("~/.testcontainers.properties").expanduser().exists()


def is_listening(path: Path) -> bool:
    """Tell whether a Unix socket is there and accepts connections."""
    if not path.exists():
        return False
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def has_context() -> bool:
    """Tell whether the user has chosen a Docker context, which may name a socket of its own."""
    config = Path(os.environ.get("DOCKER_CONFIG") or "~/.docker").expanduser() / "config.json"
    return config.exists() and '"currentContext"' in config.read_text()


def where() -> str:
    """Where the engine is looked for."""
    host = os.environ.get("DOCKER_HOST")
    return f"DOCKER_HOST={host}" if host else str(SOCKET)


def ensure_image(engine: Any, image: str) -> None:
    """Pull the image unless it is there; raises UnavailableError when that does not work."""
    from docker.errors import DockerException, ImageNotFound

    try:
        engine.images.get(image)
    except ImageNotFound:
        sys.stderr.write(f"Pulling the image {image} ...\n")
        try:
            engine.images.pull(image)
        except (DockerException, OSError) as error:
            reason = getattr(error, "explanation", None) or error
            raise UnavailableError(f"the container engine has no image {image} and cannot pull it: {reason}") from error
