"""From a caller's payload to JSON text, refusing early what Postgres would refuse late."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

import msgspec

# The deepest nesting accepted. Postgres's own limit is its stack; ours gives a message instead.
MAX_DEPTH = 100

# The longest integer accepted: Python itself refuses to read or write one of more than 4,300 digits.
MAX_BITS = 14_000


@runtime_checkable
class PydanticModel(Protocol):
    """What a pydantic model looks like from outside; pydantic itself is not imported."""

    def model_dump(self, *, mode: str, by_alias: bool, round_trip: bool) -> Any:
        """The model as plain JSON values, under the names and in the form that it is read back from."""
        ...


Payload: TypeAlias = Mapping[str, Any] | msgspec.Struct | PydanticModel | Any


def encode(payload: Payload) -> str:
    """The payload as JSON text: a dict, msgspec Struct, dataclass or pydantic model (None is an empty object).

    Raises TypeError naming the field for anything that JSON cannot hold as it is: other types, NaN and infinities, keys
    that are not strings, NUL characters and lone surrogates (Postgres stores neither), nesting beyond MAX_DEPTH.

    jsonb keeps numbers as decimals: a float without a fraction, such as 1e16, reaches a handler that takes a plain dict as
    an int, and one whose payload type says float as the same float.
    """
    if payload is None:
        return "{}"
    plain = _plain(payload)
    _check(plain, "payload", 0)
    return msgspec.json.encode(plain).decode()


def encode_value(value: object, *, name: str) -> str:
    """Any JSON-able value as JSON text, under the same rules as a payload. `name` stands for it in errors."""
    plain = _builtin(value, name)
    _check(plain, name, 0)
    return msgspec.json.encode(plain).decode()


def _plain(payload: Payload) -> Any:
    if isinstance(payload, type):
        raise TypeError(f"payload is the class {payload.__name__}; pass an instance of it")
    if isinstance(payload, Mapping):
        return _builtin(payload, "payload")
    if isinstance(payload, msgspec.Struct) or dataclasses.is_dataclass(payload):
        try:
            return msgspec.to_builtins(payload, enc_hook=_nested)
        except (TypeError, ValueError, RecursionError):
            # Again field by field, so that the error names the one it is about.
            return {name: _builtin(getattr(payload, name), f"payload.{name}") for name in _field_names(payload)}
    # Last: asking whether something has the shape of a protocol costs many times as much as asking for its class.
    if isinstance(payload, PydanticModel):
        return _builtin(payload, "payload")
    name = type(payload).__name__
    raise TypeError(f"payload is a {name}; wanted a dict, msgspec Struct, dataclass or pydantic model")


def _field_names(payload: Any) -> list[str]:
    if isinstance(payload, msgspec.Struct):
        return [field.name for field in msgspec.structs.fields(payload)]
    return [field.name for field in dataclasses.fields(payload)]


def _builtin(value: object, path: str, depth: int = 0) -> Any:
    if value is None or type(value) in (str, int, float, bool):
        return value
    if depth > MAX_DEPTH:
        raise TypeError(f"{path}: nested more than {MAX_DEPTH} deep")
    # Not left to msgspec, which would turn a key that is bytes or a date into a string without a word.
    if isinstance(value, Mapping):
        return {key: _builtin(item, f"{path}.{key}", depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_builtin(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    try:
        return msgspec.to_builtins(value, enc_hook=_nested)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"{path}: {error}") from None


def _nested(value: object) -> Any:
    """What msgspec does not know, inside a payload: a pydantic model is taken apart, everything else is refused."""
    if isinstance(value, PydanticModel) and not isinstance(value, type):
        return value.model_dump(mode="json", by_alias=True, round_trip=True)
    raise TypeError(f"a {type(value).__name__} has no JSON form")


def _check(value: Any, path: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise TypeError(f"{path}: nested more than {MAX_DEPTH} deep")
    if isinstance(value, str):
        check_text(value, path)
    elif isinstance(value, float) and not math.isfinite(value):
        raise TypeError(f"{path}: {value} has no JSON form")
    elif isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise TypeError(f"{path}: an integer of {value.bit_length()} bits; at most {MAX_BITS}")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{path}: the key {key!r} is a {type(key).__name__}; JSON keys are strings")
            check_text(key, f"{path}, key {key!r}")
            _check(item, f"{path}.{key}", depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check(item, f"{path}[{index}]", depth + 1)


def check_text(text: str, path: str) -> None:
    """Raise TypeError when Postgres cannot store the text: it holds a NUL character or a lone surrogate."""
    if "\x00" in text:
        raise TypeError(f"{path}: holds a NUL character, which Postgres cannot store")
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        raise TypeError(f"{path}: holds a lone surrogate, which is not valid Unicode")
