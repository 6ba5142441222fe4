"""Real processes, real kills: nothing is lost, nothing takes effect twice (G1 to G5)."""

import asyncio
import os
import random
from collections import Counter
from pathlib import Path

import httpx
import psycopg
import pytest

from chaos.orders import SCHEMA
from chaos.processes import Fleet, Process
from outboxkit.migrations import upgrade
from outboxkit_cli.embedded import EmbeddedPostgres
from waiting import until

SEED = int(os.environ.get("CHAOS_SEED", "7"))
KILLS = int(os.environ.get("CHAOS_KILLS", "14"))
PRODUCERS = 4
SETTLED_WITHIN = 60.0

UNDER_WAY = "exists (select from outboxkit.jobs where state = 'running' and lease_until > now())"
SETTLED = (
    "not exists (select from outboxkit.jobs where finished_at is null) and not exists (select from outboxkit.outbox)"
)


class Producers:
    """Clients that place orders, some of which are rolled back, and remember what they were told."""

    def __init__(self, port: int, seed: int) -> None:
        self._client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=5, trust_env=False)
        self._chance = random.Random(seed)
        self._next = 0
        self.acknowledged: set[int] = set()
        self.rolled_back: set[int] = set()

    async def produce(self, stop: asyncio.Event) -> None:
        """Place orders until told to stop."""
        async with self._client:
            await asyncio.gather(*(self._one_by_one(stop) for _ in range(PRODUCERS)))

    async def _one_by_one(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._next += 1
            order, rollback = self._next, self._chance.random() < 0.1
            try:
                answer = await self._client.post(f"/orders/{order}", params={"rollback": rollback})
            except httpx.TransportError:
                await asyncio.sleep(0.05)  # the web process is being killed or started: the outcome is unknown
                continue
            if answer.status_code == 201:
                self.acknowledged.add(order)
            elif rollback and answer.status_code == 409:
                self.rolled_back.add(order)
            await asyncio.sleep(self._chance.uniform(0.02, 0.1))


async def ready(port: int) -> None:
    """Returns when the web role answers."""

    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/health/ready", trust_env=False).is_success
        except httpx.TransportError:
            return False

    await asyncio.to_thread(until, answers, what="the web role", within=SETTLED_WITHIN)


async def holds(url: str, condition: str, *, what: str) -> None:
    """Returns when the database says that the condition, an SQL expression, is true."""

    def ask() -> bool:
        with psycopg.connect(url, autocommit=True) as connection:
            return connection.execute(f"select {condition}".encode()).fetchone() == (True,)

    await asyncio.to_thread(until, ask, what=what, within=SETTLED_WITHIN)


async def attack(fleet: Fleet, postgres: EmbeddedPostgres, kills: int) -> None:
    """Kill one process after another, and Postgres once in the middle; each comes back a moment later.

    The seed decides whom, and how long after there is work under way.
    """
    chance = random.Random(SEED)
    victims = fleet.victims(SEED)
    for number in range(kills):
        await holds(postgres.url, UNDER_WAY, what="a job under a live lease")
        await asyncio.sleep(chance.uniform(0.0, 0.3))
        victim: Process = next(victims)
        victim.kill()
        if number == kills // 2:
            await asyncio.to_thread(postgres.restart, "immediate")
        await asyncio.sleep(chance.uniform(0.0, 0.4))
        victim.start()


def check(url: str, producers: Producers, effects: Path) -> None:
    """Hold the database and the file against what the producers were told."""
    with psycopg.connect(url) as connection:
        orders = {row[0] for row in connection.execute("select id from chaos.orders")}
        jobs = connection.execute(
            "select (payload->>'order_id')::bigint, state, attempt, jsonb_array_length(errors) from outboxkit.jobs"
        ).fetchall()
        shipments = Counter(row[0] for row in connection.execute("select order_id from chaos.shipments"))
        letters = connection.execute("select kind, stage, reason, last_error from outboxkit.dead_letters").fetchall()
    outside = {int(line.split()[0]) for line in effects.read_text().splitlines()}
    assert producers.acknowledged <= orders, "an acknowledged order is gone"
    assert not producers.rolled_back & orders, "a rolled-back order is there"
    assert Counter(order for order, *_ in jobs) == Counter(orders), "not exactly one job for each order (G1)"
    assert letters == [], "a kill is nobody's fault"
    assert {state for _, state, *_ in jobs} == {"succeeded"}, "a job did not end (G2, G4)"
    assert shipments == Counter(orders), "not exactly one shipment for each order (G3)"
    assert outside >= orders, "an effect outside is missing"
    assert not outside - orders, "a rolled-back job ran"
    for order, _, attempt, errors in jobs:
        assert attempt - 1 == min(errors, 20), f"order {order}: {attempt} attempts but {errors} failures in its history"
    assert max(attempt for _, _, attempt, _ in jobs) > 1, "no job was interrupted: the kills hit nothing"


async def test_kills_lose_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SIGKILL of web, relays and workers and a crash of Postgres, at instants a seed decides: every order ships once."""
    with EmbeddedPostgres() as postgres:
        upgrade(postgres.url)
        with psycopg.connect(postgres.url) as connection:
            connection.execute(SCHEMA)
        fleet = Fleet(postgres.url, tmp_path)
        producers, stop = Producers(fleet.web_port, SEED), asyncio.Event()
        with fleet.running():
            await ready(fleet.web_port)
            producing = asyncio.create_task(producers.produce(stop))
            await attack(fleet, postgres, KILLS)
            stop.set()
            await producing
            await holds(postgres.url, SETTLED, what="every job to end and the outbox to empty")
        check(postgres.url, producers, fleet.effects)
    with capsys.disabled():
        killed = ", ".join(f"{process.name} {process.kills}" for process in fleet.processes)
        print(f"\nseed {SEED}: {len(producers.acknowledged)} orders acknowledged; kills: {killed}, Postgres 1")  # noqa: T201 (the run's figures)
