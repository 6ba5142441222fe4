"""Google's Application Default Credentials: found, renewed within a bound, and put on a gRPC channel.

google-auth and grpcio belong to the extra `cloud-tasks` and are imported only where they are used. google-auth blocks, tries
again for half a minute and quotes whole answers in its exceptions; what leaves this module does none of the three.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import grpc.aio
    from google.auth.credentials import Credentials

log = logging.getLogger(__name__)

T = TypeVar("T")

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
VARIABLE: Final = "GOOGLE_APPLICATION_CREDENTIALS"

# Seconds the requests for one token may take together.
LONGEST_FETCH: Final = 10.0
# Seconds after a failed attempt in which none is made.
PAUSE: Final = 1.0

# Google's front ends put up with a ping every 30 seconds, and with none on a connection without calls. With these the calls
# that wait on a dead connection notice it (https://github.com/googleapis/python-bigtable/issues/181).
CHANNEL_OPTIONS: Final = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 0),
)


class CredentialsError(Exception):
    """No credentials, or none that give a token. Its text is one line that says what to do, and holds no secret."""


class NoAnswerError(Exception):
    """A request for a token got no answer, or none to go on with. No exception of google-auth's: it catches its own."""


class TokenRequest:
    """How google-auth speaks HTTP for one token: each request is tried once, and all of them end within `seconds`.

    google-auth would repeat what fails with its TransportError, or with a status that it takes for passing. Here both end
    the fetch: whoever needs the token asks again, and does not wait meanwhile.
    """

    def __init__(self, seconds: float = LONGEST_FETCH) -> None:
        """The time begins now."""
        from google.auth.transport.requests import Request

        self.seen = ""  # what came last: a status and a host, nothing of what was said
        self._request = Request()
        self._until = time.monotonic() + seconds

    def __call__(
        self, url: str, method: str = "GET", body: Any = None, headers: Any = None, timeout: Any = None, **options: Any
    ) -> Any:
        """Make a request. Raises NoAnswerError when there is no answer, or one that asks to come again."""
        from google.auth.exceptions import TransportError
        from google.auth.transport import DEFAULT_RETRYABLE_STATUS_CODES

        host = urlsplit(url).netloc.rpartition("@")[2]
        self.seen = f"no answer from {host}"
        left = self._until - time.monotonic()
        if left <= 0:
            raise NoAnswerError(self.seen)
        try:
            response = self._request(url, method, body, headers, min(timeout or left, left), **options)
        except TransportError:
            raise NoAnswerError(self.seen) from None
        self.seen = f"HTTP {response.status} from {host}"
        if response.status in DEFAULT_RETRYABLE_STATUS_CODES:
            raise NoAnswerError(self.seen)
        return response


async def application_default() -> Credentials:
    """Find the Application Default Credentials: a file, gcloud's login, or the metadata server. No token is fetched yet.

    Takes a few seconds where there are none. Raises CredentialsError; it may be worth while to ask again later.
    """
    return await in_thread(_find, seconds=2 * LONGEST_FETCH)


def _find() -> Credentials:
    request: Any = new_request()
    try:
        import google.auth

        return google.auth.default(scopes=[SCOPE], request=request)[0]
    except Exception as error:  # noqa: BLE001 (whatever a file or an answer holds; google-auth's texts may quote it)
        raise CredentialsError(described(error, seen=request.seen)) from None


def new_request() -> TokenRequest:
    """A request to fetch one token with. Raises CredentialsError where google-auth is not installed."""
    try:
        return TokenRequest()
    except ImportError as error:
        raise CredentialsError(described(error)) from None


def refresh(credentials: Any, request: TokenRequest) -> None:
    """Fetch a new token. Blocks, for `LONGEST_FETCH` at most or little more. Raises CredentialsError."""
    try:
        credentials.refresh(request)
    except Exception as error:  # noqa: BLE001 (a garbled answer raises nearly anything, and its text may be quoted)
        raise CredentialsError(described(error, credentials, request.seen)) from None


