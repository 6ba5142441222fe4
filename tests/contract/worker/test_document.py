"""The document as a worker serves it, and the page that shows it without a network."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import httpx
import pytest

from contract.worker import heads
from contract.worker.scene import Scene
from outboxkit_contracts import document
from outboxkit_worker import documentation
from workers import Worker

LINK = re.compile(r'(?:src|href)="([^"]+)"')
START = """
import sys
from outboxkit.application import Application
from outboxkit_worker.app import create_app
from outboxkit_worker.settings import WorkerSettings

create_app(settings=WorkerSettings(), application=Application())
assert "swagger_ui_bundle" not in sys.modules
"""


@pytest.fixture
def client(worker: Worker) -> httpx.Client:
    """A client without credentials: none are needed."""
    return worker.client


def test_the_document_is_the_file(client: httpx.Client) -> None:
    """Byte for byte, as YAML (RFC 9512)."""
    response = client.get("/openapi.yaml")
    assert response.status_code == 200
    assert response.headers["content-type"].partition(";")[0] == "application/yaml"
    assert response.content == document.find().read_bytes()


def test_the_page_needs_nothing_from_elsewhere(client: httpx.Client) -> None:
    """Everything it names is served beside it, and its policy lets it ask for nothing else."""
    page = client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    links = LINK.findall(page.text)
    assert len(links) == 4
    for link in links:
        assert link.startswith("/docs/")
        assert client.get(link).status_code == 200
    assert "<script>" not in page.text
    assert '"/openapi.yaml"' in client.get("/docs/start.js").text
    assert "http" not in client.get("/docs/start.js").text


@pytest.mark.parametrize("name", heads.NO_FILES)
def test_no_other_file_is_served(client: httpx.Client, name: str) -> None:
    """The page's own files, by name, and nothing beside them."""
    assert client.get(f"/docs/{name}").status_code == 404


def test_without_the_package_there_is_no_page(
    client: httpx.Client, scene: Scene, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """404 says what to install; the document and the worker do not need it."""

    def missing(_: str) -> ModuleSpec | None:
        return None

    monkeypatch.setattr(documentation, "find_spec", missing)
    for path in ("/docs", "/docs/swagger-ui.css"):
        problem = client.get(path).json()
        assert (problem["status"], problem["type"]) == (404, "urn:outboxkit:problem:not-found")
        assert "outboxkit[worker]" in problem["detail"]
    assert client.get("/openapi.yaml").status_code == 200
    scene.runs_a_job(worker)


def test_a_worker_that_shows_nothing_reads_nothing(tmp_path: Path) -> None:
    """Neither the page nor the document costs a worker anything until somebody asks."""
    subprocess.run([sys.executable, "-c", START], check=True, cwd=tmp_path, timeout=60)
