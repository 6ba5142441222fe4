"""The commands: their names, options and help. What they do is in modules of their own, imported when run."""

import os
from pathlib import Path
from typing import Any

import click

from outboxkit.settings import SettingsError, read_settings
from outboxkit_cli.failures import CommandFailed
from outboxkit_cli.settings import DatabaseSettings, StartSettings

SETTINGS_STATUS = 2

descriptor_option = click.option(
    "--fd", "descriptor", type=int, hidden=True, help="Serve on this inherited socket, which listens already."
)
app_option = click.option("--app", metavar="MODULE", help="In place of OUTBOXKIT_APP.")
database_option = click.option("--database-url", metavar="URL", help="In place of DATABASE_URL.")
modes = click.Choice(["http", "db", "cloud-tasks"])
branch_option = click.option(
    "--branch", "branches", multiple=True, metavar="BRANCH", help="A migration branch besides the kit's own."
)


class Commands(click.Group):
    """Reports what a user can do something about in place of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; wrong settings, all of them, end it with status 2, other failures with 1."""
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            for problem in error.problems:
                click.echo(f"outboxkit: {problem}", err=True)
            ctx.exit(SETTINGS_STATUS)
        except CommandFailed as error:
            click.echo(f"outboxkit: {error}", err=True)
            ctx.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="outboxkit", prog_name="outboxkit")
def outboxkit() -> None:
    """Jobs that commit with your data, and triggers that are never lost.

    The long-running roles are configured by environment variables alone.
    """


@outboxkit.command()
def start() -> None:
    """Run the role that SERVICE_MODE names: web, worker or relay."""
    from outboxkit_cli import start as roles

    match read_settings(StartSettings, os.environ).role:
        case "web":
            roles.run_web(app=None, descriptor=None)
        case "worker":
            roles.run_worker(app=None, descriptor=None)
        case _:
            roles.run_relay(once=False, max_seconds=None)


@outboxkit.command()
@app_option
@descriptor_option
def web(app: str | None, descriptor: int | None) -> None:
    """Run the web role: the application's routes and the admin API."""
    from outboxkit_cli.start import run_web

    run_web(app=app, descriptor=descriptor)


@outboxkit.command()
@app_option
@descriptor_option
def worker(app: str | None, descriptor: int | None) -> None:
    """Run the worker role: POST /process-job, and the poller."""
    from outboxkit_cli.start import run_worker

    run_worker(app=app, descriptor=descriptor)


@outboxkit.command()
@click.option("--once", is_flag=True, help="Deliver what is due, run every sweep, and exit.")
@click.option("--max-seconds", type=click.FloatRange(min=0, min_open=True), help="With --once: stop after so long.")
def relay(once: bool, max_seconds: float | None) -> None:
    """Run the relay: it delivers triggers until it is stopped.

    With --once the exit status is 1 when something due could not be delivered.
    """
    from outboxkit_cli.start import run_relay

    if max_seconds is not None and not once:
        raise click.UsageError("--max-seconds goes with --once")
    run_relay(once=once, max_seconds=max_seconds)


@outboxkit.command()
@click.option("--sql", "as_sql", is_flag=True, help="Print the statements for an empty database; change nothing.")
@branch_option
@database_option
def migrate(as_sql: bool, branches: tuple[str, ...], database_url: str | None) -> None:
    """Bring the database's schema up to date."""
    from outboxkit_cli import migrate as migrations

    if as_sql:
        click.echo(migrations.migration_sql(branches), nl=False)
        return
    migrations.migrate(database_url or database_from_environment(), branches=branches)
    click.echo(f"Up to date: {', '.join(migrations.ordered(branches))}")


@outboxkit.command()
@click.argument("kind")
@click.argument("payload", default="{}", metavar="[JSON]")
@click.option("--queue", default="default", show_default=True)
@click.option("--run-at", metavar="TIME", help="ISO 8601 with an offset: 2030-01-31T09:00:00Z.")
@click.option("--unique-key", metavar="KEY", help="Do nothing but print its id if such a job exists.")
@database_option
def enqueue(
    kind: str, payload: str, queue: str, run_at: str | None, unique_key: str | None, database_url: str | None
) -> None:
    """Enqueue a job of KIND with a JSON payload, and print its id."""
    from outboxkit_cli import enqueue as jobs

    job_id = jobs.enqueue_one(
        database_url or database_from_environment(),
        kind=kind,
        payload=jobs.json_payload(payload),
        queue=queue,
        run_at=jobs.instant(run_at),
        unique_key=unique_key,
    )
    click.echo(str(job_id))


