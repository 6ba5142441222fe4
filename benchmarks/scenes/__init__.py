"""The scenes, by name, in the order in which they are played."""

from collections.abc import Mapping

from benchmarks.scenes import drain, end_to_end, enqueue, latency
from benchmarks.scenes.bench import Scene

SCENES: Mapping[str, Scene] = {
    "enqueue": enqueue.play,
    "drain": drain.play,
    "end-to-end": end_to_end.play,
    "latency": latency.play,
}
