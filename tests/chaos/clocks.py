"""A process whose wall clock is wrong: what it reads of the time is shifted, its monotonic clock is not."""

import datetime
import time
from typing import Any

_Real = datetime.datetime


class _ShiftedType(type):
    """Datetimes that were made elsewhere (by a driver written in C) are instances all the same."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _Real)


def shift(seconds: float) -> None:
    """From now on `time.time` and `datetime.now` are so many seconds off, for whoever imports them afterwards."""
    real_time, real_time_ns = time.time, time.time_ns
    offset = datetime.timedelta(seconds=seconds)

    class Shifted(_Real, metaclass=_ShiftedType):
        """The datetime that modules import from here on."""

        __slots__ = ()  # C extensions look at the size of its instances

        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            """The shifted time, as an ordinary datetime."""
            return _Real.now(tz) + offset

        @classmethod
        def utcnow(cls) -> Any:
            """The shifted time in UTC, naive."""
            return _Real.now(datetime.UTC).replace(tzinfo=None) + offset

    datetime.datetime = Shifted  # type: ignore[misc] # that is the point of it
    time.time = lambda: real_time() + seconds
    time.time_ns = lambda: real_time_ns() + int(seconds * 1e9)
