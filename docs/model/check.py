#!/usr/bin/env python3
"""Has spin check the models in this folder: the design must keep its promises, and without a rule one of them must break.

    docs/model/check.py             every check within small bounds: half a minute on two cores
    docs/model/check.py --long      the design within larger bounds: minutes, and gigabytes of memory
    docs/model/check.py --trail 12  the steps by which check 12 breaks its promise, or gets where it has to

Needs spin and a C compiler. Exit status: 0 everything came out as expected; 1 something did not, or a search was cut off
before it was exhaustive; 2 a tool is missing.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
MODELS = ("protocol.pml", "statements.pml", "locks.pml", "rearm.pml")

HOLDS, BREAKS, REACHED = "holds", "breaks", "reached"

# What the verifier prints when a search was not exhaustive.
CUT_OFF = (
    "max search depth too small",
    "reached -DMEMLIM",
    "out of memory",
    "Search not completed",
    "aborted",
    "interrupted",
)


class Search(NamedTuple):
    """A way to search: how the verifier is built and started, and what it says about itself then."""

    build: tuple[str, ...]
    arguments: tuple[str, ...]
    announced: tuple[str, ...]


STATES = Search(("-O2", "-DSAFETY"), (), ("Full statespace search", "assertion violations\t+", "invalid end states\t+"))
CYCLES = Search(("-O2", "-DNP"), ("-l",), ("Full statespace search", "non-progress cycles \t+"))
# Breadth first: the error it finds is the nearest. Not optimized: it stops early, and compiling would take longer.
NEAREST = Search(("-O0", "-DSAFETY", "-DBFS"), ("-w20",), ("assertion violations\t+", "invalid end states\t+"))
LASSO = Search(("-O0", "-DNP"), ("-l", "-w20"), ("non-progress cycles \t+",))

# Where a step begins in a model; spin tells of every assignment within it too.
STEP = re.compile(r"(d_step|atomic) \{.*(->|;)|^LOSE|^FOR_EACH_ROW")

# How the verifier prints each promise of protocol.pml.
PROMISES = {
    "NOTHING_VANISHES": "||(rows>0))",
    "LETTER_IS_TRUE": "(dead_letters==(state==",
    "DEAD_IS_NOT_RUN": "||(dead_letters==0))",
    "ONE_LIVE_LEASE": "(live[0]&&live[1])",
    "TOKENS_DIFFER": "(token[0]!=token[1])",
    "ATTEMPT_NEVER_FALLS": "(attempt>=highest)",
    "ONCE": "(effects==(state==",
    "NO_STALE_WRITE": "!(stale_write)",
    "SETTLED_AT_REST": "(dead_letters==1)))",
}


class Check(NamedTuple):
    """One model with these macros defined, a way to search it, and what must come of it."""

    name: str
    macros: tuple[str, ...]
    expected: str = HOLDS
    search: Search = STATES
    error: str = ""
    """What the verifier must say is wrong; with any other error the check has failed."""
    model: str = "protocol.pml"


class Limits(NamedTuple):
    """Beyond these a search is cut off, which fails its check."""

    seconds: float
    megabytes: int
    steps: int = 100_000


class Result(NamedTuple):
    """What came of a check."""

    verdict: str
    as_expected: bool
    states: str = "-"
    depth: str = "-"
    seconds: float = 0.0


def design(name: str, *macros: str) -> Check:
    """The design as it is, in every state that it can get into."""
    return Check(f"{name}: G2, G3, settled at rest", macros)


def ends(name: str, *macros: str) -> Check:
    """The design as it is has no run without an end: the other half of G4."""
    return Check(f"{name}: every run ends", macros, search=CYCLES)


def without(rule: str, promise: str, *macros: str) -> Check:
    """Without a rule this promise breaks."""
    macros = (rule, f"ONLY={promise}", *macros)
    return Check(f"{rule}: {promise}", macros, BREAKS, NEAREST, PROMISES[promise])


def endless(rule: str, transport: str) -> Check:
    """Without a rule some run never ends, though nothing else goes wrong."""
    macros = (rule, transport, "ONLY=NOTHING", "FAULTS=0", "REPLAYS=0")
    return Check(f"{rule}: every run ends", macros, BREAKS, LASSO, "non-progress cycle")


def reached(place: str, *macros: str, model: str = "protocol.pml") -> Check:
    """Some run of the design gets to this place."""
    macros = (f"REACH={place}", "ONLY=NOTHING", *macros)
    return Check(f"{Path(model).stem}: {place}", macros, REACHED, NEAREST, "assertion violated", model)


def locks(*rules: str) -> Check:
    """Without these rules there is a deadlock."""
    return Check(" and ".join(rules) + ": no deadlock", rules, BREAKS, NEAREST, "invalid end state", "locks.pml")


def harmless(rule: str, *macros: str, model: str = "protocol.pml") -> Check:
    """A rule without which everything holds as well: another rule covers it. Here so that nobody says otherwise."""
    return Check(f"{rule} alone", (rule, *macros), model=model)


QUICK = [
    design("cloud-tasks", "CLOUD_TASKS", "FAULTS=1"),
    ends("http", "HTTP", "FAULTS=2"),
    design("http", "HTTP", "FAULTS=2"),
    ends("cloud-tasks", "CLOUD_TASKS", "FAULTS=0"),
    design("http and pollers", "HTTP", "POLLER", "FAULTS=1"),
    design("http, job locked", "HTTP", "BYSTANDER", "FAULTS=1"),
    ends("db", "DB", "FAULTS=2"),
    design("db", "DB", "FAULTS=2"),
    Check("lock order: no deadlock", (), model="locks.pml"),
    Check("two sweeps: one trigger", (), model="rearm.pml"),
    endless("NO_ATTEMPT_BOUND", "HTTP"),
    endless("STRANDED_BY_RUN_AT", "CLOUD_TASKS"),
    endless("NO_RESCUE_BOUND", "CLOUD_TASKS"),
    without("LETTER_LEAVES_JOB_QUEUED", "DEAD_IS_NOT_RUN", "HTTP"),
    without("LETTER_FOR_ANY_STATE", "DEAD_IS_NOT_RUN", "HTTP"),
    without("UPSERT_SAME_ROW", "NOTHING_VANISHES", "HTTP", "NO_TRIGGER_LOCKED"),
    without("CLAIM_SKIP_LOCKED_ACKED", "NOTHING_VANISHES", "HTTP", "BYSTANDER"),
    without("GIVE_BACK_LOWERS_ATTEMPT", "ATTEMPT_NEVER_FALLS", "DB"),
    without("GIVE_BACK_LOWERS_ATTEMPT", "TOKENS_DIFFER", "DB"),
    without("REPLAY_LOWERS_ATTEMPT", "TOKENS_DIFFER", "DB", "FAULTS=0"),
    without("SESSION_LOCK_SWEEPER", "SETTLED_AT_REST", "DB"),
    without("COMMIT_APART", "SETTLED_AT_REST", "DB"),
    without("NO_FENCE", "ONCE", "DB", "FAULTS=0"),
    without("NO_FENCE", "ONE_LIVE_LEASE", "DB", "FAULTS=0"),
    without("FENCE_BY_STATE_ALONE", "NO_STALE_WRITE", "DB", "FAULTS=0"),
    without("FENCE_WITHOUT_STATE", "LETTER_IS_TRUE", "DB", "FAULTS=0"),
    without("NO_LEASE_CHECK", "ONE_LIVE_LEASE", "DB", "FAULTS=0"),
    without("NO_LEASE_SWEEP", "SETTLED_AT_REST", "DB", "FAULTS=0"),
    without("NO_STRANDED_SWEEP", "SETTLED_AT_REST", "CLOUD_TASKS"),
    without("HAND_OVER_APART", "SETTLED_AT_REST", "CLOUD_TASKS"),
    without("LETTER_APART", "SETTLED_AT_REST", "DB", "FAULTS=1"),
    without("TWO_WRITES", "SETTLED_AT_REST", "HTTP"),
    locks("CLAIM_UNORDERED"),
    locks("COMPLETION_UNORDERED"),
    locks("HEARTBEAT_UNORDERED_WAITS"),
    locks("SETTLEMENT_WAITS"),
    locks("CLAIM_WAITS_FOR_TRIGGERS", "BURIAL_LOCKS_TRIGGER_FIRST"),
    Check("RESCUE_NOT_WRITTEN: one trigger", ("RESCUE_NOT_WRITTEN",), BREAKS, NEAREST, "(rows==1)", "rearm.pml"),
    harmless("NO_TRIGGER_FENCE", "HTTP", "FAULTS=2"),
    harmless("CLAIM_WAITS_FOR_TRIGGERS", model="locks.pml"),
    harmless("BURIAL_LOCKS_TRIGGER_FIRST", model="locks.pml"),
    harmless("HEARTBEAT_WAITS", model="locks.pml"),
    harmless("WAITS_FOR_LOCK", model="rearm.pml"),
    reached("SUCCESS_AFTER_CRASH", "DB", "FAULTS=0"),
    reached("STALE_COMPLETION_REFUSED", "DB", "FAULTS=0"),
    reached("LATE_ACK_REFUSED", "HTTP"),
    reached("REPLAY_SUCCEEDS", "DB", "FAULTS=0"),
    reached("TRIGGER_BURIED", "HTTP"),
    reached("BURIAL_FINDS_JOB_RUNNING", "HTTP"),
    reached("EXPIRY_BURIED", "DB", "FAULTS=0"),
    reached("TRIGGER_LEFT_BEHIND", "HTTP"),
    reached("GIVEN_BACK_SUCCEEDS", "DB"),
    reached("CLAIM_WAITS", "HTTP", "BYSTANDER"),
    reached("RESCUE_SUCCEEDS", "CLOUD_TASKS", "FAULTS=0"),
    reached("STRANDED_BURIED", "CLOUD_TASKS", "FAULTS=0"),
    reached("TASK_EXISTS_ALREADY", "CLOUD_TASKS"),
    reached("SURVIVORS_SUCCEED", "HTTP", "FAULTS=3"),
    reached("WAITS", model="locks.pml"),
    reached("SKIPS", model="locks.pml"),
    reached("SKIPPED", model="rearm.pml"),
    reached("SEEN_AGAIN", model="rearm.pml"),
]

LONG = [
    design("http, 4 faults", "HTTP", "FAULTS=4"),
    ends("http, 3 faults", "HTTP", "FAULTS=3"),
    design("http, 3 attempts, 2 replays, 3 faults", "HTTP", "MAX_ATTEMPTS=3", "REPLAYS=2", "FAULTS=3"),
    design("http and pollers, 2 faults", "HTTP", "POLLER", "FAULTS=2"),
    design("http, job locked, 3 faults", "HTTP", "BYSTANDER", "FAULTS=3"),
    design("cloud-tasks, 2 faults", "CLOUD_TASKS", "FAULTS=2"),
    ends("cloud-tasks, 1 fault", "CLOUD_TASKS", "FAULTS=1"),
    design("cloud-tasks, 2 rescues, 1 fault", "CLOUD_TASKS", "STRANDED_MAX=2", "FAULTS=1"),
    design("cloud-tasks and pollers, 1 fault", "CLOUD_TASKS", "POLLER", "FAULTS=1"),
    design("db, 4 attempts, 3 replays, 3 faults", "DB", "MAX_ATTEMPTS=4", "REPLAYS=3", "FAULTS=3"),
    ends("db, 4 attempts, 3 replays, 3 faults", "DB", "MAX_ATTEMPTS=4", "REPLAYS=3", "FAULTS=3"),
]


def missing() -> list[str]:
    """The tools that are not there, each with what brings it."""
    return [
        f"{tool} is missing: apt-get install {package}"
        for tool, package in (("spin", "spin"), ("cc", "gcc"))
        if shutil.which(tool) is None
    ]


def run(command: Sequence[str], folder: Path, seconds: float) -> str:
    """What a command printed. Raises TimeoutExpired."""
    done = subprocess.run(  # noqa: S603 (spin, the compiler, and what they made)
        command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False
    )
    return done.stdout + done.stderr


def verify(check: Check, folder: Path, limits: Limits) -> str:
    """What the verifier printed; its trail, if it found an error, is in the folder."""
    for model in MODELS:
        shutil.copy(HERE / model, folder)
    made = run(["spin", *(f"-D{macro}" for macro in check.macros), "-a", check.model], folder, limits.seconds)
    built = run(
        ["cc", "-w", *check.search.build, f"-DMEMLIM={limits.megabytes}", "-o", "pan", "pan.c"], folder, limits.seconds
    )
    if not (folder / "pan").exists():
        return made + built
    return run(["./pan", f"-m{limits.steps}", *check.search.arguments], folder, limits.seconds)


def judge(check: Check, printed: str) -> Result:
    """What the verifier's words come to. Whatever is not known to be good is bad."""
    summary = re.search(r"depth reached (\d+), errors: (\d+)\n\s*(\d+) states, stored", printed)
    if summary is None or not all(words in printed for words in check.search.announced):
        return Result(f"did not run: {' '.join(printed.split())[-200:]}", as_expected=False)
    depth, errors, states = summary.groups()
    told = [line.removeprefix("pan:1: ") for line in printed.splitlines() if line.startswith("pan:1: ")]
    cut_off = [words for words in CUT_OFF if words in printed]
    if errors == "0":
        verdict = f"cut off: {cut_off[0]}" if cut_off else HOLDS
        return Result(verdict, verdict == check.expected, states, depth)
    error = told[0] if told else "an error without a name"
    if check.expected == HOLDS or check.error not in error or "(ids<" in error:
        return Result(f"wrong: {error}", as_expected=False, states=states, depth=depth)
    return Result(check.expected, as_expected=True, states=states, depth=depth)


