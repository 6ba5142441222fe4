"""One transaction a request: the dependency `session` that application routes ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

from litestar.di import NamedDependency
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

# How a route asks for it: `async def create(session: RequestSession) -> …`.
RequestSession: TypeAlias = NamedDependency[AsyncSession]


def provider(engine: AsyncEngine) -> Callable[[], AsyncIterator[AsyncSession]]:
    """The dependency: a session whose transaction commits when the route returns, before its answer is sent.

    An exception in the route rolls back; one at the commit becomes the answer. So an answer of success means committed,
    and everything the route wrote or enqueued is there or nothing is.
    """

    async def provide() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine, expire_on_commit=False) as session, session.begin():
            yield session

    return provide
