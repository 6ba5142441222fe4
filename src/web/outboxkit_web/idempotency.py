"""Idempotency-Key: the same request sent twice has one effect and gets one answer.

After https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/. The key and the answer are written in the
request's own transaction, so there is no moment in which the effect is there and the key is not.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from litestar import Request
from litestar.di import NamedDependency
from litestar.openapi.spec import Example
from litestar.params import HeaderParameter
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from outboxkit.http import ProblemError
from outboxkit.tables import idempotency_keys as keys
from outboxkit_contracts.problems import Flaw, Problem, ProblemType
from outboxkit_web.operations import Refusal, header

LONGEST_KEY: Final = 255
HEADER: Final = "Idempotency-Key"

_OTHER_REQUEST: Final = f"This {HEADER} was used with a different request; use a new key for a new request."

# ASCII alone: a header's other bytes mean what each hop takes them for. HTTP strips the spaces around a value.
_PATTERN: Final = "^[!-~]([ -~]*[!-~])?$"
_EXAMPLE: Final = "8e03978e-40d5-43dd-bc93-6894a57f9324"
_WANTED: Final = f"1 to {LONGEST_KEY} printable ASCII characters, for example a UUID"

# How a route asks for it: `async def create(session: RequestSession, idempotency_key: IdempotencyKey) -> …`.
IdempotencyKey: TypeAlias = NamedDependency[str | None]

# For `described`: what a route that takes a key answers besides.
REPLAYED: Final = {
    "Idempotency-Replayed": header("The answer was given before, to the same key.", "true", required=False)
}
UNUSABLE_KEY: Final = Refusal(
    f"The {HEADER} is not {_WANTED}, or there are several.",
    Problem.of(ProblemType.MALFORMED_REQUEST, f"The {HEADER} must be {_WANTED}."),
)
MISMATCH: Final = Refusal(
    f"The {HEADER} was used with other content.",
    Problem.of(ProblemType.IDEMPOTENCY_MISMATCH, _OTHER_REQUEST),
)


async def provide_key(
    request: Request[Any, Any, Any],
    idempotency_key_header: Annotated[
        str | None,
        HeaderParameter(
            name=HEADER,
            description=f"{_WANTED[0].upper()}{_WANTED[1:]}; see *Idempotency-Key* above. Without it every request counts.",
            schema_extra={"min_length": 1, "max_length": LONGEST_KEY, "pattern": _PATTERN},
            examples=[Example(value=_EXAMPLE)],
        ),
    ] = None,
) -> str | None:
    """The dependency behind `IdempotencyKey`. Two such headers are refused: two hops could each go by another one."""
    if len(request.headers.getall(HEADER, [])) > 1:
        raise _unusable("there are several such headers")
    if idempotency_key_header is not None:
        _check(idempotency_key_header)
    return idempotency_key_header


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
        raise ProblemError(Problem.of(ProblemType.IDEMPOTENCY_MISMATCH, _OTHER_REQUEST))
    return Answer(row.status, row.body, {**row.headers, "Idempotency-Replayed": "true"})


def _check(key: str) -> None:
    if len(key) > LONGEST_KEY or not re.fullmatch(_PATTERN, key):
        raise _unusable(f"{len(key)} characters")


def _unusable(flaw: str) -> ProblemError:
    flaws = (Flaw(detail=flaw, pointer=HEADER),)
    return ProblemError(Problem.of(ProblemType.MALFORMED_REQUEST, f"The {HEADER} must be {_WANTED}.", errors=flaws))
