"""The kit as it is deployed: a wheel in an image, worker and relay in containers that only a network joins."""

from collections.abc import Sequence
from uuid import UUID

from contract.containers.deployment import Deployment, Role, deployed
from waiting import until


def test_the_containers_do_their_jobs_whatever_is_stopped(worker_image: str) -> None:
    """Jobs are done, once each, though worker and relay are stopped and killed amid them, and nothing is left over."""
    with deployed(worker_image) as deployment:
        jobs = deployment.enqueue("NOTE", 50)
        deployment.wait("succeeded", jobs)
        jobs += worker_is_stopped_and_killed(deployment)
        jobs += relay_is_stopped(deployment)
        assert sorted(deployment.effects()) == sorted(jobs)
        until(deployment.nothing_is_left, what="the last triggers to be settled")
        for role in (deployment.worker, deployment.relay):
            is_locked_down(role)
            tells_no_secret(role, deployment.secrets)


def worker_is_stopped_and_killed(deployment: Deployment) -> list[UUID]:
    """A worker that is told to stop gives its jobs back; those of a killed one are taken up once their lease is over."""
    jobs = deployment.enqueue("HOLD", 20)
    deployment.wait("running", jobs)
    assert deployment.worker.stop() == 0
    assert set(deployment.column("state", jobs)) == {"queued"}
    assert set(deployment.column("max_attempts", jobs)) == {6}, "a give-back costs no attempt"
    deployment.worker.start()
    deployment.wait("running", jobs)
    deployment.worker.kill()
    deployment.worker.start()
    deployment.open_gate()
    deployment.wait("succeeded", jobs)
    return jobs


def relay_is_stopped(deployment: Deployment) -> list[UUID]:
    """What is enqueued while no relay runs is done when one runs again."""
    assert deployment.relay.stop() == 0
    jobs = deployment.enqueue("NOTE", 10)
    deployment.relay.start()
    deployment.wait("succeeded", jobs)
    return jobs


def is_locked_down(role: Role) -> None:
    """It runs as nobody in particular, on a file system that it cannot write to, and publishes no port."""
    docker = role.docker
    assert docker.status == "running"
    assert docker.exec_run(["python3", "-c", "import os; print(os.getuid(), os.getgid())"]).output == b"10001 10001\n"
    assert docker.attrs["HostConfig"]["ReadonlyRootfs"]
    assert docker.ports == {}


def tells_no_secret(role: Role, secrets: Sequence[str]) -> None:
    """Whatever happened to it, it printed something, and never a secret."""
    output = role.output()
    assert output
    for secret in secrets:
        assert secret not in output
