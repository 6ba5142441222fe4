"""What the figures were measured on."""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

DISTRIBUTIONS = ("psycopg", "sqlalchemy", "aiohttp", "litestar", "uvicorn", "uvloop", "msgspec")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The date, the machine and the versions. `load` is what it was busy with before we came (processes, one minute)."""

    date: str
    cpu: str
    cores: int
    load: float
    python: str
    packages: Mapping[str, str]
    postgres: str
    settings: Mapping[str, str]

    def lines(self) -> list[str]:
        """A few lines for the head of a report."""
        return [
            f"{self.date}, {self.cores} cores ({self.cpu}), Postgres on the same ones; load before {self.load:.1f}",
            f"Python {self.python}, " + ", ".join(f"{name} {number}" for name, number in self.packages.items()),
            f"PostgreSQL {self.postgres}, " + ", ".join(f"{name}={value}" for name, value in self.settings.items()),
        ]


def describe(postgres: str, settings: Mapping[str, str]) -> Machine:
    """This machine, now; version and settings are what the server itself says."""
    return Machine(
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        cpu=cpu_model(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        load=os.getloadavg()[0],
        python=platform.python_version(),
        packages={name: version(name) for name in DISTRIBUTIONS},
        postgres=postgres,
        settings=settings,
    )


def cpu_model() -> str:
    """The processor's name as Linux has it, else what the platform calls it."""
    information = Path("/proc/cpuinfo")
    for line in information.read_text().splitlines() if information.exists() else ():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return " ".join(value.split())
    return platform.processor() or platform.machine()
