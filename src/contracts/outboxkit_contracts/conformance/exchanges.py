"""One request and its answer, and how to send the same request by hand."""

from __future__ import annotations

import re
import shlex
from functools import cached_property
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from outboxkit_contracts.problems import ProblemType

_WORD_BYTES: Final = 1000
_RUNS: Final = re.compile(rb"(?P<run>.)(?P=run){99,}|.(?:(?!(?P<next>.)(?P=next){99}).)*", re.DOTALL)
_ESCAPES: Final = {ord("\r"): "\\r", ord("\n"): "\\n", ord("'"): "\\047", ord("\\"): "\\134"}


class Exchange(msgspec.Struct, kw_only=True, dict=True):
    """A request as it was sent, and what came back; `status` 0 when nothing did.

    `headers` and `answered` are the header lines of request and answer. `secrets` maps values that are never shown to the
    shell variables that stand for them in `curl`. `chunked` says that the body was sent in chunks.
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    content: bytes = b""
    chunked: bool = False
    secrets: tuple[tuple[str, str], ...] = ()
    status: int = 0
    answered: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    seconds: float = 0.0

    @property
    def path(self) -> str:
        """The path of the request, as the document names it."""
        return urlsplit(self.url).path or "/"

    def header(self, name: str) -> str | None:
        """A header of the answer, the first of that name."""
        return next((value for key, value in self.answered if key.lower() == name.lower()), None)

    @cached_property
    def document(self) -> dict[str, Any]:
        """The answer's body as a JSON object; empty when it is not one."""
        try:
            value: Any = msgspec.json.decode(self.body)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def slug(self) -> str | None:
        """The problem that the answer reports, if it is one of ours."""
        uri = self.document.get("type")
        problem = ProblemType.of(uri) if isinstance(uri, str) else None
        return problem.slug if problem else None

    @property
    def curl(self) -> str:
        """A command line that sends the same request, for bash and zsh."""
        command = ["curl", "-i"]
        if self.method == "HEAD":
            command.append("--head")
        elif self.method != "POST" or not self.content:
            command += ["-X", self.method]
        words = [shlex.join([*command, self.url]), *(f"-H {self._shown(*line)}" for line in self.headers)]
        if self.content and not any(name.lower() == "content-type" for name, _ in self.headers):
            words.append("-H content-type:")
        if self.chunked:
            words.append("-H 'transfer-encoding: chunked'")
        if not self.content:
            return " ".join(words)
        word = shell_word(self.content)
        if word is not None:
            return " ".join([*words, "--data-binary", word])
        return " ".join([f"{{ {shell_writer(self.content)}; }} |", *words, "--data-binary @-"])

    def _shown(self, name: str, value: str) -> str:
        for hidden, variable in self.secrets:
            if value == hidden:
                return f'"{name}: ${variable}"'
        return shlex.quote(f"{name}: {value}" if value else f"{name};")


def shell_word(content: bytes) -> str | None:
    """Bytes as one word of a shell; None when no word can hold them, or they are long."""
    if len(content) > _WORD_BYTES or b"\0" in content or content.startswith(b"@"):
        return None
    text = content.decode("ascii", "replace")
    return shlex.quote(text) if content.isascii() and text.isprintable() else f"$'{_escaped(content)}'"


def shell_writer(content: bytes) -> str:
    """Commands that write these bytes, whatever they are: a byte that is repeated often is written as a repetition."""
    commands = []
    for part in _RUNS.finditer(content):
        run = part["run"]
        if run is None:
            commands.append(f"printf '{_escaped(part[0]).replace('%', '%%')}'")
        else:
            commands.append(f"head -c {len(part[0])} /dev/zero | tr '\\0' '{_escaped(run)}'")
    return "; ".join(commands)


def _escaped(content: bytes) -> str:
    """For `$'…'` and for printf, which read the same escapes; octal ones have three digits, so that no digit joins them."""
    return "".join(_ESCAPES.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}") for byte in content)
