"""The web role, over ASGI and as a process, on one database with reports in every state: each module its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
from schemathesis.python import asgi as transport

from contract.web.reports import Reports, reports
from contract.web.webs import Web, serving
from databases import Database, Server
from outboxkit.application import load
from outboxkit.settings import Secret
from outboxkit_web.app import create_app
from outboxkit_web.settings import WebSettings


@pytest.fixture(scope="module")
def web_database(postgres_server: Server, migrated_template: Database) -> Iterator[Database]:
    """A migrated database."""
    with postgres_server.temporary(template=migrated_template.name) as database:
        yield database


@pytest.fixture(scope="module")
def web_reports(web_database: Database) -> Iterator[Reports]:
    """Reports on it, one in every state to begin with."""
    with reports(web_database) as made:
        yield made


@pytest.fixture(scope="module")
def asgi(web_database: Database, web_reports: Reports) -> Iterator[Web]:
    """The web role in this process."""
    settings = WebSettings(database_url=Secret(web_database.url))
    app = create_app(settings=settings, application=load("outboxkit_reports"))
    with transport.get_client(app) as client:
        yield Web("ASGI", {"app": app, "session": client}, web_reports)
    transport.shutdown_lifespans()


@pytest.fixture(scope="module")
def live(web_database: Database, web_reports: Reports, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """The web role as `outboxkit web` runs it, reached over TCP; its log must hold no traceback at the end."""
    log = tmp_path_factory.mktemp("web") / "log"
    with serving(web_database, log) as url, requests.Session() as session:
        yield Web("live", {"base_url": url, "session": session}, web_reports)
    assert "Traceback" not in log.read_text()
