"""openapi/process-job.yaml against a worker: over ASGI, and over TCP to the server that `outboxkit worker` runs."""

from __future__ import annotations

import pytest
from schemathesis import Case

from contract.worker import fuzzing
from contract.worker.jobs import Stock
from contract.worker.reached import Reached, Renewed
from contract.worker.scene import Scene

application = Renewed()
over_asgi = fuzzing.schema(app=application)
over_tcp = fuzzing.schema()


@pytest.fixture(scope="module")
def asgi(scene: Scene, stock: Stock) -> Reached:
    """A worker's application in this process."""
    application.make = scene.application
    return Reached("ASGI", {"base_url": "http://worker"}, stock)


@over_asgi.parametrize()
def test_over_asgi(case: Case, asgi: Reached) -> None:
    """Whatever is sent, with and without credentials, the answer is one that the document has for it."""
    asgi.try_out_without_credentials(case)
    asgi.try_out(case)


@over_tcp.parametrize()
def test_over_tcp(case: Case, live: Reached) -> None:
    """And over a socket, on the protocol class that refuses what is no HTTP."""
    live.try_out_without_credentials(case)
    live.try_out(case)