def perform(check: Check, limits: Limits) -> Result:
    """One check from start to end, in a folder of its own."""
    started = monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = judge(check, verify(check, Path(folder), limits))
        except subprocess.TimeoutExpired:
            result = Result(f"cut off: more than {limits.seconds:.0f} s", as_expected=False)
    return result._replace(seconds=monotonic() - started)


def report(checks: Sequence[Check], limits: Limits, at_once: int) -> bool:
    """Perform them all, and print a line each; returns whether all came out as expected."""
    width = max(len(check.name) for check in checks)
    good = True
    started = monotonic()
    sys.stdout.write(f"  # {'check':{width}}  expected  verdict  {'states':>9}  depth  seconds\n")
    with ThreadPoolExecutor(at_once) as pool:
        for number, (check, result) in enumerate(
            zip(checks, pool.map(lambda one: perform(one, limits), checks), strict=True), start=1
        ):
            good = good and result.as_expected
            sys.stdout.write(
                f"{number:3} {check.name:{width}}  {check.expected:8}  {result.verdict:7}  "
                f"{result.states:>9}  {result.depth:>5}  {result.seconds:7.1f}{'' if result.as_expected else '  <-- !'}\n"
            )
            sys.stdout.flush()
    sys.stdout.write(f"{'as expected' if good else 'NOT as expected'}, {monotonic() - started:.0f} s\n")
    return good


