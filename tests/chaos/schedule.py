"""Which fault strikes what, when, and for how long: everything about a run that its seed decides."""

import random
from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple

# Seconds that a fault holds at least, where it is not up to what it strikes.
HOLD = (0.3, 0.8)
# Seconds between the end of a fault and the next one.
PAUSE = (0.1, 0.4)


class Step(NamedTuple):
    """One fault: its name in the catalogue, a number from which it chooses its target, and two times in seconds."""

    fault: str
    choice: int
    hold: float
    pause: float

    def pick(self, options: Sequence[str]) -> str:
        """The target: the same for the same seed."""
        return options[self.choice % len(options)]


def steps(seed: int, faults: Sequence[str]) -> Iterator[Step]:
    """Tour after tour of the whole catalogue, each in an order of its own, for ever."""
    chance = random.Random(seed)
    for _ in count():
        for fault in chance.sample(faults, len(faults)):
            yield Step(fault, chance.randrange(1_000_000), chance.uniform(*HOLD), chance.uniform(*PAUSE))
