"""Loading an application by the name of its module."""

from pathlib import Path

import pytest

from outboxkit.application import Application, load
from outboxkit.settings import SettingsError

FULL = """
from contextlib import asynccontextmanager
from outboxkit import Handlers
handlers = Handlers()
routes = ["a route"]

@asynccontextmanager
async def lifespan(engine):
    yield "the app"
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> "Module":
    """Writes modules that can be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    return Module(tmp_path, request.node.name)


class Module:
    """A module made for one test."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        # Imported modules stay: each test has a name of its own.
        self.name = "application_" + "".join(c if c.isalnum() else "_" for c in name)

    def write(self, text: str) -> str:
        """Write the module; returns its name."""
        (self._folder / f"{self.name}.py").write_text(text)
        return self.name


async def test_whole(module: Module) -> None:
    """Handlers, routes and lifespan are the module's."""
    application = load(module.write(FULL))
    assert (application.name, len(application.handlers), application.routes()) == (module.name, 0, ("a route",))
    async with application.lifespan(None) as value:  # type: ignore[arg-type]  # this one asks for nothing
        assert value == "the app"


async def test_handlers_alone(module: Module) -> None:
    """Handlers are enough: no routes, and nothing for job.app."""
    application = load(module.write("from outboxkit import Handlers\nhandlers = Handlers()\n"))
    assert application.routes() == ()
    async with application.lifespan(None) as value:  # type: ignore[arg-type]  # this one asks for nothing
        assert value is None
    assert Application().routes() == ()


@pytest.mark.parametrize("name", ["no_such_module", "no_such.module", "outboxkit.no_such"])
def test_no_module(name: str) -> None:
    """A module that is not there is a problem with the variable."""
    with pytest.raises(SettingsError, match="OUTBOXKIT_APP: no module named"):
        load(name)


@pytest.mark.parametrize("text", ["", "handlers = []", "from outboxkit import Handlers\nhandlers = Handlers"])
def test_no_handlers(module: Module, text: str) -> None:
    """So is one without a registry called `handlers`."""
    with pytest.raises(SettingsError, match=r"has no `handlers`; add: handlers = outboxkit\.Handlers"):
        load(module.write(text))


@pytest.mark.parametrize(
    ("text", "error"), [("import no_such_dependency", ModuleNotFoundError), ("1 / 0", ZeroDivisionError)]
)
def test_errors_of_its_own(module: Module, text: str, error: type[Exception]) -> None:
    """An error inside the module is shown as it is."""
    with pytest.raises(error):
        load(module.write(text))
