"""`python -m benchmarks`: play the scenes, print the table."""

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.counts import meter
from benchmarks.database import Server
from benchmarks.machine import describe
from benchmarks.profiled import summary
from benchmarks.results import SceneResult
from benchmarks.roles import roles
from benchmarks.scenes import SCENES
from benchmarks.scenes.bench import Bench
from benchmarks.tables import markdown, terminal
from outboxkit_cli.failures import CommandFailed
from outboxkit_cli.interruption import raise_keyboard_interrupt
from outboxkit_cli.start import loop_factory

FEWEST_JOBS = 100


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was asked for."""

    jobs: int
    samples: int
    rounds: int
    only: Sequence[str]
    log_level: str


async def play(server: Server, options: Options, *, profiles: Path | None = None) -> list[SceneResult]:
    """Play the scenes one after the other, each with processes of its own, stopped before the next begins."""
    results = []
    for name in options.only or SCENES:
        async with meter(server) as reader, roles(log_level=options.log_level, profiles=profiles) as started:
            click.echo(f"… {name}", err=True)
            bench = Bench(
                server=server,
                roles=started,
                meter=reader,
                jobs=options.jobs,
                samples=options.samples,
                rounds=options.rounds,
            )
            results.append(await SCENES[name](bench))
    return results


def profile(server: Server, options: Options) -> None:
    """Play the scene with its roles under the profiler, and print where each spent its time."""
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(play(server, options, profiles=Path(folder)))
        for file in sorted(Path(folder).glob("*.pstats")):
            click.echo(f"== {file.stem}\n{summary(file)}")


def report(server: Server, options: Options, *, page: Path | None) -> None:
    """Play the scenes, print the table, and write it to `page`."""
    machine = describe(*server.describe())
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        results = runner.run(play(server, options))
    click.echo(terminal(machine, results))
    if page is not None:
        page.write_text(markdown(machine, results))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--jobs", type=click.IntRange(FEWEST_JOBS), default=10_000, show_default=True, help="A backlog's jobs.")
@click.option("--samples", type=click.IntRange(2), default=100, show_default=True, help="Jobs timed one by one.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="How often each is repeated.")
@click.option("--only", type=click.Choice(list(SCENES)), multiple=True, help="This scene alone; may be repeated.")
@click.option("--log-level", default="warning", show_default=True, help="What the roles log; they are not read.")
@click.option("--markdown", "page", type=click.Path(dir_okay=False, path_type=Path), help="Write the table here too.")
@click.option("--profile", "profiled", type=click.Choice(list(SCENES)), help="Profile the roles in this scene instead.")
def main(
    jobs: int,
    samples: int,
    rounds: int,
    only: tuple[str, ...],
    log_level: str,
    page: Path | None,
    profiled: str | None,
) -> None:
    """Measure enqueue, relay and worker beside the raw SQL and HTTP they are made of.

    The ratio comes first: it is what travels to another machine. About three minutes with these sizes.
    """
    raise_keyboard_interrupt()
    options = Options(
        jobs=jobs, samples=samples, rounds=rounds, only=(profiled,) if profiled else only, log_level=log_level
    )
    try:
        with Server() as server:
            if profiled is not None:
                profile(server, options)
            else:
                report(server, options, page=page)
    except CommandFailed as error:
        raise click.ClickException(str(error)) from error
    except asyncio.CancelledError:  # a signal; everything is stopped by now
        raise click.Abort from None


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
