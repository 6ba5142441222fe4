"""The proxy in front of an echoing server, and nothing in the log."""

import logging
from collections.abc import AsyncIterator, Iterator

import pytest

from chaos.proxy import Proxy
from unit.chaos.peers import (
    SEED,
    EchoServer,
)


@pytest.fixture(autouse=True)
def _nothing_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test may leave a complaint of the event loop's: a task's lost exception, a callback's."""
    yield
    assert [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR] == []


@pytest.fixture
async def echo() -> AsyncIterator[EchoServer]:
    """The upstream of most tests."""
    async with EchoServer() as server:
        yield server


@pytest.fixture
async def proxy(echo: EchoServer) -> AsyncIterator[Proxy]:
    """The proxy in front of it."""
    async with Proxy(echo.address, name="echo", seed=SEED) as made:
        yield made
