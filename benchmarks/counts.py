"""Counts that a busy machine does not change, and CPU time, which it changes little: what a job took of each."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own, for two lines

from benchmarks import queries
from benchmarks.database import Connection, Database, Server, connect
from benchmarks.results import PerJob

MICROSECONDS = 1e6


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What had been done at one moment; `cpu` in seconds, by process."""

    statements: int
    transactions: int
    wal_bytes: int
    cpu: Mapping[str, float]


class Meter:
    """Reads the server's counters, on a connection to another database than the one that is measured."""

    def __init__(self, server: Server, connection: Connection) -> None:
        self._server = server
        self._connection = connection

    async def snapshot(self, database: Database, processes: Mapping[str, int]) -> Snapshot:
        """The counters now. `processes` are ids by name; Postgres, with all its backends, is added to them."""
        cursor = await self._connection.execute(queries.load("snapshot"), {"database": database.name})
        row = await cursor.fetchone()
        assert row is not None
        cpu = {name: cpu_seconds(process) for name, process in processes.items()}
        cpu["postgres"] = cpu_seconds(self._server.pid, with_children=True)
        return Snapshot(statements=row[0], transactions=row[1], wal_bytes=row[2], cpu=cpu)


@asynccontextmanager
async def meter(server: Server) -> AsyncIterator[Meter]:
    """A meter with its own connection."""
    async with await connect(server.url) as connection:
        yield Meter(server, connection)


class Measured:
    """The two snapshots round one measurement."""

    def __init__(self, before: Snapshot) -> None:
        self.before = before
        self.after = before
        self.dead: Mapping[str, int] = {}
        self.seconds = 0.0

    def per_job(self, jobs: int) -> PerJob:
        """What was done between the two, for each of so many jobs."""
        before, after = self.before, self.after
        return PerJob(
            statements=(after.statements - before.statements) / jobs,
            transactions=(after.transactions - before.transactions) / jobs,
            wal_bytes=(after.wal_bytes - before.wal_bytes) / jobs,
            dead={table: count / jobs for table, count in self.dead.items()},
            cpu={name: (after.cpu[name] - before.cpu[name]) / jobs * MICROSECONDS for name in before.cpu},
        )


@asynccontextmanager
async def measuring(reader: Meter, database: Database, processes: Mapping[str, int]) -> AsyncIterator[Measured]:
    """Count what is done inside the block, and time it."""
    measured = Measured(await reader.snapshot(database, processes))
    started = time.perf_counter()
    yield measured
    measured.seconds = time.perf_counter() - started
    measured.after = await reader.snapshot(database, processes)
    (jobs, outbox), *_ = await database.rows("dead_rows")
    measured.dead = {"jobs": jobs, "outbox": outbox}


def cpu_seconds(pid: int, *, with_children: bool = False) -> float:
    """User and system time of a process; with its children's, those that have ended too."""
    process = psutil.Process(pid)
    times = process.cpu_times()
    total: float = times.user + times.system
    if with_children:
        total += times.children_user + times.children_system
        total += sum(cpu_seconds(child.pid) for child in process.children())
    return total