@outboxkit.group(invoke_without_command=True)
@click.option("--app", metavar="MODULE", help="The module with `handlers`.")
@click.option("--mode", type=modes, default="http", show_default=True, help="cloud-tasks: with a local Cloud Tasks.")
@branch_option
@click.option("--setup", metavar="COMMAND", help="Run by a shell after the migrations, with DATABASE_URL set.")
@click.option("--database-url", metavar="URL", help="Use this server in place of an embedded one.")
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="Keep the embedded data here.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The web's port (default: a free one).")
@click.pass_context
def dev(ctx: click.Context, /, **options: Any) -> None:
    """Run Postgres and every role round one module, until Ctrl-C; or, as a command of its own, a local Cloud Tasks."""
    if ctx.invoked_subcommand is not None:
        return
    if options["app"] is None:
        raise click.UsageError("--app is missing: it names the module with `handlers`, for example --app myapp.jobs")
    from outboxkit_cli.dev import DevOptions
    from outboxkit_cli.dev import dev as run

    run(DevOptions(**options))


@dev.command("cloud-tasks")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8123, show_default=True, help="Of gRPC.")
@click.option(
    "--http-port", type=click.IntRange(0, 65535), default=8124, show_default=True, help="Of tokens and faults."
)
@click.option("--project", default="local-project", show_default=True)
@click.option("--location", default="local-area1", show_default=True)
@click.option("--queue", "queues", multiple=True, default=["jobs"], show_default=True, metavar="NAME")
@click.option("--quiet", is_flag=True, hidden=True, help="Do not say where it is.")
def cloud_tasks(*, quiet: bool, **options: Any) -> None:
    """Run a local Cloud Tasks: tasks, retries, schedules and identity tokens as Google's has them, in memory."""
    from outboxkit_cli.extras import needs_extra

    with needs_extra("dev,cloud-tasks"):
        from outboxkit_cli.cloud_tasks.serve import run
        from outboxkit_cli.cloud_tasks.server import ServerOptions

    run(ServerOptions(**options), quiet=quiet)


@outboxkit.command()
@click.option("--mode", type=modes, default="http", show_default=True, help="cloud-tasks: with a local Cloud Tasks.")
@click.argument(
    "csv", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=Path("examples/stocks.csv")
)
def demo(csv: Path, mode: str) -> None:
    """Make a report of real prices, from commit to finished page, and show each job on the way."""
    from outboxkit_cli.demo import demo as run

    run(csv, mode=mode)


@outboxkit.command()
@click.argument("url")
@click.option("--secret", envvar="WORKER_TRIGGER_SECRET", show_envvar=True, help="What the worker expects.")
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Sent with every request.")
@click.option("--job-id-command", metavar="COMMAND", help="Prints the id of a new job; {need} stands for its sort.")
@click.option("--database-url", metavar="URL", help="Make jobs here, and look at what becomes of them.")
@click.option("--kind", metavar="KIND[=JSON]", help="With --database-url: a kind whose handler succeeds at once.")
@click.option("--slow-kind", metavar="KIND[=JSON]", help="One that succeeds after 2 to 10 seconds.")
@click.option("--failing-kind", metavar="KIND[=JSON]", help="One that fails.")
@click.option("--slots", type=click.IntRange(1, 1000), help="How many jobs the worker runs at once: fill it up.")
@click.option("--level", type=click.Choice(["basic", "full"]), default="full", show_default=True)
@click.option("--only", multiple=True, metavar="PATTERN", help="Checks to run: jobs.*, request.media-type …")
@click.option(
    "--deadline", type=click.FloatRange(0.1, 600), default=10.0, show_default=True, help="Seconds an answer may take."
)
@click.option(
    "--examples", type=click.IntRange(1), default=100, show_default=True, help="Generated requests of each sort."
)
@click.option("--report", "reports", multiple=True, metavar="FORMAT[=FILE]", help="junit, json or html.")
@click.option("--strict", is_flag=True, help="A check that is skipped counts as a failure.")
@click.pass_context
def conformance(ctx: click.Context, /, **options: Any) -> None:
    """Hold the worker at URL, in any language, against openapi/process-job.yaml.

    Point it at a worker that nothing else triggers (JOB_TRIGGER_MODE=none), never at one in production: it makes jobs, and
    tries to break the worker. {need} is quick, slow, failing, future or unknown-kind; the command exits with 64 for a sort
    that it cannot make. The exit status is 1 when a check failed.
    """
    from outboxkit_cli.extras import needs_extra

    with needs_extra("contracts"):
        from outboxkit_cli import conformance as suite

        ctx.exit(
            suite.conformance(
                suite.ConformanceOptions(
                    **{
                        **options,
                        "headers": tuple(map(suite.header, options["headers"])),
                        "reports": tuple(map(suite.report, options["reports"])),
                        "kind": suite.kind(options["kind"], "--kind"),
                        "slow_kind": suite.kind(options["slow_kind"], "--slow-kind"),
                        "failing_kind": suite.kind(options["failing_kind"], "--failing-kind"),
                    }
                )
            )
        )


def database_from_environment() -> str:
    """Return DATABASE_URL; SettingsError says how to set it."""
    return read_settings(DatabaseSettings, os.environ).database_url.reveal()
