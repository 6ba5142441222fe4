"""The headers of a dispatch, and what an answer asks for."""

import pytest

from outboxkit_cli.cloud_tasks.headers import dispatch_headers, retry_after
from outboxkit_cli.cloud_tasks.tasks import HttpRequest, Task

# RFC 9110's own example, and five minutes before it.
DATE = "Fri, 31 Dec 1999 23:59:59 GMT"
NOW = 946_684_799.0 - 300


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("120", 120),
        ("0", 0),
        (DATE, 300),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
    ],
)
def test_seconds_and_dates(value: str, expected: float) -> None:
    """Both forms of RFC 9110 count; a date that has passed asks for nothing."""
    assert retry_after({"Retry-After": value}, NOW) == expected


@pytest.mark.parametrize("value", ["", "soon", "-5", "1.5", "²", "31 Dec"])
def test_what_is_neither_is_left_alone(value: str) -> None:
    """An illegible wish is none."""
    assert retry_after({"Retry-After": value}, NOW) is None
    assert retry_after({}, NOW) is None


def test_a_token_takes_the_place_of_the_task_s_own_authorization() -> None:
    """However that is spelt; without a token it is sent."""
    request = HttpRequest(url="http://worker", headers={"authorization": "mine"})
    task = Task(name="projects/p/locations/l/queues/q/tasks/t", request=request, scheduled=0, created=0)
    attempt = task.begin(0)
    sent = [dispatch_headers(task, attempt, token=token) for token in ("signed", None)]
    found = [{name: value for name, value in each.items() if name.lower() == "authorization"} for each in sent]
    assert found == [{"Authorization": "Bearer signed"}, {"authorization": "mine"}]
