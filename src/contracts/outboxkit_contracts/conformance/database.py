"""Jobs made in, and looked at in, a database that outboxkit was migrated in."""

from __future__ import annotations

import json
import secrets
from types import TracebackType
from typing import Any, Final, Self
from uuid import UUID, uuid4

import msgspec
import psycopg
from psycopg.rows import namedtuple_row

from outboxkit_contracts.conformance.jobs import CannotMake, JobRow, MakingFailed, Need

OPTIONS: Final = {Need.QUICK: "--kind", Need.SLOW: "--slow-kind", Need.FAILING: "--failing-kind", Need.FUTURE: "--kind"}


class Kind(msgspec.Struct, frozen=True):
    """A kind of job that the worker has a handler for, with a payload for it (JSON)."""

    name: str
    payload: str = "{}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `KIND` or `KIND={"json": 1}`. Raises ValueError when what follows the `=` is not JSON."""
        name, _, payload = text.partition("=")
        json.loads(payload or "{}")
        return cls(name, payload or "{}")


class DatabaseJobs:
    """Enqueues through `outboxkit.enqueue_job`, and looks at what became of the jobs.

    One autocommit connection, opened at once: raises psycopg.OperationalError when the database is away. Point it at a
    database that nothing but the worker under test takes jobs from (JOB_TRIGGER_MODE=none), for a relay or another
    worker would be faster than the checks now and then.
    """

    def __init__(self, url: str, *, quick: Kind, slow: Kind | None = None, failing: Kind | None = None) -> None:
        self._kinds = {Need.QUICK: quick, Need.SLOW: slow, Need.FAILING: failing, Need.FUTURE: quick}
        self._connection = psycopg.connect(url, autocommit=True, application_name="outboxkit conformance")

    def __enter__(self) -> Self:
        """The jobs; the connection is closed at the end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection. Jobs that were made stay."""
        self._connection.close()

    def make(self, need: Need) -> UUID:
        """Enqueue a job of this sort."""
        kind = Kind(f"CONFORMANCE_{secrets.token_hex(8)}") if need is Need.UNKNOWN_KIND else self._kinds[need]
        if kind is None:
            raise CannotMake(f"needs a {need} job: give {OPTIONS[need]}")
        job: UUID = self._one(
            "select outboxkit.enqueue_job(kind => %s, payload => %s::jsonb,"
            " run_at => clock_timestamp() + make_interval(hours => %s)) as id",
            [kind.name, kind.payload, 1 if need is Need.FUTURE else 0],
        ).id
        return job

    def row(self, job: UUID) -> JobRow:
        """How the job stands now."""
        found = self._one(
            "select state, attempt, leased_by::text, (select count(*)::int from outboxkit.outbox where job_id = jobs.id)"
            " as triggers from outboxkit.jobs where id = %s",
            [job],
        )
        return JobRow(found.state, found.attempt, found.leased_by, found.triggers)

    def take_over(self, job: UUID) -> str:
        """Take a running job away from its worker, as another worker does after the lease; returns the new holder."""
        holder = str(uuid4())
        if self.row(job).state != "running":
            raise MakingFailed("the job was to be taken away from its worker while it runs, and it is not running")
        self._one(
            "update outboxkit.jobs set attempt = attempt + 1, leased_by = %s::uuid,"
            " lease_until = clock_timestamp() + interval '1 minute' where id = %s and state = 'running' returning id",
            [holder, job],
        )
        return holder

    def cancel(self, job: UUID) -> None:
        """End a job that was taken over, so that nothing is left behind."""
        self._connection.execute(
            "update outboxkit.jobs set state = 'cancelled', lease_until = null, leased_by = null,"
            " finished_at = clock_timestamp() where id = %s and state = 'running'",
            [job],
        )

    def _one(self, statement: str, values: list[Any]) -> Any:
        try:
            with self._connection.cursor(row_factory=namedtuple_row) as cursor:
                row = cursor.execute(statement.encode(), values).fetchone()
        except psycopg.Error as error:
            raise MakingFailed(f"the database: {first_line(error)}") from error
        if row is None:
            raise MakingFailed(f"nothing was found by: {statement}")
        return row


def first_line(error: psycopg.Error) -> str:
    """What an error says, without the lines that quote the statement or go on about it."""
    return str(error).partition("\n")[0]
