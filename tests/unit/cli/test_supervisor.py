"""The supervisor starts programs, gathers what they say, and stops every one of them."""

import asyncio
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator

import psutil
import pytest

from outboxkit_cli import supervisor as module
from outboxkit_cli.supervisor import Child, ChildDied, Program, Supervisor
from waiting import ended, until_async

Lines = list[tuple[str, str]]

UNTIL_TERMINATED = """
    import signal, sys
    signal.signal(signal.SIGTERM, lambda *_: (print("stopping", flush=True), sys.exit(0)))
    print("ready", flush=True)
    signal.pause()
"""
DEAF = """
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("ready", flush=True)
    signal.pause()
"""


def program(name: str, code: str) -> Program:
    """A Python program of a few lines."""
    return Program(name=name, argv=[sys.executable, "-c", textwrap.dedent(code)], environment=os.environ)


@pytest.fixture
def lines() -> Lines:
    """What the supervisor's programs wrote, in order."""
    return []


@pytest.fixture
async def supervisor(lines: Lines) -> AsyncIterator[Supervisor]:
    """A supervisor that notes what its programs write."""
    async with Supervisor(write=lambda name, line: lines.append((name, line)), hurry=asyncio.Event()) as running:
        yield running


async def wrote(lines: Lines, line: tuple[str, str]) -> None:
    """Wait until a program has written the line."""
    await until_async(lambda: line in lines, what=f"the line {line}")


async def test_output_is_gathered_by_name(supervisor: Supervisor, lines: Lines) -> None:
    """Each line of stdout and stderr arrives with the name of who wrote it."""
    await supervisor.start(
        program(
            "one",
            "import sys; print('out', flush=True); print('err', file=sys.stderr, flush=True); import signal; signal.pause()",
        )
    )
    await wrote(lines, ("one", "out"))
    await wrote(lines, ("one", "err"))


async def test_leaving_stops_everyone_in_peace(lines: Lines) -> None:
    """A program that handles SIGTERM ends by itself, and what it says last is still gathered."""
    async with Supervisor(write=lambda name, line: lines.append((name, line)), hurry=asyncio.Event()) as supervisor:
        children = [await supervisor.start(program(name, UNTIL_TERMINATED)) for name in ("one", "other")]
        for child in children:
            await wrote(lines, (child.name, "ready"))
    assert [child.process.returncode for child in children] == [0, 0]
    assert {("one", "stopping"), ("other", "stopping")} <= set(lines)


async def test_a_deaf_program_is_killed(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that ignores SIGTERM is killed once the wait for it is over."""
    monkeypatch.setattr(module, "STOP_SECONDS", 0.05)
    assert (await stopped(lines, hurry=asyncio.Event())).process.returncode == -signal.SIGKILL


async def test_someone_in_a_hurry_need_not_wait(lines: Lines) -> None:
    """With `hurry` set, a program that ignores SIGTERM is killed without a wait."""
    hurry = asyncio.Event()
    hurry.set()
    async with asyncio.timeout(module.STOP_SECONDS / 2):
        assert (await stopped(lines, hurry=hurry)).process.returncode == -signal.SIGKILL


async def stopped(lines: Lines, *, hurry: asyncio.Event) -> Child:
    """Start a program that ignores SIGTERM, leave, and return what became of it."""
    async with Supervisor(write=lambda name, line: lines.append((name, line)), hurry=hurry) as supervisor:
        child = await supervisor.start(program("deaf", DEAF))
        await wrote(lines, ("deaf", "ready"))
    return child


async def test_a_death_is_reported_with_the_last_words(supervisor: Supervisor) -> None:
    """When a program ends by itself, the error has its name, its status and what it wrote last."""
    await supervisor.start(program("steady", UNTIL_TERMINATED))
    await supervisor.start(program("doomed", "import sys; print('no database'); sys.exit(3)"))
    with pytest.raises(ChildDied, match=r"(?s)doomed ended \(status 3\).*no database"):
        await supervisor.alongside(asyncio.Event().wait())


async def test_a_kill_is_reported_by_its_signal(supervisor: Supervisor, lines: Lines) -> None:
    """A program killed from outside is said to be killed, and by which signal."""
    child = await supervisor.start(program("victim", UNTIL_TERMINATED))
    await wrote(lines, ("victim", "ready"))
    child.process.kill()
    with pytest.raises(ChildDied, match="killed by SIGKILL"):
        await supervisor.died()


async def test_work_is_done_alongside(supervisor: Supervisor) -> None:
    """While every program lives, `alongside` returns what the work returns, and raises what it raises."""
    await supervisor.start(program("steady", UNTIL_TERMINATED))

    async def work() -> int:
        return 7

    async def trouble() -> None:
        raise LookupError

    assert await supervisor.alongside(work()) == 7
    with pytest.raises(LookupError):
        await supervisor.alongside(trouble())


async def test_a_line_without_end_does_not_fill_the_memory(supervisor: Supervisor, lines: Lines) -> None:
    """A very long line arrives in pieces of bounded length, and the tail keeps a bounded number of lines."""
    child = await supervisor.start(
        program("long", "import signal; print('x' * 1_000_000); print('end', flush=True); signal.pause()")
    )
    await wrote(lines, ("long", "end"))
    assert max(len(line) for _, line in lines) <= 2 * module.CHUNK_BYTES
    assert "".join(line for _, line in lines[:-1]) == "x" * 1_000_000
    assert len(child.tail) <= module.TAIL_LINES


async def test_a_child_ends_with_a_killed_supervisor() -> None:
    """After a SIGKILL of the supervisor's process, the kernel kills its programs."""
    code = """
        import asyncio, os, sys
        from outboxkit_cli.supervisor import Program, Supervisor

        async def main():
            async with Supervisor(write=lambda *_: None, hurry=asyncio.Event()) as supervisor:
                # It writes nothing: it would end by itself when its pipe breaks.
                argv = [sys.executable, "-c", "import signal; signal.pause()"]
                child = await supervisor.start(Program(name="c", argv=argv, environment=os.environ))
                print(child.process.pid, flush=True)
                await asyncio.Event().wait()

        asyncio.run(main())
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(code), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    child = psutil.Process(int(await process.stdout.readline()))
    process.kill()
    await process.wait()
    await until_async(lambda: ended(child), what="the program to end")
