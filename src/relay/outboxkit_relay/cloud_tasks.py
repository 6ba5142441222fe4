"""The relay's connection to Cloud Tasks: one for all its queues, made when the first task is."""

from __future__ import annotations

import asyncio
import importlib
import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import grpc
    from google.cloud.tasks_v2 import CloudTasksAsyncClient

log = logging.getLogger(__name__)

# Importing it takes most of a second, and 64 MiB: in a thread, and in this mode alone.
_AIO: Final = "google.cloud.tasks_v2.services.cloud_tasks.transports.grpc_asyncio"


class CloudTasksConnection:
    """The client, made at its first use, and again after a failure: credentials may be there the next time."""

    def __init__(self, *, endpoint: str, emulator: str | None) -> None:
        """`endpoint` is host:port of the API; with `emulator`, also host:port, there is no TLS and nobody is asked who."""
        self._endpoint = endpoint
        self._emulator = emulator
        self._channel: grpc.aio.Channel | None = None
        self._client: CloudTasksAsyncClient | None = None
        self._making = asyncio.Lock()

    async def client(self) -> CloudTasksAsyncClient:
        """The client; raises what google-auth says when there are no credentials."""
        if self._client is not None:
            return self._client
        async with self._making:
            if self._client is None:
                await asyncio.to_thread(importlib.import_module, _AIO)
                self._channel = await self._open()
                self._client = _client(self._channel)
        return self._client

    async def close(self) -> None:
        """Close the channel; calls under way end with an error."""
        channel, self._channel, self._client = self._channel, None, None
        if channel is not None:
            await channel.close()

    async def _open(self) -> grpc.aio.Channel:
        if self._emulator is not None:
            import grpc  # here and below: of the extra cloud-tasks

            log.warning("tasks are created on %s, which stands in for Cloud Tasks", self._emulator)
            return grpc.aio.insecure_channel(self._emulator)
        from outboxkit_relay.credentials import application_default, channel

        return channel(self._endpoint, await application_default())


def _client(channel: grpc.aio.Channel) -> CloudTasksAsyncClient:
    from google.cloud.tasks_v2 import CloudTasksAsyncClient
    from google.cloud.tasks_v2.services.cloud_tasks.transports.grpc_asyncio import CloudTasksGrpcAsyncIOTransport

    return CloudTasksAsyncClient(transport=CloudTasksGrpcAsyncIOTransport(channel=channel))
