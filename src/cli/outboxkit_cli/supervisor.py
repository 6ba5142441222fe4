"""Runs several programs as one: their output is gathered, and they start and stop together."""

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

from outboxkit_cli.failures import CommandFailed
from outboxkit_cli.privileges import tied_to_parent

TAIL_LINES = 40
CHUNK_BYTES = 65_536
# A little more than a role's own grace, so that it can give its work back before it is killed.
STOP_SECONDS = 12.0

T = TypeVar("T")
Write = Callable[[str, str], None]


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to run: `name` labels its output; `descriptors` are the open files (sockets) it inherits."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    descriptors: Sequence[int] = ()


@dataclass
class Child:
    """A running program, and the last lines it wrote."""

    name: str
    process: asyncio.subprocess.Process
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))

    @property
    def ended(self) -> bool:
        """Whether it has ended and been reaped."""
        return self.process.returncode is not None


class ChildDied(CommandFailed):
    """A program ended though nobody asked it to; the message has its status and its last lines."""

    def __init__(self, child: Child) -> None:
        status = child.process.returncode
        reason = f"killed by {signal.Signals(-status).name}" if status and status < 0 else f"status {status}"
        lines = "\n".join(f"  {line}" for line in child.tail) or "  (it wrote nothing)"
        super().__init__(f"{child.name} ended ({reason}). Its last lines:\n{lines}")


class Supervisor:
    """Starts programs and stops all of them when it is left, however that happens.

    Each runs in a session of its own, so that Ctrl-C reaches the supervisor alone, and is killed by the
    kernel (Linux) when the supervisor dies: nothing outlives it. Use it from the main thread, to which the
    kernel ties the children. Once `hurry` is set, stopping waits no longer, and kills.
    """

    def __init__(self, *, write: Write, hurry: asyncio.Event) -> None:
        self._write = write
        self._hurry = hurry
        self._children: list[Child] = []
        self._readers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Return the supervisor; nothing runs yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop every program: SIGTERM to all, and SIGKILL to those still there 12 s later."""
        await self.stop()

    async def start(self, program: Program) -> Child:
        """Start a program; its output is gathered from now on."""
        process = await asyncio.create_subprocess_exec(
            *tied_to_parent(program.argv, parent=os.getpid()),
            env=dict(program.environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            pass_fds=tuple(program.descriptors),
            start_new_session=True,
        )
        child = Child(program.name, process)
        self._children.append(child)
        self._readers.append(asyncio.create_task(self._gather(child)))
        return child

    async def alongside(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns; if a program ends before it does, cancel it and raise ChildDied."""
        task: asyncio.Task[T] = asyncio.create_task(work)
        death: asyncio.Task[NoReturn] = asyncio.create_task(self.died())
        both: set[asyncio.Task[Any]] = {task, death}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            return await (death if death.done() else task)
        finally:
            for either in both:
                either.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    async def died(self) -> NoReturn:
        """Wait until a program ends, and raise ChildDied for it once its output is read."""
        waits = [asyncio.create_task(child.process.wait()) for child in self._children]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        dead = next(index for index, child in enumerate(self._children) if child.ended)
        # A grandchild may hold the pipe open: a second is enough for what is in it.
        await asyncio.wait([self._readers[dead]], timeout=1.0)
        raise ChildDied(self._children[dead])

    def tails(self) -> str:
        """Return the last lines of every program, for a report of what went wrong."""
        return "\n".join(f"  {child.name:7}{line}" for child in self._children for line in child.tail)

    async def stop(self) -> None:
        """Stop every program and wait for its end. Does nothing when none runs; their last lines are kept."""
        for child in self._children:
            send(child, signal.SIGTERM)
        everyone = asyncio.ensure_future(asyncio.gather(*(child.process.wait() for child in self._children)))
        hurried = asyncio.create_task(self._hurry.wait())
        either: set[asyncio.Future[Any]] = {everyone, hurried}
        await asyncio.wait(either, timeout=STOP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        for child in self._children:
            send(child, signal.SIGKILL)
        await everyone
        for reader in self._readers:
            await asyncio.wait([reader], timeout=1.0)
            reader.cancel()

    async def _gather(self, child: Child) -> None:
        output = child.process.stdout
        assert output is not None  # noqa: S101 (we asked for a pipe)
        rest = b""
        while chunk := await output.read(CHUNK_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > CHUNK_BYTES:  # a line without end must not fill our memory
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._take(child, line)
        if rest:
            self._take(child, rest)

    def _take(self, child: Child, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        child.tail.append(text)
        self._write(child.name, text)


def send(child: Child, number: signal.Signals) -> None:
    """Send a signal to a program and whatever it started, unless it has ended."""
    if not child.ended:
        with contextlib.suppress(ProcessLookupError):  # it ended just now
            os.killpg(child.process.pid, number)