def steps(trail: str) -> Iterator[str]:
    """A trail as spin prints it, made readable: who took each step, and the line of the model where it begins."""
    source = {model: (HERE / model).read_text().splitlines() for model in MODELS}
    instances = sorted(set(re.findall(r"proc +(\d+) \((\w+):1\)", trail)), key=lambda instance: int(instance[0]))
    last = ""
    for line in trail.splitlines():
        if "START OF CYCLE" in line:
            yield "from here on, again and again:"
        found = re.match(r" *(\d+):\s+proc +(\d+) \((\w+):1\) (\S+?):(\d+) .*?\[(.*)\]", line)
        if found is None or found[1] == last:
            continue
        last, process, proctype, model, place, done = found.groups()
        begins = source[model][int(place) - 1].strip()
        if not STEP.search(begins):
            continue
        alike = [other for other, name in instances if name == proctype]
        who = proctype if len(alike) == 1 else f"{proctype} {alike.index(process)}"
        yield f"{who:17} {begins}" + (f" {done}" if model == "locks.pml" else "")


def show(check: Check, limits: Limits) -> None:
    """Print a check's trail."""
    with tempfile.TemporaryDirectory() as folder:
        result = judge(check, verify(check, Path(folder), limits))
        sys.stdout.write(f"{check.name}: {result.verdict}\n")
        if (Path(folder) / f"{check.model}.trail").exists():
            macros = [f"-D{macro}" for macro in check.macros]
            trail = run(["spin", *macros, "-t", "-p", check.model], Path(folder), limits.seconds)
            sys.stdout.writelines(f"  {step}\n" for step in steps(trail))


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--long", action="store_true", help="larger bounds: minutes, and gigabytes of memory")
    parser.add_argument("--trail", type=int, metavar="N", help="show the steps of check N")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="checks at a time")
    options = parser.parse_args()
    if absent := missing():
        sys.stderr.write("\n".join(absent) + "\n")
        return 2
    checks, limits = (LONG, Limits(3600, 12_000)) if options.long else (QUICK, Limits(100, 2_000))
    if options.trail is not None and not 1 <= options.trail <= len(checks):
        parser.error(f"there are checks 1 to {len(checks)}")
    if options.trail is not None:
        show(checks[options.trail - 1], limits)
        return 0
    return 0 if report(checks, limits, options.jobs) else 1


if __name__ == "__main__":
    sys.exit(main())
