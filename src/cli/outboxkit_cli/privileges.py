"""How root starts a server program that refuses root, and how a child is tied to its parent's life.

Everything here is found out by trying it, because whether it works depends on the kernel, on a container's
seccomp profile and on which `setpriv` is installed.
"""

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROBE_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who a program runs as: `prefix` goes before its command line, `user` is the numeric id to change to."""

    prefix: tuple[str, ...] = ()
    user: int | None = None


def works(argv: Sequence[str], *, user: int | None = None) -> bool:
    """Tell whether the command can be run and exits with 0."""
    group = None if user is None else user
    try:
        done = subprocess.run(  # noqa: S603 (fixed programs, tried for whether they exist)
            argv,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
            capture_output=True,
            timeout=PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def dies_with_parent(signal_name: str) -> tuple[str, ...]:
    """Return the prefix that makes the kernel send a child this signal (`QUIT`) when its parent dies.

    It works however the parent dies, SIGKILL included. Empty where there is none (macOS, busybox): then a
    child outlives a killed parent until someone stops it. The signal comes when the *thread* that started
    the child ends, so start such a child from one that stays.
    """
    prefix = ("setpriv", "--pdeathsig", signal_name, "--")
    return prefix if shutil.which("setpriv") and works([*prefix, "true"]) else ()


def tied_to_parent(argv: Sequence[str], *, parent: int) -> list[str]:
    """Return a command line under which `argv` is killed (SIGKILL) when `parent`, which starts it, dies.

    A parent that died before the kernel was told is noticed by its id having changed, so there is no gap.
    """
    prefix = dies_with_parent("KILL")
    if not prefix:
        return list(argv)
    only_with_parent = 'test "$PPID" = "$0" && exec "$@"'
    return [*prefix, "sh", "-c", only_with_parent, str(parent), *argv]


def unprivileged() -> Identity:
    """Return an identity under which Postgres, which refuses root, will run.

    An ordinary user is that already. Root becomes user 1 of a user namespace of its own: its files still
    belong to root outside, and nothing on the machine is changed. Where namespaces are refused (many
    containers), root starts the program as `nobody`.
    """
    if os.geteuid() != 0:
        return Identity()
    namespace = ("unshare", "--user", "--map-user=1", "--")
    if works([*namespace, "true"]):
        return Identity(prefix=namespace)
    return Identity(user=nobody())


def nobody() -> int:
    """Return the numeric id of `nobody` (65534 where the name is missing)."""
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return 65534


def readable_copy(folders: Sequence[Path], *, identity: Identity, directory: Path) -> Path:
    """Copy folders side by side into `directory`, for `identity` to read; return where they are now."""
    copy = directory / "install"
    for folder in folders:
        shutil.copytree(folder, copy / folder.name, symlinks=True)
    if identity.user is not None:
        for path in (copy, *copy.rglob("*")):
            os.chown(path, identity.user, identity.user, follow_symlinks=False)
    return copy
