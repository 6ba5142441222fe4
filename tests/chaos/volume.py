"""A small volume of the database's own, so that it can be filled without harm to anybody else.

It is a tmpfs in a mount namespace of this program's: it needs root, and goes when the program goes, however that happens.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import psycopg

SIZE = "400m"
NAMESPACE = "CHAOS_NAMESPACE"
# What keeps Postgres within the volume on a good day.
SETTINGS: Mapping[str, str] = {"max_wal_size": "64MB", "min_wal_size": "32MB"}
UNSHARE = ["unshare", "--mount", "--propagation", "private"]
TRIES = 200


def enter_namespace() -> bool:  # noqa: RET503 (exec does not return)
    """Whether this process has mounts of its own; the first time, it becomes a new process that has.

    False where that is refused: to ordinary users, and in many containers.
    """
    if os.environ.get(NAMESPACE):
        return True
    if os.geteuid() != 0 or not _works([*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]):
        return False
    os.environ[NAMESPACE] = "1"
    os.execvp(UNSHARE[0], [*UNSHARE, sys.executable, "-m", "chaos", *sys.argv[1:]])  # noqa: S606 (no shell is wanted)


def _works(argv: list[str]) -> bool:
    try:
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


class Volume:
    """The volume, mounted on a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    @classmethod
    @contextmanager
    def mounted(cls, folder: Path) -> Iterator[Self]:
        """Mount it for as long as this lasts; what is left when the program is killed goes with its namespace."""
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0755", "tmpfs", folder], check=True)
        try:
            yield cls(folder)
        finally:
            subprocess.run(["umount", folder], check=True)

    @contextmanager
    def full(self) -> Iterator[None]:
        """Take every byte that is left, and give them back at the end."""
        chunk = b"\0" * 1_048_576
        try:
            with self._ballast.open("wb", buffering=0) as ballast:
                while ballast.write(chunk) == len(chunk):
                    pass
        except OSError:
            pass  # that was the last of it
        try:
            yield
        finally:
            self._ballast.unlink()

    async def refuses_writes(self, url: str) -> bool:
        """Write until Postgres cannot any more, and say whether that came; nothing of it stays."""
        try:
            async with await psycopg.AsyncConnection.connect(url) as connection:
                await connection.execute("create table chaos.padding (text text)")
                for _ in range(TRIES):
                    await connection.execute(
                        "insert into chaos.padding select repeat(md5(random()::text), 30) from generate_series(1, 1000)"
                    )
                await connection.rollback()
        except psycopg.Error:
            return True
        return False


async def answers(url: str, *, within: float) -> bool:
    """Whether Postgres takes a connection within so many seconds."""
    try:
        async with asyncio.timeout(within):
            while True:
                try:
                    await (await psycopg.AsyncConnection.connect(url)).close()
                except psycopg.OperationalError:
                    await asyncio.sleep(0.1)
                else:
                    return True
    except TimeoutError:
        return False
