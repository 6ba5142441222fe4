"""The proxy does what each fault says, and heals."""

import asyncio
import random
from pathlib import Path
from time import monotonic

import httpx
import pytest

from chaos.proxy import Answer, Delay, Fault, Proxy, corrupted
from sink import Sink, free_port
from unit.chaos.peers import (
    BUSY,
    REQUEST,
    RST_ON_CLOSE,
    SEED,
    SERVED,
    WITHIN,
    Client,
    EchoServer,
    felt,
    heals,
    refused,
)
from waiting import until_async


async def test_pass_carries_bytes_and_ends_both_ways(proxy: Proxy, echo: EchoServer) -> None:
    """PASS forwards more bytes than any buffer holds, then the client's FIN, then the server's."""
    data = random.Random(SEED).randbytes(3_000_000)
    async with Client(proxy.port) as client:
        sending = asyncio.create_task(client.send(data))
        assert await client.receive(len(data)) == data
        await sending
        client.finish()
        assert await client.receive(1) == b""
    await until_async(lambda: echo.ends == [None], what="the server to see an orderly end", within=WITHIN)
    assert (proxy.accepted, proxy.bytes_up, proxy.bytes_down, proxy.faulted) == (1, len(data), len(data), 0)


async def test_pass_loses_no_end_of_an_answer(proxy: Proxy) -> None:
    """A client that reads late gets everything, though both sides have ended and the proxy has closed the connection."""
    async with Client(proxy.port, buffer=4096) as client:
        await client.send(b"x" * 60_000)
        client.finish()
        await until_async(lambda: proxy.accepted and not proxy._open, what="the connection to end", within=WITHIN)
        assert await client.receive(100_000) == b"x" * 60_000


async def test_pass_carries_a_reset_to_the_client(proxy: Proxy, echo: EchoServer) -> None:
    """A server that dies under a connection is seen to die."""
    async with Client(proxy.port) as client:
        await client.ask(b"hello")
        (transport,) = echo.open
        transport.get_extra_info("socket").setsockopt(*RST_ON_CLOSE)
        transport.abort()
        await client.is_reset()


async def test_pass_carries_a_reset_to_the_server(proxy: Proxy, echo: EchoServer) -> None:
    """A client that dies under a connection is seen to die."""
    async with Client(proxy.port) as client:
        await client.ask(b"hello")
        client._socket.setsockopt(*RST_ON_CLOSE)
    await until_async(lambda: echo.ends, what="the server's connection to end", within=WITHIN)
    assert isinstance(echo.ends[0], ConnectionResetError)


async def test_a_unix_socket_can_be_the_upstream(tmp_path: Path) -> None:
    """A path is an upstream like any other, and a reset of its client ends its connection."""
    async with EchoServer(tmp_path / "echo") as echo, Proxy(echo.address, name="unix", seed=SEED) as proxy:
        async with Client(proxy.port) as client:
            assert await client.ask(b"hello") == b"hello"
            proxy.set(Fault.RESET)
            await client.is_reset()
        await until_async(lambda: not echo.open, what="the server's connection to end", within=WITHIN)
        await heals(proxy)


@pytest.mark.parametrize("kind", ["port", "path"])
async def test_a_client_is_reset_when_the_upstream_refuses(kind: str, tmp_path: Path) -> None:
    """Nobody listens behind the proxy: its client gets an RST, not an end that looks like an answer."""
    upstream = ("127.0.0.1", free_port()) if kind == "port" else tmp_path / "nothing"
    async with Proxy(upstream, name="nobody", seed=SEED) as proxy:
        await refused(proxy.port)
        assert (proxy.accepted, proxy.faulted) == (1, 0)


async def test_it_listens_on_the_port_it_was_given(echo: EchoServer) -> None:
    """A port can be asked for, and asked for again as soon as the proxy before has been left."""
    port = free_port()
    for _ in range(2):
        async with Proxy(echo.address, name="fixed", seed=SEED, port=port) as proxy:
            assert proxy.port == port
            await heals(proxy)


async def test_delay_holds_each_chunk_and_keeps_the_order(proxy: Proxy) -> None:
    """A question and its answer wait once each; ten chunks come out as they went in."""
    proxy.set(Delay(0.05))
    async with Client(proxy.port) as client:
        begun = monotonic()
        assert await client.ask(b"hello") == b"hello"
        assert monotonic() - begun >= 0.1
        assert proxy.faulted == 2
        words = [f"word {number} ".encode() for number in range(10)]
        for word in words:
            await client.send(word)
        assert await client.receive(len(b"".join(words))) == b"".join(words)


