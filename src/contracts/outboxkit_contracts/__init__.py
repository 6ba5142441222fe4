"""The protocol between whatever triggers a job and the worker that runs it.

`openapi/process-job.yaml` is the source of truth; the modules here say the same in Python, and tests hold
the two together. The package needs msgspec alone, so that a worker, a relay or a stand-in for either can
import it:

- `messages`: the trigger, the answer, and what the health addresses say
- `problems`: RFC 9457 problem documents and every problem type
- `actions`: what a relay does about an answer
- `headers`: header names, and parsers for `Prefer` and `Retry-After`
- `document`: the OpenAPI document itself
"""

from outboxkit_contracts.actions import Action, Verdict, classify
from outboxkit_contracts.messages import (
    MAX_HEADER_BYTES,
    MAX_REQUEST_SECONDS,
    MAX_TRIGGER_BYTES,
    Answer,
    Health,
    JobState,
    MalformedTrigger,
    Readiness,
    Trigger,
    WorkerReadiness,
    encode_trigger,
    parse_answer,
    parse_trigger,
)
from outboxkit_contracts.problems import PROBLEM_JSON, Flaw, Problem, ProblemType, parse_problem

__all__ = [
    "MAX_HEADER_BYTES",
    "MAX_REQUEST_SECONDS",
    "MAX_TRIGGER_BYTES",
    "PROBLEM_JSON",
    "Action",
    "Answer",
    "Flaw",
    "Health",
    "JobState",
    "MalformedTrigger",
    "Problem",
    "ProblemType",
    "Readiness",
    "Trigger",
    "Verdict",
    "WorkerReadiness",
    "classify",
    "encode_trigger",
    "parse_answer",
    "parse_problem",
    "parse_trigger",
]
