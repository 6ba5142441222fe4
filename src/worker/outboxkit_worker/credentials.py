"""Who may trigger jobs: whoever holds the secret, a valid identity token, or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from outboxkit.settings import Secret
from outboxkit_worker import replies
from outboxkit_worker.bearer import InvalidToken, KeysUnavailable, bearer_token
from outboxkit_worker.refusals import Refusals
from outboxkit_worker.replies import Reply

if TYPE_CHECKING:
    from outboxkit_worker.tokens import TokenVerifier

_NO_SECRET = "Nor does the header x-worker-trigger hold this worker's WORKER_TRIGGER_SECRET."  # noqa: S105 (a text)


class Credentials:
    """Looks at a request's credentials before anything else of it is believed.

    The secret is compared first, as that costs next to nothing. With `both` a wrong one is refused at once (403); otherwise
    a right one lets in, whatever token came with it. Then the token decides (401, or 503 when it cannot be checked).
    """

    def __init__(self, *, secrets: Sequence[Secret], tokens: TokenVerifier | None = None, both: bool = False) -> None:
        """Without secrets and without `tokens` every request is let in."""
        self._secrets = tuple(secrets)
        self._tokens = tokens
        self._both = both
        self._refusals = Refusals()

    async def refusal(self, headers: Mapping[bytes, bytes]) -> Reply | None:
        """The answer to a request that is not let in; None to one that is."""
        if self._secrets:
            given = headers.get(b"x-worker-trigger", b"")
            matches = [secret.matches(given) for secret in self._secrets]  # every one is compared, whichever matches
            right = any(matches)
            if self._tokens is None or right != self._both:
                return None if right else replies.FORBIDDEN
        if self._tokens is None:
            return None
        return await self._token_refusal(self._tokens, headers.get(b"authorization", b""))

    async def _token_refusal(self, tokens: TokenVerifier, authorization: bytes) -> Reply | None:
        try:
            token = bearer_token(authorization)
            if token is not None:
                await tokens.verify(token)
                return None
        except KeysUnavailable as error:
            return replies.unverifiable(error.retry_after)
        except InvalidToken as error:
            self._refusals.note(error.description, **error.seen)
            return self._unauthorized(f"{error.description}.", error.advice, invalid=error.description)
        self._refusals.note("There is no token")
        return self._unauthorized("The header Authorization holds no bearer token, or more than one.")

    def _unauthorized(self, *sentences: str, invalid: str | None = None) -> Reply:
        either = self._secrets and not self._both
        return replies.unauthorized(" ".join(filter(None, [*sentences, _NO_SECRET if either else ""])), invalid=invalid)
