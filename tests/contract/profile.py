"""How much is generated in the fuzzing of both APIs, and how: the same cases in every run."""

import os

import hypothesis

EXAMPLES = int(os.environ.get("CONTRACT_EXAMPLES", "500"))
"""For each operation."""

# For the stateful tests; the others have theirs from schemathesis.
STATEFUL = hypothesis.settings(
    max_examples=max(EXAMPLES // 10, 1),
    stateful_step_count=6,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