async def test_a_chunk_that_is_held_is_let_go_when_the_delay_ends(proxy: Proxy) -> None:
    """Switching to PASS does not wait for the delay before it."""
    proxy.set(Delay(3600))
    async with Client(proxy.port) as client:
        await client.send(b"hello")
        await felt(proxy)
        proxy.set(Fault.PASS)
        assert await client.receive(5) == b"hello"


async def test_a_chunk_that_is_held_is_lost_when_a_drop_follows(proxy: Proxy, echo: EchoServer) -> None:
    """The next fault decides about it: a black hole takes it, and the connection with it."""
    proxy.set(Delay(3600))
    async with Client(proxy.port) as client:
        await client.send(b"hello")
        await felt(proxy)
        proxy.set(Fault.DROP)
        await felt(proxy)
        proxy.set(Fault.PASS)
        await client.is_reset()
    assert echo.received == b""


async def test_drop_forwards_nothing_and_closes_nothing(proxy: Proxy, echo: EchoServer) -> None:
    """Existing and new connections stall, whoever sends or hangs up; when it ends they are reset, on both sides."""
    async with Client(proxy.port) as asking, Client(proxy.port) as leaving:
        assert await asking.ask(b"before") == await leaving.ask(b"before")
        proxy.set(Fault.DROP)
        async with Client(proxy.port) as fresh:
            await asking.send(b"lost")
            await fresh.send(b"lost")
            leaving.finish()
            next(iter(echo.open)).write(b"lost too")
            await felt(proxy, 5)  # two chunks up, one down, the end of a stream, a new connection
            proxy.set(Fault.DROP)  # again, which ends nothing
            await fresh.send(b"lost")
            await felt(proxy)
            assert asking.hears_nothing()
            assert leaving.hears_nothing()
            assert fresh.hears_nothing()
            assert (echo.received, echo.ends, echo.accepted) == (b"before" * 2, [], 2)
            proxy.set(Fault.PASS)
            await asking.send(b"behind the hole")
            for transport in echo.open:
                transport.write(b"behind the hole")
            for client in (asking, leaving, fresh):
                await client.is_reset()
    await until_async(lambda: len(echo.ends) == 2, what="the server's connections to end", within=WITHIN)
    assert all(isinstance(end, ConnectionResetError) for end in echo.ends)
    assert echo.received == b"before" * 2
    await heals(proxy)


@pytest.mark.parametrize("turns", range(6))
async def test_nothing_comes_through_behind_a_hole(turns: int, proxy: Proxy, echo: EchoServer) -> None:
    """An answer that comes so many turns of the loop before the drop ends is not forwarded while the reset is on its way."""
    async with Client(proxy.port) as client:
        await client.ask(b"hello")
        proxy.set(Fault.DROP)
        await client.send(b"lost")
        await felt(proxy)
        next(iter(echo.open)).write(b"behind the hole")
        for _ in range(turns):
            await asyncio.sleep(0)
        proxy.set(Fault.PASS)
        await client.is_reset()
    assert (proxy.bytes_up, proxy.bytes_down) == (5, 5)


async def test_drop_hides_that_a_side_has_died(proxy: Proxy, echo: EchoServer) -> None:
    """A client that is reset in a black hole is not missed by the server until the hole is gone."""
    async with Client(proxy.port) as client:
        await client.ask(b"hello")
        proxy.set(Fault.DROP)
        client._socket.setsockopt(*RST_ON_CLOSE)
    await felt(proxy)
    assert echo.ends == []
    proxy.set(Fault.PASS)
    await until_async(lambda: echo.ends, what="the server's connection to end", within=WITHIN)


async def test_a_connection_that_lost_nothing_survives_a_drop(proxy: Proxy) -> None:
    """As with a real partition: who was silent all the while never knows, and the fault was felt by nobody."""
    async with Client(proxy.port) as client:
        await client.ask(b"before")
        proxy.set(Fault.DROP)
        assert proxy.faulted == 0
        proxy.set(Fault.PASS)
        assert await client.ask(b"after") == b"after"


async def test_refuse_resets_new_and_existing_connections(proxy: Proxy, echo: EchoServer) -> None:
    """Nobody gets through, and the server hears of nobody new."""
    async with Client(proxy.port) as client:
        await client.ask(b"hello")
        proxy.set(Fault.REFUSE)
        assert proxy.faulted == 1
        await client.is_reset()
    await refused(proxy.port)
    await refused(proxy.port)
    assert (proxy.faulted, proxy.accepted, echo.accepted) == (3, 3, 1)
    await heals(proxy)


