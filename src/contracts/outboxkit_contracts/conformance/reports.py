"""Results as files: JUnit XML for a CI system, JSON for a program, HTML for a person. None holds a secret."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import msgspec

from outboxkit_contracts.conformance.suite import Result
from outboxkit_contracts.conformance.target import Level

OUTCOMES: Final = ("passed", "failed", "skipped")


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run. `seconds` is how long it took."""

    url: str
    level: Level
    started: datetime
    seconds: float
    results: Sequence[Result]

    @property
    def counts(self) -> Mapping[str, int]:
        """How many checks passed, failed and were skipped."""
        found = Counter(result.outcome for result in self.results)
        return {outcome: found[outcome] for outcome in OUTCOMES}

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        return sum(result.requests for result in self.results)

    @property
    def summary(self) -> str:
        """The run in a line."""
        counts = ", ".join(f"{count} {outcome}" for outcome, count in self.counts.items())
        return f"{counts} in {self.seconds:.1f} s; {self.requests} requests."


def as_json(report: Report) -> bytes:
    """One object, with the results in the order in which they came."""
    return msgspec.json.format(
        msgspec.json.encode(
            {
                "url": report.url,
                "level": report.level,
                "started": report.started.astimezone(UTC),
                "seconds": round(report.seconds, 3),
                "counts": report.counts,
                "requests": report.requests,
                "results": [_plain(result) for result in report.results],
            }
        )
    )


def as_junit(report: Report) -> bytes:
    """A test suite with a test case for each check."""
    suite = Element(
        "testsuite",
        name="outboxkit conformance",
        tests=str(len(report.results)),
        failures=str(report.counts["failed"]),
        errors="0",
        skipped=str(report.counts["skipped"]),
        time=f"{report.seconds:.3f}",
        timestamp=report.started.isoformat(timespec="seconds"),
        hostname=report.url,
    )
    for result in report.results:
        name = f"{result.check.name}: {result.check.title}"
        case = SubElement(
            suite, "testcase", classname=f"conformance.{result.check.group}", name=name, time=f"{result.seconds:.3f}"
        )
        if result.outcome == "failed":
            failure = SubElement(case, "failure", message=_printable(result.message))
            failure.text = _printable(f"{result.message}\n{result.check.section}\n{result.reproduce}")
        elif result.outcome == "skipped":
            SubElement(case, "skipped", message=_printable(result.message))
    suites = Element("testsuites")
    suites.append(suite)
    indent(suites)
    written: bytes = tostring(suites, encoding="utf-8", xml_declaration=True)
    return written


def as_html(report: Report) -> bytes:
    """One page that needs nothing else: no script, no network."""
    page = Element("html", lang="en")
    top = SubElement(page, "head")
    SubElement(top, "meta", charset="utf-8")
    SubElement(top, "meta", name="viewport", content="width=device-width, initial-scale=1")
    SubElement(top, "title").text = f"Conformance of {report.url}"
    SubElement(top, "style").text = _STYLE
    body = SubElement(page, "body")
    SubElement(body, "h1").text = f"Conformance of {report.url}"
    verdict = "failed" if report.counts["failed"] else "passed"
    SubElement(body, "p", {"class": f"summary {verdict}"}).text = report.summary
    when = report.started.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    SubElement(body, "p").text = f"Held against openapi/process-job.yaml by outboxkit, level {report.level}, {when}."
    _contents(body, [result for result in report.results if result.outcome == "failed"])
    for group, results in groupby(report.results, lambda result: result.check.group):
        _table(body, group, list(results))
    written: bytes = tostring(page, encoding="utf-8", method="html")
    return b"<!doctype html>\n" + written


def _contents(body: Element, failed: Sequence[Result]) -> None:
    """Links to what failed, so that nobody has to look for it."""
    if failed:
        found = SubElement(body, "ul")
        for result in failed:
            link = SubElement(SubElement(found, "li"), "a", href=f"#{result.check.name}")
            link.text = result.check.title


def _table(body: Element, group: str, results: Sequence[Result]) -> None:
    SubElement(body, "h2").text = group
    table = SubElement(body, "table")
    for result in results:
        row = SubElement(table, "tr", {"class": result.outcome, "id": result.check.name})
        SubElement(row, "td", {"class": "outcome"}).text = result.outcome
        about = SubElement(row, "td")
        SubElement(about, "strong").text = result.check.title
        SubElement(about, "small").text = f"{result.check.name} · {result.check.place}"
        if result.message:
            SubElement(about, "p").text = _printable(result.message)
        if result.reproduce:
            SubElement(about, "pre").text = _printable(result.reproduce)
        SubElement(row, "td", {"class": "figure"}).text = f"{result.seconds:.2f} s"


def _plain(result: Result) -> Mapping[str, object]:
    return {
        "check": result.check.name,
        "title": result.check.title,
        "section": result.check.section,
        "level": result.check.level,
        "outcome": result.outcome,
        "seconds": round(result.seconds, 3),
        "requests": result.requests,
        "message": result.message,
        "reproduce": result.reproduce,
    }


def _printable(text: str) -> str:
    """Text that XML can hold: a worker may have answered with anything."""
    return "".join(c if c.isprintable() or c == "\n" else f"\\u{ord(c):04x}" for c in text)


FORMATS: Final[Mapping[str, tuple[str, Callable[[Report], bytes]]]] = {
    "junit": ("conformance.xml", as_junit),
    "json": ("conformance.json", as_json),
    "html": ("conformance.html", as_html),
}
"""Format to the file it goes to by default, and what writes it."""

_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --passed: #1a7f37; --failed: #cf222e; --skipped: #9a6700; }
@media (prefers-color-scheme: dark) { :root { --passed: #3fb950; --failed: #ff7b72; --skipped: #d29922; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin: 2rem 0 .3rem; }
table { width: 100%; border-collapse: collapse; }
td { border-top: 1px solid var(--line); padding: .45rem .5rem; vertical-align: top; }
td.outcome { width: 5rem; font-weight: 600; } td.figure { width: 4rem; text-align: right; white-space: nowrap; }
small { display: block; opacity: .7; } td p { margin: .4rem 0; overflow-wrap: anywhere; }
pre { background: #8881; padding: .5rem; white-space: pre-wrap; overflow-wrap: anywhere; font-size: 13px; }
.summary { font-size: 1.1rem; font-weight: 600; }
.summary.passed, .passed td.outcome { color: var(--passed); }
.summary.failed, .failed td.outcome { color: var(--failed); }
.skipped td.outcome { color: var(--skipped); }
"""