def described(error: BaseException, credentials: Any = None, seen: str = "") -> str:
    """One line about an exception of google-auth: what is missing, what to do. Nothing of the exception's own text.

    `credentials` are those that gave no token; None if none were found. `seen` is what was seen last on the way.
    """
    after = f" ({seen})" if seen else ""
    kind = "" if credentials is None else type(credentials).__module__
    if isinstance(error, CredentialsError):
        return str(error)
    if isinstance(error, ImportError):
        return "google-auth is not installed: install outboxkit[cloud-tasks]"
    if credentials is None:
        return f"no Google credentials{after}: {_what_to_set()}"
    if seen.startswith("no answer"):
        return (
            f"no Google token: {seen}{', the metadata server' if 'compute_engine' in kind else ''}; check the network"
        )
    if "compute_engine" in kind:
        return f"the metadata server gives no token{after}: this Cloud Run service, or machine, must have a service account"
    if "impersonated" in kind:
        return (
            f"no token by impersonation{after}: the caller's own credentials must be valid and have"
            " roles/iam.serviceAccountTokenCreator on the account, and iamcredentials.googleapis.com must be enabled"
        )
    return (
        f"Google gives no token for these credentials{after}: the key or the login may be revoked, or this machine's"
        f" clock wrong; {VARIABLE} names the file to renew, if it is set"
    )


def _what_to_set() -> str:
    if (path := os.environ.get(VARIABLE)) is None:
        return f"set {VARIABLE} to a key file, or run where a metadata server is: on Cloud Run with a service account"
    return f"{VARIABLE} names {path!r}, which {'cannot be used' if Path(path).is_file() else 'is no file'}"


def channel(endpoint: str, credentials: Credentials) -> grpc.aio.Channel:
    """A channel with TLS to `endpoint` (host:port) whose calls carry an access token. Made inside a running event loop.

    The token is fetched in gRPC's threads, once for all calls, and renewed before it expires. A call that gets none fails
    as UNAVAILABLE; its details hold the text of a CredentialsError, and no secret.
    """
    import grpc
    import grpc.aio

    authorized = grpc.metadata_call_credentials(Authorization(credentials), name="application default credentials")
    secure = grpc.composite_channel_credentials(grpc.ssl_channel_credentials(), authorized)
    return grpc.aio.secure_channel(endpoint, secure, options=CHANNEL_OPTIONS)


class Authorization:
    """Puts an access token on each call; gRPC asks from a thread of its own for every call.

    While one thread renews a token that still holds, the others go on with it, and so does everybody when that fails.
    Without one that holds all wait for one fetch, and for `PAUSE` seconds its failure is everybody's.
    """

    def __init__(self, credentials: Any) -> None:
        """`credentials` are google-auth's."""
        self._credentials = credentials
        self._lock = threading.Lock()
        self._failure: CredentialsError | None = None
        self._failed_at = 0.0

    def __call__(
        self, _context: Any, callback: Callable[[tuple[tuple[str, str], ...], Exception | None], None]
    ) -> None:
        """Hand the headers to `callback`, or why there are none."""
        try:
            headers = self._headers()
        except CredentialsError as error:
            callback((), error)
        else:
            callback(headers, None)

    def _headers(self) -> tuple[tuple[str, str], ...]:
        from google.auth.credentials import TokenState

        state = self._credentials.token_state
        if state is not TokenState.FRESH and self._lock.acquire(blocking=state is TokenState.INVALID):
            try:
                self._renew()
            finally:
                self._lock.release()
        headers: dict[str, str] = {}
        self._credentials.apply(headers)
        return tuple(headers.items())

    def _renew(self) -> None:
        """Fetch a token, unless somebody just has or just could not. Raises CredentialsError if none is left that holds."""
        from google.auth.credentials import TokenState

        state = self._credentials.token_state
        if state is TokenState.FRESH:
            return
        if self._failure is None or time.monotonic() - self._failed_at >= PAUSE:
            self._attempt()
        if self._failure is not None and state is TokenState.INVALID:
            raise CredentialsError(str(self._failure))

    def _attempt(self) -> None:
        try:
            refresh(self._credentials, new_request())
        except CredentialsError as error:
            if self._failure is None:
                log.warning("%s", error)
            self._failure, self._failed_at = error, time.monotonic()
        else:
            self._failure = None


async def in_thread(function: Callable[[], T], *, seconds: float) -> T:
    """Call a function that blocks, in a thread of its own; CredentialsError when it takes longer.

    A daemon thread, unlike an executor's: a fetch that hangs must not keep the process from ending.
    """
    future: concurrent.futures.Future[T] = concurrent.futures.Future()
    future.set_running_or_notify_cancel()

    def call() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 (it is handed on)
            future.set_exception(error)

    threading.Thread(target=call, name="outboxkit-credentials", daemon=True).start()
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.wrap_future(future)
    except TimeoutError:
        raise CredentialsError(f"no answer about Google credentials within {seconds:g} s") from None
