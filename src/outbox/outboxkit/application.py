"""An application: the module with the handlers, and what it may bring along."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from outboxkit.handlers import Handlers
from outboxkit.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

Lifespan: TypeAlias = "Callable[[AsyncEngine], AbstractAsyncContextManager[Any]]"


@asynccontextmanager
async def _no_lifespan(engine: AsyncEngine) -> AsyncIterator[None]:  # noqa: ARG001 (every lifespan is given it)
    yield None


class Application(msgspec.Struct, frozen=True, kw_only=True):
    """What the roles need of a user's module."""

    name: str = "(none)"
    handlers: Handlers = msgspec.field(default_factory=Handlers)
    lifespan: Lifespan = _no_lifespan
    module: Any = None

    def routes(self) -> Sequence[Any]:
        """The Litestar route handlers for the web role; looked up only there, because they need Litestar."""
        return tuple(getattr(self.module, "routes", ()))


def load(name: str) -> Application:
    """The application in the module called `name` (OUTBOXKIT_APP, or --app).

    Raises SettingsError when there is no such module, when it has no `handlers`, and when its lifespan cannot be called with
    the engine; an error inside the module is its own.
    """
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise  # something the module itself imports
        raise SettingsError([f"OUTBOXKIT_APP: no module named {name!r}; is it installed, or in this folder?"]) from None
    handlers = getattr(module, "handlers", None)
    if not isinstance(handlers, Handlers):
        raise SettingsError([f"OUTBOXKIT_APP: {name} has no `handlers`; add: handlers = outboxkit.Handlers()"])
    lifespan = getattr(module, "lifespan", _no_lifespan)
    if not _takes_one(lifespan):
        wanted = "@asynccontextmanager async def lifespan(engine): …; yield what handlers see as job.app"
        raise SettingsError([f"OUTBOXKIT_APP: {name}.lifespan must take one argument, the engine: {wanted}"])
    return Application(name=name, handlers=handlers, lifespan=lifespan, module=module)


def _takes_one(lifespan: Any) -> bool:
    try:
        inspect.signature(lifespan).bind(object())
    except (TypeError, ValueError):
        return False
    return True
