"""Folders of installed packages that hold just what one extra asks for: quick, and without a network.

They are put together from the distributions of the running virtualenv, file by file, by symbolic links.
"""

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path
from zipfile import ZipFile

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def requirements(dist: Distribution, extras: frozenset[str]) -> Iterator[Requirement]:
    """Yield what a distribution asks for on this platform, with these extras."""
    for text in dist.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
            yield requirement


def needed(root: Distribution, extras: frozenset[str]) -> list[Distribution]:
    """Return every distribution that `root` needs with these extras, directly or not; without `root` itself."""
    name = canonicalize_name(root.name)
    found: dict[str, Distribution] = {name: root}
    seen: set[tuple[str, frozenset[str]]] = set()
    pending = [(name, extras)]
    while pending:
        asked = pending.pop()
        if asked in seen:
            continue
        seen.add(asked)
        for requirement in requirements(found[asked[0]], asked[1]):
            key = canonicalize_name(requirement.name)
            if key not in found:
                found[key] = distribution(requirement.name)
            pending.append((key, frozenset(requirement.extras)))
    return [dist for key, dist in found.items() if key != name]


def link(dist: Distribution, site: Path) -> None:
    """Link every file of a distribution that belongs into site-packages (its scripts do not)."""
    for file in dist.files or ():
        if ".." in file.parts:
            continue
        target = site / file
        target.parent.mkdir(parents=True, exist_ok=True)
        source = Path(str(dist.locate_file(file)))
        if source.exists() and not target.exists():
            target.symlink_to(source)


def install(wheel: Path, site: Path, *, extras: frozenset[str] = frozenset(), besides: tuple[str, ...] = ()) -> None:
    """Install a wheel into the folder `site` with what these extras ask for, and a few distributions besides."""
    with ZipFile(wheel) as archive:
        archive.extractall(site)
    root = next(Distribution.discover(name="outboxkit", path=[str(site)]))
    for dist in [*needed(root, extras), *map(distribution, besides)]:
        link(dist, site)


def python(site: Path, code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run code where nothing can be imported but the standard library and `site`."""
    start = f"import sys; sys.path.insert(0, {str(site)!r})\n"
    argv = [sys.executable, "-I", "-S", "-c", start + code, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=False, cwd=site)
