"""The registry: what it takes, and what it refuses at import."""

import dataclasses
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest

from outboxkit import Fail, Handlers, Job, Retry
from outboxkit.handlers import DEFAULT_MAX_ATTEMPTS, DEFAULT_TIMEOUT, InvalidPayload


class Struct(msgspec.Struct):
    """A Struct."""

    n: int


@dataclasses.dataclass
class Data:
    """A dataclass."""

    n: int


class Typed(TypedDict):
    """A TypedDict."""

    n: int


class Model(pydantic.BaseModel):
    """A pydantic model."""

    n: int


def handler(payload_type: Any) -> Any:
    """A handler that takes this type."""

    async def handle(payload: Any, job: Job) -> None:
        """Do nothing."""

    handle.__annotations__["payload"] = payload_type
    return handle


@pytest.mark.parametrize(
    ("payload_type", "value"),
    [(Struct, Struct(1)), (Data, Data(1)), (Typed, {"n": 1}), (Model, Model(n=1)), (dict[str, int], {"n": 1})],
)
def test_payload_types(payload_type: Any, value: Any) -> None:
    """A payload is decoded to the annotated type, and refused with the place that is wrong."""
    handlers = Handlers()
    handlers.register("K")(handler(payload_type))
    registered = handlers.get("K")
    assert registered is not None
    assert registered.decode('{"n": 1}') == value
    for wrong in ('{"n": "x"}', "[]", "not json", ""):
        with pytest.raises(InvalidPayload, match=r"^K: "):
            registered.decode(wrong)


def test_limits() -> None:
    """Limits are the decorator's, or the defaults; the function itself is handed back."""
    handlers = Handlers()
    function = handler(Struct)
    assert handlers.register("A")(function) is function
    handlers.register("B", max_attempts=2, timeout=1.5)(handler(Struct))
    limits = {one.kind: (one.max_attempts, one.timeout) for one in handlers}
    assert limits == {"A": (DEFAULT_MAX_ATTEMPTS, DEFAULT_TIMEOUT), "B": (2, 1.5)}
    assert (handlers.kinds(), len(handlers), handlers.get("C")) == (["A", "B"], 2, None)


def test_plain_functions() -> None:
    """A plain function is a handler too, and is told apart."""
    handlers = Handlers()

    @handlers.register("SYNC")
    def plain(payload: Struct, job: Job) -> None:
        """Do nothing."""

    handlers.register("ASYNC")(handler(Struct))
    assert {one.kind: one.is_async for one in handlers} == {"SYNC": False, "ASYNC": True}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"kind": ""}, "0 characters"),
        ({"kind": "k" * 201}, "201 characters"),
        ({"kind": "TAKEN"}, "registered twice"),
        ({"kind": "K", "max_attempts": 0}, "at least 1"),
        ({"kind": "K", "timeout": 0}, "more than 0 and finite"),
        ({"kind": "K", "timeout": float("inf")}, "more than 0 and finite"),
        ({"kind": "K", "timeout": float("nan")}, "more than 0 and finite"),
    ],
)
def test_refused_options(options: dict[str, Any], complaint: str) -> None:
    """A registration that cannot work is refused at import."""
    handlers = Handlers()
    handlers.register("TAKEN")(handler(Struct))
    with pytest.raises(ValueError, match=complaint):
        handlers.register(**options)


async def _no_annotation(payload, job: Job) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001, RUF100 (that is the point)
    """Has no type for the payload."""


async def _no_job(payload: Struct) -> None:
    """Has no job."""


async def _other_job(payload: Struct, job: int) -> None:
    """Takes something else for the job."""


@pytest.mark.parametrize(
    ("function", "complaint"),
    [(_no_annotation, "annotate 'payload'"), (_no_job, "takes 1 arguments"), (_other_job, "second argument")],
)
def test_refused_signatures(function: Any, complaint: str) -> None:
    """So is a function that could never be called, by the kind it was registered for."""
    with pytest.raises(TypeError, match=f"^K: .*{complaint}"):
        Handlers().register("K")(function)


def test_include() -> None:
    """Registries can be put together, unless both have a kind."""
    one, two = Handlers(), Handlers()
    one.register("A")(handler(Struct))
    two.register("B")(handler(Struct))
    one.include(two)
    assert one.kinds() == ["A", "B"]
    with pytest.raises(ValueError, match="'B' is registered twice"):
        one.include(two)


def test_instructions() -> None:
    """Retry and Fail carry their reason; a negative delay is refused where it is written."""
    assert (Retry("later", after=3).reason, Retry(after=0).after, Fail("no").reason) == ("later", 0, "no")
    assert str(Retry()) == "the handler asked for a retry"
    with pytest.raises(ValueError, match="not negative"):
        Retry(after=-1)
