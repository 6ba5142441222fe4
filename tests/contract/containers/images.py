"""The worker's image, built from the wheel: on the official Python image, or on this machine's own Python.

What the kit requires is in an image of its own that is kept, so that the next run builds on it without a network.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import Distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from docker.errors import BuildError, ImageNotFound
from packaging.utils import canonicalize_name
from testcontainers.core.image import DockerImage

from container_engine import UnavailableError, ensure_image
from contract.containers import python_image
from isolated import needed

CHECKOUT = Path(__file__).parents[3]
FILES = Path(__file__).with_name("image")
REQUIREMENTS = "outboxkit-test-requirements"
EXTRAS = frozenset({"worker", "relay"})
# The wheels come from pip here, and so the image's Python must be of the same version as ours.
OFFICIAL = "python:{}.{}-slim".format(*sys.version_info)


def is_there(engine: Any, image: str) -> bool:
    """Tell whether the engine has the image."""
    try:
        engine.images.get(image)
    except ImageNotFound:
        return False
    return True


def python(engine: Any) -> str:
    """The Python image to build on: TEST_PYTHON_IMAGE, else the official one, else one of this machine's Python."""
    given = os.environ.get("TEST_PYTHON_IMAGE")
    for image in [given] if given else [OFFICIAL, python_image.name()]:
        if is_there(engine, image):
            return image
    try:
        ensure_image(engine, given or OFFICIAL)
    except UnavailableError:
        if given or sys.platform != "linux":
            raise
        image = python_image.build(engine)
        remove_others(engine, python_image.REPOSITORY, image)
        return image
    return given or OFFICIAL


def requirements(engine: Any, wheel: Path) -> str:
    """The image of Python with what worker and relay require; made anew when the one or the other has changed."""
    base = python(engine)
    made_of = repr([engine.images.get(base).id, locked(wheel), (FILES / "requirements.Dockerfile").read_text()])
    name = f"{REQUIREMENTS}:{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
    if not is_there(engine, name):
        with TemporaryDirectory() as context:
            download(locked(wheel), Path(context))
            shutil.copy(FILES / "requirements.Dockerfile", Path(context, "Dockerfile"))
            build(DockerImage(path=context, tag=name, clean_up=False, buildargs={"BASE": base}, forcerm=True))
        remove_others(engine, REQUIREMENTS, name)
    return name


def locked(wheel: Path) -> str:
    """What the wheel's worker and relay require, as requirements.txt locks it: versions and hashes."""
    root = next(Distribution.discover(name="outboxkit", path=[str(wheel)]))
    names = {canonicalize_name(dist.name) for dist in needed(root, EXTRAS)}
    blocks = re.split(r"\n(?=\w)", (CHECKOUT / "requirements.txt").read_text())
    return "\n".join(block for block in blocks if re.split("[=;[ ]", block, maxsplit=1)[0] in names)


def download(requirements: str, folder: Path) -> None:
    """Put the wheels of locked requirements into a folder, and the list of them."""
    (folder / "requirements.txt").write_text(requirements)
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
    ]
    run([*command, "-r", "requirements.txt", "-d", "."], folder)


@contextmanager
def worker(engine: Any) -> Iterator[str]:
    """Build the wheel, and an image with it; the image goes at the end, what it stands on stays."""
    with TemporaryDirectory() as context:
        run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", context], CHECKOUT)
        base = requirements(engine, next(Path(context).glob("*.whl")))
        shutil.copytree(FILES, context, dirs_exist_ok=True)
        image = DockerImage(path=context, buildargs={"BASE": base}, forcerm=True)
        build(image)
        try:
            yield str(image)
        finally:
            image.remove()


def build(image: DockerImage) -> None:
    """Build an image; when that fails, with what was printed."""
    try:
        image.build()
    except BuildError as error:
        error.add_note("".join(chunk.get("stream", "") for chunk in error.build_log))
        raise


def remove_others(engine: Any, repository: str, name: str) -> None:
    """Remove the older images of a kind that is kept, so that they do not pile up."""
    for image in engine.images.list(name=repository):
        for tag in set(image.tags) - {name}:
            engine.images.remove(tag, force=True)


def run(command: list[str], folder: Path) -> None:
    """Run a command; when it fails, with what it printed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
