"""Which checks notice which broken worker: these, and no others, so that a fault is reported where it is."""

from typing import Final

# These send triggers for jobs that do not exist, to see that they are understood.
ASK_FOR_UNKNOWN_JOBS: Final = (
    "credentials.right",
    "request.media-type-spelling",
    "request.largest",
    "request.unknown-members",
    "request.spelling",
    "request.headers",
    "jobs.unknown",
)
REFUSED: Final = ("credentials.missing", "credentials.wrong", "credentials.elsewhere", "credentials.first")
MALFORMED: Final = ("request.not-json", "request.not-a-trigger", "request.not-utf-8", "request.nesting")
PROBLEMS: Final = (
    *ASK_FOR_UNKNOWN_JOBS,
    *REFUSED,
    *MALFORMED,
    "health.methods",
    "request.media-type",
    "request.too-large",
    "request.methods",
    "request.wrong-path",
)
ACCEPTED: Final = ("jobs.accepted", "jobs.settled", "jobs.settled-duplicate")

CAUGHT: Final[dict[str, tuple[str, ...]]] = {
    # What becomes of a job.
    "answers before it claims": ("jobs.accepted",),
    "leaves the trigger in the outbox": ("jobs.accepted",),
    "runs duplicates again": ("jobs.settled-duplicate",),
    "calls duplicates its own": ("jobs.settled-duplicate", "jobs.concurrent", "jobs.running-duplicate"),
    "settles without a fence": ("jobs.fence",),
    "says done before it is": ("jobs.settled", "jobs.settled-duplicate", "jobs.wait-ends"),
    "always waits": ("jobs.running-duplicate",),
    "waits longer than it was asked to": ("jobs.wait-ends",),
    "answers 500 when a handler fails": ("jobs.failing",),
    "acknowledges jobs that are not due": ("jobs.not-due",),
    "acknowledges jobs that do not exist": ASK_FOR_UNKNOWN_JOBS,
    "answers about another job": ACCEPTED,
    "calls unknown kinds malformed": ("jobs.unknown-kind",),
    "takes more than it has slots for": ("capacity.full",),
    # Who may ask.
    "ignores the secret": REFUSED,
    "compares the beginning of the secret": ("credentials.wrong",),
    "tells the secret": REFUSED,
    "looks at the body first": ("credentials.first",),
    # What is read.
    "leaks 500": MALFORMED,
    "takes any media type": ("request.media-type",),
    "is strict about the media type's spelling": ("request.media-type-spelling",),
    "reads bodies of any size": ("request.too-large",),
    "refuses unknown members": ("request.largest", "request.unknown-members"),
    # What is answered.
    "sends no Retry-After": ("jobs.not-due", "capacity.full"),
    "sends no Allow": ("health.methods", "request.methods"),
    "reports errors as plain JSON": PROBLEMS,
    "shows stack traces": tuple(name for name in PROBLEMS if name != "request.too-large"),
    "answers in HTML": ACCEPTED,
    "calls wrong paths unknown jobs": ("request.wrong-path",),
    "says nothing about its secret": ("health.authentication",),
    "has another health document": ("health.alive",),
    # HTTP itself.
    "takes two lengths": ("http.lengths",),
    "reads headers of any size": ("http.large-head",),
    "hangs on a client that stops": ("http.broken-off",),
    "closes on chunks": ("request.too-large", "http.chunked"),
}