async def test_reset_resets_existing_connections_now(proxy: Proxy, echo: EchoServer) -> None:
    """Both sides of an idle connection get an RST though nobody sends anything."""
    async with Client(proxy.port) as client:
        await client.ask(b"hello")
        proxy.set(Fault.RESET)
        await client.is_reset()
        await until_async(lambda: echo.ends, what="the server's connection to end", within=WITHIN)
    assert isinstance(echo.ends[0], ConnectionResetError)
    await heals(proxy)


async def test_reset_lets_the_first_bytes_of_a_new_connection_through(proxy: Proxy, echo: EchoServer) -> None:
    """The server may have acted on them; the client cannot know."""
    proxy.set(Fault.RESET)
    async with Client(proxy.port) as client:
        assert proxy.faulted == 0
        await client.send(b"hello")
        await client.is_reset()
    await echo.got(b"hello")
    assert (proxy.faulted, proxy.bytes_up, proxy.bytes_down) == (1, 5, 0)
    await heals(proxy)


async def test_half_close_ends_answers_and_still_reads(proxy: Proxy, echo: EchoServer) -> None:
    """The client gets one chunk and a FIN, on an existing connection as well; what it says then still arrives."""
    async with Client(proxy.port) as old:
        await old.ask(b"-")
        proxy.set(Fault.HALF_CLOSE)
        async with Client(proxy.port) as fresh:
            for client in (old, fresh):
                echo.received = b""
                assert await client.ask(b"one") == b"one"
                assert await client.receive(1) == b""
                await client.send(b"two")
                await echo.got(b"onetwo")
        assert proxy.faulted == 2
        assert len(echo.open) >= 1, "the connection to the server has ended with the answers"
    assert proxy.bytes_down == 7
    await heals(proxy)


def test_corruption_is_the_seeds() -> None:
    """The first byte always changes, lengths never do, and the same seed damages the same bits."""
    for length in (1, 2, 64, 65, 5000):
        chunk = random.Random(length).randbytes(length)
        damaged = corrupted(chunk, random.Random(SEED))
        assert len(damaged) == length
        assert damaged[0] != chunk[0]
        assert 1 <= sum(one != other for one, other in zip(chunk, damaged, strict=True)) <= 1 + length // 64
        assert damaged == corrupted(chunk, random.Random(SEED))


async def test_corrupt_changes_answers_and_leaves_requests_alone(proxy: Proxy, echo: EchoServer) -> None:
    """What arrives is what the seed makes of what was sent, on an existing connection; the server got it whole."""
    async with Client(proxy.port) as client:
        await client.ask(b"hello")
        proxy.set(Fault.CORRUPT)
        assert await client.ask(b"x" * 200) == corrupted(b"x" * 200, random.Random(SEED))
    assert echo.received == b"hello" + b"x" * 200
    assert proxy.faulted == 1
    await heals(proxy)


async def test_swallow_lets_requests_through_and_no_answers() -> None:
    """The work is done and nobody hears of it; when it ends, whoever waited is reset."""
    async with Sink(lambda _: SERVED) as sink, Proxy(("127.0.0.1", port_of(sink)), name="worker", seed=SEED) as proxy:
        async with Client(proxy.port) as old:
            await old.send(REQUEST)
            assert (await old.receive(12)) == b"HTTP/1.1 200"
            proxy.set(Fault.SWALLOW)
            async with Client(proxy.port) as fresh:
                await fresh.send(REQUEST)
                await felt(proxy)
                assert fresh.hears_nothing()
                assert len(sink.requests) == 2
                proxy.set(Fault.PASS)
                await fresh.is_reset()
        async with httpx.AsyncClient(trust_env=False, timeout=WITHIN) as client:
            assert (await client.get(f"http://127.0.0.1:{proxy.port}/")).text == "served"


async def test_swallow_hides_that_the_server_hung_up(proxy: Proxy, echo: EchoServer) -> None:
    """An answer can be an end: the client does not hear of that either."""
    async with Client(proxy.port) as client:
        await client.ask(b"hello")
        proxy.set(Fault.SWALLOW)
        next(iter(echo.open)).close()
        await felt(proxy)
        assert client.hears_nothing()
        proxy.set(Fault.PASS)
        await client.is_reset()


