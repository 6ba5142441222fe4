"""The wheel holds everything it needs, and each extra alone brings what its role needs."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from databases import Database
from isolated import install, python
from outboxkit.migrations import sql

CHECKOUT = Path(__file__).parents[2]
SOURCES = CHECKOUT / "src"

# What a process of each extra's kind imports first.
ROLES = {
    "cli": "import outboxkit_cli.commands, outboxkit_cli.migrate, outboxkit_cli.enqueue",
    "web": "import outboxkit_web.app, outboxkit_cli.start, outboxkit_cli.serve",
    "worker": "import outboxkit_worker.app, outboxkit_cli.start, outboxkit_cli.serve",
    "relay": "import outboxkit_relay.relay, outboxkit_cli.start",
    "cloud-tasks": "import outboxkit_relay.relay, google.cloud.tasks_v2, google.auth",
    "reports": "import outboxkit_reports; outboxkit_reports.routes; import outboxkit_reports.rendering",
    "contracts": "import outboxkit_contracts.testing as t, schemathesis; assert len(t.select()) > 40",
    "dev": "import outboxkit_cli.dev, outboxkit_cli.embedded as embedded; embedded.installation()",
}
# What each may do without: a dependency that creeps in shows here.
ABSENT = {
    "cli": ["litestar", "aiohttp", "uvicorn", "google"],
    "web": ["aiohttp", "google", "jinja2"],
    "worker": ["aiohttp", "google"],  # Swagger UI's package brings jinja2
    "relay": ["litestar", "uvicorn", "google"],
    "cloud-tasks": ["litestar", "uvicorn"],
    "reports": ["aiohttp", "google"],
    "contracts": ["litestar", "aiohttp", "uvicorn", "google"],
    "dev": ["google", "testcontainers", "pytest"],
}

ENQUEUE = """
import uuid
from sqlalchemy import create_engine
from outboxkit import Handlers, Job, NewJob, Retry, Fail, enqueue, enqueue_many

with create_engine(sys.argv[1]).begin() as connection:
    one = enqueue(connection, "GREET", {"name": "Ada"})
    print(one)
"""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built once, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))


@pytest.fixture
def site(wheel: Path, tmp_path: Path) -> Path:
    """The wheel installed with nothing but the base's requirements."""
    folder = tmp_path / "site"
    install(wheel, folder)
    return folder


@pytest.mark.parametrize("extra", ROLES)
def test_an_extra_alone_brings_its_role(extra: str, wheel: Path, tmp_path: Path) -> None:
    """With one extra installed, its role can be imported; what it does not need is not there."""
    install(wheel, tmp_path, extras=frozenset({extra}))
    done = python(tmp_path, ROLES[extra])
    assert done.returncode == 0, done.stderr
    for package in ABSENT[extra]:
        assert "ModuleNotFoundError" in python(tmp_path, f"import {package}").stderr, package


def test_a_producer_needs_only_its_own_driver(wheel: Path, tmp_path: Path, database: Database) -> None:
    """The base alone, with a driver of the producer's choice, enqueues: no click, no litestar, no psycopg."""
    install(wheel, tmp_path, besides=("psycopg2-binary",))
    url = database.url.replace("postgresql://", "postgresql+psycopg2://")
    done = python(tmp_path, ENQUEUE, url)
    assert done.returncode == 0, done.stderr
    for package in ("click", "litestar", "psycopg", "aiohttp", "uvicorn"):
        assert "ModuleNotFoundError" in python(tmp_path, f"import {package}").stderr, package
    with database.sync() as connection:
        assert connection.execute("select id::text from outboxkit.jobs").fetchall() == [(done.stdout.strip(),)]


def test_the_command_without_its_extra_says_what_to_install(site: Path) -> None:
    """The console script of a bare installation gives one line in place of a traceback."""
    done = python(site, "from outboxkit_cli.main import main; main()")
    assert done.returncode == 1
    assert done.stderr == "outboxkit: the command line needs click: install the extra outboxkit[cli]\n"


@pytest.mark.parametrize(("role", "extra"), [("web", "web"), ("worker", "worker"), ("relay", "relay"), ("dev", "dev")])
def test_a_role_without_its_extra_says_what_to_install(role: str, extra: str, wheel: Path, tmp_path: Path) -> None:
    """With the command line alone, each role names the extra that it misses, on one line."""
    install(wheel, tmp_path, extras=frozenset({"cli"}))
    arguments = ("--app", "json") if role == "dev" else ()
    done = python(tmp_path, "from outboxkit_cli.main import main; main()", role, *arguments)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"outboxkit[{extra}]" in done.stderr


def test_the_wheel_finds_its_migrations(site: Path) -> None:
    """Installed from the wheel, the kit has its own copy of the migrations, which say the same as the checkout's."""
    branches = ("outboxkit", "reports")
    code = f"from outboxkit.migrations import scripts, sql; print(scripts()); print(sql(branches={branches}), end='')"
    done = python(site, code)
    assert done.returncode == 0, done.stderr
    where, _, statements = done.stdout.partition("\n")
    assert Path(where).is_relative_to(site)
    assert statements == sql(branches=branches)


def test_the_wheel_finds_the_protocol(site: Path) -> None:
    """Installed from the wheel, the contracts package has its own copy of the protocol's document."""
    code = "from outboxkit_contracts import document; print(document.find()); print(document.text(), end='')"
    done = python(site, code)
    assert done.returncode == 0, done.stderr
    where, _, text = done.stdout.partition("\n")
    assert Path(where).is_relative_to(site)
    assert text == (CHECKOUT / "openapi" / "process-job.yaml").read_text()


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    """Whatever lies in a package's folder is in the wheel (SQL, templates, py.typed), and nothing else is."""
    packages = [folder.parent for folder in SOURCES.glob("*/outboxkit*/py.typed")]
    assert len(packages) == 7
    wanted = {
        str(file.relative_to(package.parent))
        for package in packages
        for file in package.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    with ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    copies = {name for name in found if name.startswith("outboxkit/_migrations/")}
    assert found - copies - {"outboxkit_contracts/process-job.yaml"} == wanted
