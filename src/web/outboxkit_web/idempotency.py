"""Idempotency-Key: the same request sent twice has one effect and gets one answer.

After https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/. The key and the answer are written in the
request's own transaction, so there is no moment in which the effect is there and the key is not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from outboxkit.http import ProblemError
from outboxkit.tables import idempotency_keys as keys
from outboxkit_contracts.problems import Flaw, Problem, ProblemType

LONGEST_KEY = 255


class Answer(msgspec.Struct, frozen=True):
    """An answer that can be given again: its status, headers and JSON body."""

    status: int
    body: Any
    headers: Mapping[str, str] = {}


async def once(
    session: AsyncSession, *, scope: str, key: str | None, request: bytes, answer: Callable[[], Awaitable[Answer]]
) -> Answer:
    """What `answer()` returns, called once for each key; later requests with the same key and bytes get it again.

    `scope` keeps the keys of different routes apart; `request` is what makes two requests the same. Without a key
    `answer()` is simply called. Of two requests at once the second waits for the first one's transaction; if that rolls
    back, the second takes its place. Raises the problem `idempotency-mismatch` when the key was used for other bytes.
    """
    if key is None:
        return await answer()
    _check(key)
    digest = hashlib.sha256(request).digest()
    claimed = await session.execute(
        insert(keys)
        .values(scope=scope, key=key, digest=digest, status=0)
        .on_conflict_do_nothing()
        .returning(keys.c.key)
    )
    if claimed.first() is None:
        return await _again(session, scope, key, digest)
    given = await answer()
    await session.execute(
        update(keys)
        .where(keys.c.scope == scope, keys.c.key == key)
        .values(status=given.status, headers=dict(given.headers), body=given.body)
    )
    return given


async def _again(session: AsyncSession, scope: str, key: str, digest: bytes) -> Answer:
    # A statement of its own: the insert's snapshot may be older than the row that stopped it.
    row = (await session.execute(select(keys).where(keys.c.scope == scope, keys.c.key == key))).one()
    if row.digest != digest:
        raise ProblemError(
            Problem.of(
                ProblemType.IDEMPOTENCY_MISMATCH,
                "This Idempotency-Key was used with a different request; use a new key for a new request.",
            )
        )
    return Answer(row.status, row.body, {**row.headers, "Idempotency-Replayed": "true"})


def _check(key: str) -> None:
    if not 1 <= len(key) <= LONGEST_KEY or not key.isprintable():
        raise ProblemError(
            Problem.of(
                ProblemType.MALFORMED_REQUEST,
                f"The Idempotency-Key must have 1 to {LONGEST_KEY} printable characters, for example a UUID.",
                errors=(Flaw(detail=f"{len(key)} characters", pointer="Idempotency-Key"),),
            )
        )
