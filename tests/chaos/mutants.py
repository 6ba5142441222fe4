"""Proof that the chaos program bites: a mechanism is taken out of a copy of the kit, and the run must then fail.

`python -m chaos.mutants` tries them all and prints killed or survived, and the invariant that noticed.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).parents[2]
COPIED = ("src", "migrations", "openapi", "deploy", "tests")
QUERIES = "src/outbox/outboxkit/queries"
MIGRATION = "migrations/outboxkit/0001_initial.sql"
LONGEST = 180
# Seconds in which a healthy kit settles after these few faults many times over.
SETTLED_WITHIN = 15


class Edit(NamedTuple):
    """What is replaced in one file, by a regular expression that must match."""

    file: str
    pattern: str
    replacement: str = ""


class Mutant(NamedTuple):
    """The kit without one mechanism; what strikes it, how often; and the invariants of which one must notice."""

    without: str
    edits: Sequence[Edit]
    faults: Sequence[str]
    noticed_by: frozenset[str]
    times: int = 1


# Cloud Tasks alone: in the other modes, and when workers look after what is overdue, what it loses comes back as well.
ALONE = [
    Edit("tests/chaos/modes.py", r"\(\(\"http\", .*\)\)$", '(("cloud-tasks", 60.0),)'),
    Edit("tests/chaos/processes.py", r"(?<=\"WORKER_SAFETY_POLL_SECONDS\": )\"8\"", '"600"'),
]

MUTANTS = [
    Mutant(
        "the fence of completions",
        [
            Edit(MIGRATION, r"(?<=where id = job) and attempt = token and leased_by = worker and state = 'running'"),
            Edit(f"{QUERIES}/complete_attempts.sql", r" and j\.attempt = d\.attempt and .*state = 'running'"),
            Edit(f"{QUERIES}/end_attempt.sql", r" and attempt = %\(attempt\)s and .*state = 'running'"),
        ],
        ["freeze worker.in-handler", "freeze worker.before-completion"],
        frozenset({"exactly once", "one holder"}),
        times=5,  # now and then a zombie's heartbeat is faster than its completion
    ),
    Mutant(
        "completion in the handler's transaction",
        [Edit("src/worker/outboxkit_worker/session.py", r"info\[_COMPLETION\] = ", "_ = ")],
        ["calm"],
        frozenset({"exactly once"}),
    ),
    Mutant(
        "the sweep of expired leases",
        [Edit(f"{QUERIES}/sweep_expired_leases.sql", r"where state = 'running'\n", "where false\n")],
        ["kill worker.in-handler"],
        frozenset({"nothing vanishes"}),
    ),
    Mutant(
        "the sweep's look at the lease",
        [Edit(f"{QUERIES}/sweep_expired_leases.sql", r"lease_until < \(select clock_timestamp\(\)\)", "true")],
        ["calm"],
        frozenset({"one holder"}),
    ),
    Mutant(
        "the sweep's bound on attempts",
        [Edit(f"{QUERIES}/sweep_expired_leases.sql", r"attempt < max_attempts", "true")],
        ["calm"],
        frozenset({"nothing vanishes"}),
    ),
    Mutant(
        "heartbeats",
        [Edit("src/worker/outboxkit_worker/heartbeats.py", r"if runs and not self\._stopping:", "if False:")],
        ["calm"],
        frozenset({"nothing vanishes"}),
    ),
    Mutant(
        "the fence of settlements",
        [
            Edit(f"{QUERIES}/{name}.sql", r" and o\.claims = s\.claims")
            for name in ("ack_triggers", "retry_triggers", "give_back_triggers")
        ],
        ["freeze relay.before-retry"],
        frozenset({"settled by its holder"}),
        times=3,  # now and then a worker is faster than the other relay
    ),
    Mutant(
        "the breaker",
        [
            Edit(
                "src/relay/outboxkit_relay/breaker.py",
                r"BELIEVED_REFUSALS: Final = 4",
                "BELIEVED_REFUSALS: Final = 10**9",
            ),
            Edit("src/relay/outboxkit_relay/breaker.py", r"if self\.state is State\.PROBING or .*:", "if False:"),
        ],
        ["workers answer 400"],
        frozenset({"a broken endpoint costs nothing"}),
        times=3,
    ),
    Mutant(
        "the trigger in the job's transaction",
        [
            Edit(
                MIGRATION, r"    insert into outboxkit\.outbox \(.*\n    values .*;\n    return job;", "    return job;"
            )
        ],
        ["calm"],
        frozenset({"one write"}),
    ),
    Mutant(
        "the time at which what was handed over is looked for",
        [*ALONE, Edit(f"{QUERIES}/hand_over_triggers.sql", r"rescue_at = greatest\(.*,\n", "rescue_at = null,\n")],
        ["tasks vanished"],
        frozenset({"nothing vanishes"}),
    ),
    Mutant(
        "the sweep of what Cloud Tasks has lost",
        [*ALONE, Edit(f"{QUERIES}/sweep_stranded.sql", r"(?<=where j\.state = 'queued'\n)", "      and false\n")],
        ["kill Cloud Tasks"],
        frozenset({"nothing vanishes"}),
    ),
]


class Verdict(NamedTuple):
    """What came of one mutant."""

    killed: bool
    invariants: list[str]
    output: str


def copied(folder: Path, mutant: Mutant) -> None:
    """Copy what a run needs, and take the mechanism out of the copy."""
    for name in COPIED:
        shutil.copytree(CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for edit in mutant.edits:
        file = folder / edit.file
        text, count = re.subn(edit.pattern, edit.replacement, file.read_text(), flags=re.MULTILINE)
        assert count, f"{edit.file}: nothing looks like {edit.pattern}"
        file.write_text(text)


def attacked(mutant: Mutant) -> Verdict:
    """Run the chaos program on the mutant."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        folder = Path(name)
        copied(folder, mutant)
        only = [word for fault in mutant.faults for word in ("--only", fault)]
        options = [f"--times={mutant.times}", f"--settled-within={SETTLED_WITHIN}", *only]
        path = os.pathsep.join(str(package) for package in sorted((folder / "src").iterdir()))
        done = subprocess.run(
            [sys.executable, "-m", "chaos", *options],
            cwd=folder / "tests",
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
        )
    invariants = re.findall(r"^VIOLATED +([^:]+):", done.stdout, re.MULTILINE)
    return Verdict(bool(mutant.noticed_by & {*invariants}), invariants, done.stdout + done.stderr)


def main() -> int:
    """Try every mutant, or those that are named, two at a time; 1 when one survives."""
    wanted = sys.argv[1:]
    mutants = [mutant for mutant in MUTANTS if not wanted or mutant.without in wanted]
    survived = 0
    with ThreadPoolExecutor(2) as pool:
        for mutant, verdict in zip(mutants, pool.map(attacked, mutants), strict=True):
            survived += not verdict.killed
            noticed = ", ".join(verdict.invariants)
            print(f"{'killed' if verdict.killed else 'SURVIVED':10}without {mutant.without}: {noticed}", flush=True)  # noqa: T201 (a program that prints)
            if not verdict.killed:
                print(verdict.output, flush=True)  # noqa: T201 (to see why)
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main())
