"""An image made of this machine's own Python, for an engine that cannot pull the official one. Linux alone.

It holds the interpreter, its standard library, pip, and the shared libraries that they and our requirements link to; no
shell. Everything lies where it lies on the machine, so that no Python has to bear being moved, Debian's own included.
"""

import hashlib
import io
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pip

from isolated import needed

REPOSITORY = "outboxkit-test-python"
STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))
# What no service needs, what the machine's own packages are, and Debian's refusal to let pip install anything.
LEFT_OUT = re.compile(
    r"test|idlelib|tkinter|turtledemo|lib2to3|ensurepip|(site|dist)-packages|config-.*|EXTERNALLY-MANAGED"
)
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def name() -> str:
    """The image's name: another one for another Python, and for another way of making it."""
    made_of = repr([sys.version, sys.base_prefix, Path(__file__).read_text()])
    return f"{REPOSITORY}:{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"


def build(engine: Any) -> str:
    """Make the image; returns its name."""
    _, tag = name().split(":")
    path = f"ENV PATH={sys.base_prefix}/bin:/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8"
    engine.api.import_image_from_data(root(), repository=REPOSITORY, tag=tag, changes=[path, 'CMD ["python3"]'])
    return name()


def root() -> bytes:
    """The image's files, as a tar archive."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        files = dict(contents())
        folders = {Path("/tmp"), *(parent for file in files for parent in file.parents)} - {Path("/")}  # noqa: S108
        for folder in sorted(folders):
            archive.addfile(directory(folder))
        for file, source in files.items():
            archive.add(source, arcname=str(file), filter=of_root)
    return data.getvalue()


def contents() -> Iterator[tuple[Path, Path]]:
    """Yield what is in the image, and where it comes from; folders are meant with everything in them."""
    interpreter = Path(sys.executable).resolve()
    yield Path(sys.base_prefix, "bin", "python3"), interpreter
    modules = [child for child in STANDARD_LIBRARY.iterdir() if not LEFT_OUT.fullmatch(child.name)]
    yield from zip(modules, modules, strict=True)
    # Beside the standard library, because every build of Python looks there.
    yield STANDARD_LIBRARY / "pip", Path(pip.__file__).parent
    compiled = [file for file in (STANDARD_LIBRARY / "lib-dynload").glob("*.so") if "tkinter" not in file.name]
    for library in libraries([interpreter, *compiled, *extension_modules()]):
        yield library, library.resolve()
    if CERTIFICATES.exists():
        yield CERTIFICATES, CERTIFICATES.resolve()


def extension_modules() -> list[Path]:
    """The compiled modules of our requirements: some need the C++ library, which Python itself does not."""
    dists = needed(distribution("outboxkit"), frozenset({"worker", "relay"}))
    files = [Path(str(dist.locate_file(file))) for dist in dists for file in dist.files or () if file.suffix == ".so"]
    return [file for file in files if file.exists()]


def libraries(binaries: list[Path]) -> set[Path]:
    """The machine's shared libraries that these files link to, and the loader."""
    done = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=False)
    found = {Path(path) for path in re.findall(r"(/\S+) \(0x", done.stdout)}
    assert found, f"ldd found no shared library: {done.stderr}"
    return {path for path in found if "site-packages" not in path.parts}  # those come with their wheels


def directory(path: Path) -> tarfile.TarInfo:
    """A folder that everybody may read; /tmp is everybody's."""
    entry = tarfile.TarInfo(str(path))
    entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if path == Path("/tmp") else 0o755  # noqa: S108
    return entry


def of_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """What root owns and everybody may read."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mode |= 0o555 if entry.mode & 0o100 else 0o444
    return entry
