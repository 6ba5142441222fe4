"""outboxkit: a job and its trigger in one transaction; what producers and workers both import.

>>> handlers = Handlers()
>>> @handlers.register("GREET", max_attempts=3, timeout=60)
... async def greet(payload: dict[str, str], job: Job) -> None:
...     print(payload["name"])
"""

from outboxkit.enqueue import NewJob, enqueue, enqueue_many
from outboxkit.handlers import Fail, Handlers, Retry
from outboxkit.job import Job

__all__ = ["Fail", "Handlers", "Job", "NewJob", "Retry", "enqueue", "enqueue_many"]
