"""Jobs and workers for the conformance suite."""

from collections.abc import Iterator

import pytest

from databases import Database
from outboxkit_contracts.conformance.database import DatabaseJobs, Kind

QUICK = Kind("ECHO", '{"a": 1}')
# A second is long enough for what these tests ask a slow job, and they ask it often.
SLOW = Kind("SLEEP", '{"seconds": 1}')
FAILING = Kind("FAIL")


@pytest.fixture
def jobs(database: Database) -> Iterator[DatabaseJobs]:
    """Jobs of every sort, in the test's own database."""
    with DatabaseJobs(database.url, quick=QUICK, slow=SLOW, failing=FAILING) as source:
        yield source
