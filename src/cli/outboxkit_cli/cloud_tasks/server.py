"""The local Cloud Tasks server as a whole: gRPC, dispatch, and the HTTP side, in one event loop and in memory.

    async with CloudTasksServer() as server:
        channel = grpc.aio.insecure_channel(server.address)

Nothing outlives the block: tasks that have not been dispatched are gone, and requests under way are abandoned.
"""

import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

import grpc
from aiohttp import web
from google.cloud import tasks_v2

from outboxkit_cli.cloud_tasks.api import Api
from outboxkit_cli.cloud_tasks.dispatcher import Dispatch, Dispatcher
from outboxkit_cli.cloud_tasks.environment import LOCATION, PROJECT, QUEUE, caller_account
from outboxkit_cli.cloud_tasks.faults import Faults
from outboxkit_cli.cloud_tasks.http_side import HttpSide
from outboxkit_cli.cloud_tasks.messages import task_message
from outboxkit_cli.cloud_tasks.metadata import MetadataServer
from outboxkit_cli.cloud_tasks.operations import Operations
from outboxkit_cli.cloud_tasks.queues import HOUR, TaskQueue
from outboxkit_cli.cloud_tasks.rates import RateLimits
from outboxkit_cli.cloud_tasks.retries import RetryConfig
from outboxkit_cli.cloud_tasks.service import handlers
from outboxkit_cli.cloud_tasks.state import State
from outboxkit_cli.cloud_tasks.tokens import Signer
from outboxkit_cli.cloud_tasks.validation import Strictness
from outboxkit_cli.failures import CommandFailed
from outboxkit_cli.sockets import address, listening_socket

log = logging.getLogger(__name__)

GRPC_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # else a second server on the same port would take half of the calls
    ("grpc.max_receive_message_length", -1),  # a batch holds up to 100 MB
)


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How a server is set up. Port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 0
    """Of gRPC."""
    http_port: int = 0
    project: str = PROJECT
    location: str = LOCATION
    queues: tuple[str, ...] = (QUEUE,)
    """The ids of the queues that are there from the start."""
    retries: RetryConfig = field(default_factory=RetryConfig)
    limits: RateLimits = field(default_factory=RateLimits)
    """Of these queues."""
    tombstone_seconds: float = HOUR
    """How long the name of a task that is gone may not be used again."""
    strictness: Strictness = field(default_factory=Strictness)
    faults: Faults = field(default_factory=Faults)
    """The faults to begin with."""
    seed: int = 0
    """Decides which tasks a fault meets that is to meet a share of them."""


class CloudTasksServer:
    """`async with` it. `faults` may be changed at any time; see `Faults`."""

    def __init__(self, options: ServerOptions | None = None) -> None:
        self.options = options or ServerOptions()
        self.address = ""
        """host:port of gRPC, for CLOUD_TASKS_EMULATOR_HOST."""
        self.issuer = ""
        """The URL of the HTTP side, and the issuer of the tokens."""
        self.signer = Signer()
        self.state = State(tombstone_seconds=self.options.tombstone_seconds, seed=self.options.seed)
        self.state.faults.update(self.options.faults)
        self._dispatcher = Dispatcher(self.state, self.signer)
        self._stack = AsyncExitStack()
        for queue in self.options.queues:
            self.state.create(self.queue_path(queue), retries=self.options.retries, limits=self.options.limits)

    async def __aenter__(self) -> Self:
        """Listen and dispatch. Raises CommandFailed when a port is taken."""
        async with self._stack:
            await self._stack.enter_async_context(self._dispatcher)
            await self._serve_http()
            await self._serve_grpc()
            self._stack = self._stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything at once."""
        await self._stack.aclose()

    @property
    def metadata_host(self) -> str:
        """Return host:port of the HTTP side, for GCE_METADATA_HOST."""
        return self.issuer.removeprefix("http://")

    @property
    def faults(self) -> Faults:
        """Return the faults."""
        return self.state.faults

    @property
    def dispatches(self) -> list[Dispatch]:
        """Return the last dispatches that have ended, the oldest first."""
        return list(self._dispatcher.ended)

    def queue_path(self, queue: str | None = None) -> str:
        """Return the full name of a queue of this project and location, the first one unless it is named."""
        return f"projects/{self.options.project}/locations/{self.options.location}/queues/{queue or self.options.queues[0]}"

    def queue(self, queue: str | None = None) -> TaskQueue:
        """Return a queue, to look into it or to change its settings."""
        return self.state.queue(self.queue_path(queue))

    def tasks(self, queue: str | None = None) -> list[tasks_v2.Task]:
        """Return the tasks of a queue with everything that is known of them."""
        return [task_message(task, full=True) for task in self.queue(queue)]

    def advance(self, seconds: float) -> None:
        """Put the queues' clock forward, so that what is due within that time is due now. Tokens keep the machine's time."""
        self.state.advance(seconds)

    def rotate_key(self, *, retire: bool = False) -> None:
        """Sign tokens with a new key from now on; with `retire` the earlier ones are withdrawn at once."""
        self.signer.rotate(retire=retire)

    async def _serve_http(self) -> None:
        options = self.options
        listener = listening_socket(options.host, options.http_port)
        self._stack.callback(listener.close)
        self.issuer = self.signer.issuer = address(listener)
        metadata = MetadataServer(
            self.state, self.signer, project=options.project, account=caller_account(options.project)
        )
        application = HttpSide(self.state, self.signer, metadata).application()
        runner = web.AppRunner(application, handle_signals=False, access_log=None, shutdown_timeout=0)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.SockSite(runner, listener).start()

    async def _serve_grpc(self) -> None:
        options = self.options
        api = Api(self.state, self._dispatcher, options.strictness)
        server = grpc.aio.server(options=GRPC_OPTIONS)
        server.add_generic_rpc_handlers(handlers(self.state, api, Operations(self.state, api)))
        try:
            port = server.add_insecure_port(f"{options.host}:{options.port}")
        except RuntimeError as error:
            raise CommandFailed(f"cannot listen on {options.host}:{options.port}: {error}") from error
        self.address = f"{options.host}:{port}"
        await server.start()
        self._stack.push_async_callback(server.stop, None)
