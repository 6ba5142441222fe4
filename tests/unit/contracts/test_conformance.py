"""The conformance suite's own parts: its sections, its command lines, its choice of checks."""

import asyncio
import os
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest

from outboxkit_contracts.conformance import Level, select
from outboxkit_contracts.conformance.exchanges import Exchange, shell_writer
from outboxkit_contracts.validation import Contract
from sink import Reply, Sink

BODIES = {
    "nothing": b"",
    "text": b'{"jobId": "test-123"}',
    "quotes": b'it\'s "quoted" $HOME `id` \\n %s',
    "lines": b"one\r\ntwo\n",
    "a file's name": b"@/etc/passwd",
    "bytes": bytes(range(256)),
    "digits after a byte": b"\x001\x0012",
    "UTF-8": "Grüße 👋".encode(),
    "a long run": b'{"x":"' + b"y" * 70_000 + b'"}',
    "two long runs": b"[" * 500 + b"1" + b"]" * 500,
}


@pytest.mark.parametrize("check", select(), ids=lambda check: check.name)
def test_every_check_names_a_section_of_the_document(contract: Contract, check: Any) -> None:
    """Its section is a JSON pointer that leads somewhere; its title is a sentence that fits a table."""
    found: Any = contract.document
    for step in check.section.removeprefix("#/").split("/"):
        found = found[int(step) if isinstance(found, list) else step.replace("~1", "/")]
    assert found
    assert 10 < len(check.title) <= 84
    assert len(check.place) <= 30


def test_checks_are_chosen_by_level_and_pattern() -> None:
    """Basic is a part of full; a pattern that matches nothing is an error, for it would pass by checking nothing."""
    basic, full = ([check.name for check in select(level)] for level in (Level.BASIC, Level.FULL))
    assert set(basic) < set(full)
    assert [check.name for check in select(Level.BASIC, ["jobs.*"])] == [n for n in basic if n.startswith("jobs.")]
    with pytest.raises(ValueError, match=r"no check of level basic is called 'http\.\*'"):
        select(Level.BASIC, ["http.*"])


@pytest.mark.parametrize("name", BODIES)
async def test_a_command_line_sends_the_same_request(name: str) -> None:
    """Pasted into bash, curl sends the method, headers and bytes that the suite sent."""
    body = BODIES[name]
    async with Sink(lambda _: Reply()) as sink:
        for method in ("POST", "DELETE"):
            exchange = Exchange(
                method=method,
                url=sink.url,
                headers=(("x-worker-trigger", "s3cret'"), ("content-type", "application/json"), ("x-note", 'a "b" $c')),
                content=body,
                secrets=(("s3cret'", "SECRET"),),
            )
            assert "s3cret" not in exchange.curl
            await run(exchange.curl, {"SECRET": "s3cret'"})
            request = sink.requests[-1]
            assert (request.method, request.path, request.body) == (method, "/process-job", body)
            assert request.headers["x-worker-trigger"] == "s3cret'"
            assert request.headers["x-note"] == 'a "b" $c'
            assert request.headers["content-type"] == "application/json"


async def test_a_command_line_leaves_out_what_was_left_out() -> None:
    """Of itself curl would add a content type of its own."""
    async with Sink(lambda _: Reply()) as sink:
        await run(Exchange(method="POST", url=sink.url, content=b"{}").curl, {})
        assert "content-type" not in sink.requests[-1].headers


@pytest.mark.parametrize("name", BODIES)
def test_a_shell_can_write_any_bytes(name: str) -> None:
    """For what no curl can send."""
    written = subprocess.run(["bash", "-c", shell_writer(BODIES[name]) or "true"], capture_output=True, check=True)
    assert written.stdout == BODIES[name]


async def run(command: str, environment: Mapping[str, str]) -> None:
    """Run a command line in bash, without a proxy of this machine's."""
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        command,
        env={"PATH": os.environ["PATH"], "NO_PROXY": "*", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
