"""Clients that place orders at a steady rate, roll some back on purpose, and remember what they were told."""

import asyncio
import random

import httpx

# How often each kind is ordered, in a thousand.
KINDS = {"SHIP": 740, "NOTE": 150, "FLAKY": 60, "SLOW": 30, "HOPELESS": 16, "POISON": 4}
ROLLED_BACK = 0.1
CLIENTS = 3
PAUSE = (0.04, 0.16)
TIMEOUT = 3.0


class Producers:
    """Places orders with one web process, which may be down."""

    def __init__(self, port: int, *, seed: int) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._chance = random.Random(seed)
        self.placed = 0
        self.acknowledged: set[int] = set()
        """Orders that were answered with success: they must stand."""
        self.rolled_back: set[int] = set()
        """Orders that were refused on purpose, after they had been written: they must be gone."""

    @property
    def unknown(self) -> int:
        """Orders without an answer: either is right, as long as order and job agree."""
        return self.placed - len(self.acknowledged) - len(self.rolled_back)

    async def produce(self, stop: asyncio.Event) -> None:
        """Place orders until told to stop."""
        async with httpx.AsyncClient(base_url=self._url, timeout=TIMEOUT, trust_env=False) as client:
            await asyncio.gather(*(self._one_by_one(client, stop) for _ in range(CLIENTS)))

    async def _one_by_one(self, client: httpx.AsyncClient, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self.placed += 1
            order, rollback = self.placed, self._chance.random() < ROLLED_BACK
            [kind] = self._chance.choices([*KINDS], weights=[*KINDS.values()])
            if order <= len(KINDS):  # every run, however short, has one of each
                kind, rollback = [*KINDS][order - 1], False
            try:
                answer = await client.post(f"/orders/{order}", params={"kind": kind, "rollback": rollback})
            except httpx.TransportError:
                answer = None  # the web process is being killed or started
            if answer is not None and answer.status_code == httpx.codes.CREATED:
                self.acknowledged.add(order)
            elif answer is not None and answer.status_code == httpx.codes.CONFLICT:
                self.rolled_back.add(order)
            await asyncio.sleep(self._chance.uniform(*PAUSE))