async def test_swallow_hides_that_the_server_refuses() -> None:
    """Nobody listens, and the client does not learn it before the fault ends."""
    async with Proxy(("127.0.0.1", free_port()), name="nobody", seed=SEED) as proxy:
        proxy.set(Fault.SWALLOW)
        async with Client(proxy.port) as client:
            await felt(proxy)
            assert client.hears_nothing()
            proxy.set(Fault.PASS)
            await client.is_reset()


def port_of(sink: Sink) -> int:
    """Where it listens."""
    port = httpx.URL(sink.url).port
    assert port is not None
    return port


async def test_answer_speaks_for_the_server() -> None:
    """A client posts a large body and gets the answer, not a reset; the server hears nothing; then it serves again."""
    async with (
        Sink(lambda _: SERVED) as sink,
        Proxy(("127.0.0.1", port_of(sink)), name="worker", seed=SEED) as proxy,
        httpx.AsyncClient(trust_env=False, timeout=WITHIN, base_url=f"http://127.0.0.1:{proxy.port}") as client,
    ):
        assert (await client.post("/", content=b"kept alive")).text == "served"
        proxy.set(BUSY)
        for count in (1, 2):
            answer = await client.post("/", content=b"x" * 2_000_000)
            assert (answer.status_code, answer.text, answer.headers["retry-after"]) == (503, "busy", "9")
            assert (proxy.requests_answered, proxy.faulted) == (count, count)
        assert len(sink.requests) == 1
        proxy.set(Fault.PASS)
        assert (await client.post("/")).text == "served"
        assert (proxy.accepted, proxy.requests_answered) == (3, 2)


@pytest.mark.parametrize("garbage", [b"SSH-2.0-OpenSSH_9.2\r\n", b""])
async def test_an_answer_can_be_anything(garbage: bytes, proxy: Proxy, echo: EchoServer) -> None:
    """The bytes are sent as they are, even none; then comes a FIN."""
    proxy.set(Answer(garbage))
    async with Client(proxy.port) as client:
        await client.send(REQUEST)
        assert await client.receive(100) == garbage
    assert (echo.accepted, proxy.requests_answered) == (0, 1)
    await heals(proxy)


async def test_an_answer_waits_for_the_whole_request(proxy: Proxy) -> None:
    """Nothing is said before the last byte of the body, however the request comes in pieces."""
    proxy.set(BUSY)
    async with Client(proxy.port) as client:
        await until_async(lambda: proxy._open, what="the proxy to accept", within=WITHIN)
        (connection,) = proxy._open.values()
        sent = b""
        for piece in (b"POST / HTTP/1.1\r\nContent-", b"Length: 4\r\n\r\n", b"bod"):
            sent += piece
            await client.send(piece)
            await until_async(lambda: connection._request == sent, what="the piece to be read", within=WITHIN)  # noqa: B023 (awaited here)
            assert client.hears_nothing()
        assert proxy.requests_answered == 0
        await client.send(b"y")
        assert await client.receive(1000) == BUSY.content


async def test_a_request_half_read_for_an_answer_is_reset_when_that_ends(proxy: Proxy, echo: EchoServer) -> None:
    """The server must not get the rest of a request whose beginning it has not seen."""
    proxy.set(BUSY)
    async with Client(proxy.port) as client:
        await client.send(REQUEST[:9])
        (connection,) = proxy._open.values()
        await until_async(lambda: connection.withheld, what="the piece to be read", within=WITHIN)
        proxy.set(Fault.PASS)
        await client.is_reset()
    assert echo.received == b""


async def test_an_exchange_under_way_ends_as_it_would_have_without_the_answer() -> None:
    """A request of which the server has a part is the server's: the answer is for the next one."""
    async with (
        Sink(lambda _: SERVED) as sink,
        Proxy(("127.0.0.1", port_of(sink)), name="worker", seed=SEED) as proxy,
        Client(proxy.port) as client,
    ):
        await client.send(REQUEST[:9])
        await until_async(lambda: proxy.bytes_up == 9, what="the piece to be forwarded", within=WITHIN)
        proxy.set(BUSY)
        await client.send(REQUEST[9:])
        assert await client.receive(len(SERVED.encoded())) == SERVED.encoded()
        await client.send(REQUEST)
        assert await client.receive(1000) == BUSY.content


async def test_a_connection_made_under_an_answer_goes_through_after_it(proxy: Proxy) -> None:
    """A pool may have connected and not asked yet; nothing was withheld from that connection."""
    proxy.set(BUSY)
    async with Client(proxy.port) as client:
        await until_async(lambda: proxy.accepted == 1, what="the proxy to accept", within=WITHIN)
        proxy.set(Fault.PASS)
        assert await client.ask(b"hello") == b"hello"
