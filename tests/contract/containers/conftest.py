"""The worker's image and the containers made from it, where there is a container engine. In CI there must be one."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

import postgres_server
from container_engine import UnavailableError, connect, ensure_images


@pytest.fixture(scope="session")
def container_engine() -> Iterator[Any]:
    """The container engine, with the image of Postgres; without, tests are left out, and in CI they fail."""
    try:
        ensure_images(postgres_server.image())
        engine = connect()
    except UnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def worker_image(container_engine: Any) -> Iterator[str]:
    """The image with the kit's wheel."""
    # Imported here: without an engine nothing of docker is needed.
    from contract.containers import images

    with images.worker(container_engine) as image:
        yield image
