"""Fixtures of the local Cloud Tasks server's tests: the server, Google's client, and another emulator to compare with."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from integration.cloud_tasks.server import emulator
from integration.cloud_tasks.server.targets import Target, Worker, connected
from outboxkit_cli.cloud_tasks.retries import RetryConfig
from outboxkit_cli.cloud_tasks.server import CloudTasksServer, ServerOptions
from outboxkit_cli.cloud_tasks.validation import Strictness
from sink import Sink

# Long enough for anything that is to happen, on a busy machine.
PATIENCE = 30.0
# Long enough for what the emulator does at all: it looks ten times a second.
SHORT_PATIENCE = 3.0


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    """A worker that answers 200 until told otherwise."""
    made = Worker()
    async with Sink(made.answer) as sink:
        made.sink = sink
        yield made


@pytest.fixture
async def server() -> AsyncIterator[CloudTasksServer]:
    """The server, with retries and deadlines that are quick enough for a test."""
    options = ServerOptions(
        retries=RetryConfig(min_backoff=0.01, max_backoff=0.05), strictness=Strictness(shortest_deadline=0.05)
    )
    async with CloudTasksServer(options) as running:
        yield running


@pytest.fixture
async def tasks(server: CloudTasksServer) -> AsyncIterator[Target]:
    """Google's client, connected to the server, and its queue."""
    async with connected("ours", server.address, patience=PATIENCE) as target:
        yield target


@pytest.fixture(scope="session")
def emulator_address() -> Iterator[str]:
    """Where gcloud-tasks-emulator listens. When it cannot be installed, CI fails and others skip."""
    try:
        program = emulator.installed()
    except emulator.NotInstallableError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{error}")
        pytest.skip(f"{error}")
    with emulator.running(program) as address:
        yield address


@pytest.fixture(params=["ours", "emulator"])
async def target(request: pytest.FixtureRequest) -> AsyncIterator[Target]:
    """Our server, and the emulator; where that is known to differ the test has to fail, or the list is out of date."""
    if request.param == "ours":
        async with CloudTasksServer() as server, connected("ours", server.address, patience=PATIENCE) as made:
            yield made
        return
    address, patience = request.getfixturevalue("emulator_address"), PATIENCE
    reason = request.module.EMULATOR_DIFFERS.get(request.function.__name__)
    if reason is not None:
        request.applymarker(pytest.mark.xfail(strict=True, reason=reason))
        patience = SHORT_PATIENCE
    async with connected("emulator", address, patience=patience) as made:
        try:
            yield made
        finally:
            await made.leave_nothing()
