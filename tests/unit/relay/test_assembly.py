"""How the ways out of the outbox are put together from the settings."""

from outboxkit.modes import Mode
from outboxkit.settings import read_settings
from outboxkit_relay.assembly import Way, cloud_tasks_ways
from outboxkit_relay.cloud_tasks import CloudTasksConnection
from outboxkit_relay.rate import TokenBucket
from outboxkit_relay.settings import RelaySettings
from outboxkit_relay.transport_settings import GOOGLE
from outboxkit_relay.triggers import Queues

TASKS = {
    "DATABASE_URL": "postgres://user:pass@db/app",
    "WORKER_TRIGGER_URL": "https://worker.example",
    "CLOUD_TASKS_PROJECT": "my-project",
    "CLOUD_TASKS_LOCATION": "europe-west1",
    "CLOUD_TASKS_QUEUE": "jobs",
}


def ways(limit: TokenBucket | None = None, **environ: str) -> list[Way]:
    """The ways to Cloud Tasks; nothing is connected."""
    settings = read_settings(RelaySettings, {**TASKS, **environ})
    return list(cloud_tasks_ways(settings, limit, CloudTasksConnection(endpoint=GOOGLE, emulator=None)))


def test_a_queue_begins_with_500_a_second() -> None:
    """The ramp is on unless it is turned off."""
    [way] = ways()
    assert way.mode is Mode.CLOUD_TASKS
    assert way.rate is not None
    assert way.rate.available() == 500
    [without] = ways(CLOUD_TASKS_RAMP="no")
    assert without.rate is None


def test_a_limit_holds_beside_the_ramp() -> None:
    """RELAY_RATE_LIMIT is for all that the relay sends, the ramp for one queue."""
    shared = TokenBucket(100)
    [way] = ways(shared)
    assert way.rate is not None
    assert way.rate.available() == 100
    way.rate.spend(100)
    assert shared.available() < 10


def test_two_workers_behind_one_queue_share_its_ramp() -> None:
    """The limit is the queue's, whoever is called; another queue has its own."""
    one, two, other = ways(
        TRIGGER_ROUTES='{"a": "https://a.example", "b": {"cloudTasksQueue": "slow"}}',
    )
    assert (one.queues, two.queues, other.queues) == (
        Queues(besides=("a", "b")),
        Queues(only=("a",)),
        Queues(only=("b",)),
    )
    assert one.rate is two.rate
    assert other.rate is not one.rate
    assert other.name == "projects/my-project/locations/europe-west1/queues/slow for https://worker.example/process-job"


def test_a_mode_that_is_not_configured_has_no_way() -> None:
    """Nothing is sent to a queue without a name."""
    assert ways(CLOUD_TASKS_QUEUE="") == []
