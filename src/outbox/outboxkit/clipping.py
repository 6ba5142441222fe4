"""Text from outside, made safe to store."""

from __future__ import annotations

LIMIT = 2000


def clip(text: str, limit: int = LIMIT) -> str:
    """The text without what Postgres cannot store (NUL, lone surrogates), cut to `limit` characters with a mark."""
    clean = text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def describe(error: BaseException) -> str:
    """An exception as one line for a person: its type and text."""
    return clip(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
