"""Reading `POST /api/reports`: JSON with the file inline, or a multipart form; everything else is a problem document.

The data are judged here, at the edge, before any connection is taken from the pool: bad input writes nothing.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from litestar import Request
from litestar.datastructures import FormMultiDict, UploadFile
from litestar.exceptions import ClientException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge

from outboxkit.http import ProblemError, check_json
from outboxkit_contracts import headers
from outboxkit_contracts.problems import Flaw, Problem, ProblemType
from outboxkit_reports import prices
from outboxkit_reports.lifecycle import NewReport

LONGEST_TITLE: Final = 200

TITLE_PATTERN: Final = r"^(?: |[^\p{C}\p{Z}])*[^\p{C}\p{Z}](?: |[^\p{C}\p{Z}])*$"
"""What `str.isprintable` and not being blank come to, in the regular expressions of JSON Schema."""


class JsonUpload(msgspec.Struct, frozen=True):
    """The JSON body: a title, and the file's content as a string."""

    title: str
    csv: str


async def read(request: Request[Any, Any, Any]) -> NewReport:
    """The upload, its title trimmed and its prices checked.

    Raises ProblemError: 400 for a broken body, 415 for another media type, 422 `invalid-input` with a list of what is
    wrong where.
    """
    media_type = headers.media_type(request.headers.get("content-type", ""))
    if media_type == "application/json":
        new = await _json(request)
    elif media_type == "multipart/form-data":
        new = await _multipart(request)
    else:
        raise ProblemError(
            Problem.of(
                ProblemType.UNSUPPORTED_MEDIA_TYPE,
                f"The body's Content-Type is {media_type!r}; send application/json or multipart/form-data.",
            )
        )
    new = NewReport(_title(new.title), new.csv)
    await asyncio.to_thread(_check, new.csv)
    return new


async def _json(request: Request[Any, Any, Any]) -> NewReport:
    body = await request.body()
    check_json(body)
    try:
        upload = msgspec.json.decode(body, type=JsonUpload)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        pointer = where.rstrip("`").replace(".", "/") or None
        raise _invalid("The body is not what is wanted: title and csv, both strings.", message, pointer) from None
    return NewReport(upload.title, upload.csv.encode())


async def _multipart(request: Request[Any, Any, Any]) -> NewReport:
    try:
        form = await request.form()
    except RequestEntityTooLarge:
        raise
    except (ClientException, ValueError, LookupError) as error:  # LookupError: a part names an unknown charset
        raise ProblemError(
            Problem.of(ProblemType.MALFORMED_REQUEST, "The body is not a well-formed multipart form.")
        ) from error
    title, file = _field(form, "title"), _field(form, "file")
    if not isinstance(title, str):
        raise _invalid("The title is a file.", "send the title as a text field named title", "/title")
    return NewReport(title, file.encode() if isinstance(file, str) else await file.read())


def _field(form: FormMultiDict, name: str) -> str | UploadFile:
    """The one field of this name; a second one would be dropped without a word."""
    values: list[str | UploadFile] = form.getall(name, [])
    if len(values) == 1:
        return values[0]
    if values:
        raise _invalid(f"The form has {len(values)} fields named {name}.", "send one", f"/{name}")
    raise _invalid(f"The form has no {name}.", f"send a field named {name}", f"/{name}")


def _title(text: str) -> str:
    if len(text) > LONGEST_TITLE:
        raise _invalid("The title is too long.", f"{len(text)} characters; at most {LONGEST_TITLE}", "/title")
    title = text.strip(" ")
    if not title:
        raise _invalid("The title is empty.", "give the report a title", "/title")
    if not title.isprintable():
        raise _invalid("The title is not plain text.", "it holds characters that cannot be printed", "/title")
    return title


def _check(csv: bytes) -> None:
    try:
        prices.parse(csv)
    except prices.InvalidPrices as invalid:
        count = len(invalid.flaws) + invalid.more
        listed = f"; the first {len(invalid.flaws)} are listed" if invalid.more else ""
        found = "1 thing is wrong with it" if count == 1 else f"{count:,} things are wrong with it"
        detail = f"The price file cannot be used: {found}{listed}. Nothing was stored."
        raise ProblemError(Problem.of(ProblemType.INVALID_INPUT, detail, errors=invalid.flaws)) from None


def _invalid(detail: str, flaw: str, pointer: str | None) -> ProblemError:
    return ProblemError(Problem.of(ProblemType.INVALID_INPUT, detail, errors=(Flaw(detail=flaw, pointer=pointer),)))
