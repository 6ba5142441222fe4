"""The proxy leaves nothing behind, whatever was going on."""

import asyncio
import gc
import socket
from contextlib import AsyncExitStack, suppress

import psutil
import pytest
import uvloop

from chaos.proxy import AnyFault, Delay, Fault, Proxy
from unit.chaos.peers import (
    BUSY,
    EVERY_FAULT,
    REQUEST,
    RST_ON_CLOSE,
    SEED,
    WITHIN,
    Client,
    EchoServer,
    felt,
    heals,
)
from waiting import until_async


async def one_visit(proxy: Proxy) -> None:
    """Connect, ask, read an answer where there can be one, leave; however that ends."""
    with suppress(ConnectionError):
        async with Client(proxy.port) as client:
            await client.send(REQUEST)
            if proxy.fault not in (Fault.DROP, Fault.SWALLOW):
                await client.receive(8)


async def test_a_thousand_connections_leave_nothing_open(proxy: Proxy, echo: EchoServer) -> None:
    """Whatever the faults did to them, none is kept once the faults have ended."""
    await heals(proxy)
    before = psutil.Process().num_fds()
    for fault in EVERY_FAULT * 5:
        proxy.set(fault)
        await asyncio.gather(*(one_visit(proxy) for _ in range(25)))
    await heals(proxy)
    assert proxy.accepted >= 1000
    await until_async(lambda: not echo.open, what="the server's connections to end", within=WITHIN)
    assert psutil.Process().num_fds() <= before


async def leave_in_the_middle(fault: AnyFault) -> None:
    """Leave a proxy that has old connections, asking ones, new ones, and some it has not accepted yet, under this fault."""
    me = asyncio.current_task()
    async with EchoServer() as echo:
        before, tasks = psutil.Process().num_fds(), asyncio.all_tasks()
        proxy = Proxy(echo.address, name="left", seed=SEED)
        async with proxy:
            clients = [Client(proxy.port) for _ in range(6)]
            for client in clients[:3]:
                await client.__aenter__()
                await client.ask(b"hello")
            proxy.set(fault)
            for client in clients[3:]:
                with suppress(ConnectionResetError):
                    await client.__aenter__()
            for client in clients[1:5]:
                with suppress(ConnectionError):
                    await client.send(REQUEST)
        assert proxy._open == {}
        assert asyncio.all_tasks() == tasks >= {me}
        for client in clients:
            with suppress(OSError):  # reset; or its answer, which had been sent before
                await client.receive(10_000)
            client._socket.close()
        await until_async(lambda: not echo.open, what="the server's connections to end", within=WITHIN)
        assert psutil.Process().num_fds() <= before


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("fault", EVERY_FAULT, ids=str)
def test_leaving_leaves_nothing_behind(fault: AnyFault, loop: object) -> None:
    """No task, no socket, no warning, no client that waits, on either event loop, whatever was going on."""
    with asyncio.Runner(loop_factory=loop) as runner:  # type: ignore[arg-type]
        runner.run(leave_in_the_middle(fault))
    gc.collect()


@pytest.mark.parametrize("turns", range(6))
async def test_a_side_that_dies_while_the_proxy_is_left_does_not_hold_it_up(turns: int) -> None:
    """The RST of a server comes so many turns of the loop before; the stalled connection is ended all the same."""
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        async with asyncio.timeout(WITHIN), Proxy(listener.getsockname(), name="left", seed=SEED) as proxy:
            client = await stack.enter_async_context(Client(proxy.port))
            await client.send(b"hello")
            await until_async(lambda: proxy.bytes_up == 5, what="the proxy to connect", within=WITHIN)
            server, _ = listener.accept()
            proxy.set(Fault.DROP)
            await client.send(b"lost")
            await felt(proxy)
            server.setsockopt(*RST_ON_CLOSE)
            server.close()
            for _ in range(turns):
                await asyncio.sleep(0)
        assert proxy._open == {}
        await client.is_reset()


async def every_fault_once() -> None:
    """Each fault, its effect on a client as short as can be, and the recovery after it."""
    async with EchoServer() as echo, Proxy(echo.address, name="loop", seed=SEED) as proxy:
        expected = {Fault.PASS: b"GET ", Fault.HALF_CLOSE: b"GET ", Delay(0.01): b"GET ", BUSY: b"HTTP"}
        for fault in EVERY_FAULT:
            proxy.set(fault)
            if fault in (Fault.REFUSE, Fault.RESET):
                with pytest.raises(ConnectionError):
                    await talk(proxy)
            elif fault in (Fault.DROP, Fault.SWALLOW):
                async with Client(proxy.port) as client:
                    await client.send(REQUEST)
                    await felt(proxy, 2 if fault is Fault.DROP else 1)
                    assert client.hears_nothing()
            else:
                assert fault is Fault.CORRUPT or await talk(proxy) == expected[fault]
            await heals(proxy)


async def talk(proxy: Proxy) -> bytes:
    """The first four bytes of an answer."""
    async with Client(proxy.port) as client:
        await client.send(REQUEST)
        return await client.receive(4)


def test_every_fault_works_on_uvloop() -> None:
    """The loop that the roles run on does the same as the plain one."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(every_fault_once())
