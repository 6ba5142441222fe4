"""The conformance suite: holds any worker, in any language, against `openapi/process-job.yaml`.

`outboxkit conformance URL` runs it from a shell, `outboxkit_contracts.testing` from pytest. From Python:

    for result in run(Target(url="http://localhost:8080", secret="…", jobs=CommandJobs("./new-job {need}"))):
        print(result.outcome, result.check.title, result.message)

Needs the extra `contracts`. The suite sends requests and makes jobs of its own; it never touches others. If it dies, what it
had started stays with the worker: jobs that are running, and jobs that are due in an hour.

- `target`: what is checked, and how far
- `jobs`, `database`: where jobs come from
- `suite`: the checks, and how they are run; `checks/` has them
- `probe`, `wire`: what sends requests, over HTTP and as bytes
- `reports`: results as JUnit XML, JSON and HTML
"""

from outboxkit_contracts.conformance.jobs import CannotMake, CommandJobs, Jobs, MakingFailed, Need, NoJobs
from outboxkit_contracts.conformance.suite import Check, Result, run, run_check, select
from outboxkit_contracts.conformance.target import Level, Target

__all__ = [
    "CannotMake",
    "Check",
    "CommandJobs",
    "Jobs",
    "Level",
    "MakingFailed",
    "Need",
    "NoJobs",
    "Result",
    "Target",
    "run",
    "run_check",
    "select",
]
