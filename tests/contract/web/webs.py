"""A web role to send cases to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemathesis import Case

from contract.counting import count
from contract.web.fuzzing import CHECKS, DEADLINE
from contract.web.reports import Reports
from databases import Database
from outboxkit_cli.sockets import address, listening_socket
from waiting import answers, until


@dataclass(frozen=True)
class Web:
    """`way` says how it is reached, `call` is what schemathesis needs for that, `reports` are on its database."""

    way: str
    call: dict[str, Any]
    reports: Reports

    @property
    def url(self) -> str:
        """Where it is reached over TCP."""
        return str(self.call["base_url"])

    def try_out(self, case: Case) -> None:
        """Send the case and demand everything of the answer."""
        count(f"web, {self.way}: {case.operation.label}")
        case.call_and_validate(additional_checks=CHECKS, timeout=DEADLINE, **self.call)


@contextmanager
def serving(database: Database, log: Path) -> Iterator[str]:
    """Run `outboxkit web` on a free port; yields its URL once it answers, and stops it in good order."""
    environ = {**os.environ, "DATABASE_URL": database.url, "OUTBOXKIT_APP": "outboxkit_reports", "LOG_FORMAT": "json"}
    with listening_socket() as listener, log.open("wb") as output:
        descriptor, url = listener.fileno(), address(listener)
        argv = [sys.executable, "-m", "outboxkit_cli", "web", "--fd", str(descriptor)]
        process = subprocess.Popen(argv, env=environ, stdout=output, stderr=output, pass_fds=[descriptor])
    try:
        until(lambda: answers(url) or process.poll() is not None, what="the web role to answer")
        assert process.poll() is None, log.read_text()
        yield url
        process.terminate()
        assert process.wait(30) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
