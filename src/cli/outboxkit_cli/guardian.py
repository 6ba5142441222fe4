"""A small process between us and Postgres: it outlives us just long enough to clean up.

Run as a script with nothing but the standard library (`python -I -S guardian.py DIRECTORY`), so that it
starts in milliseconds. It reads one JSON request a line from stdin and answers each with one line on stdout:

    {"do": "start", "argv": [...], "env": {...}, "log": "file", "user": 65534 or null}  -> {"pid": 123}
    {"do": "poll"}                 -> {"exit": null} while the child runs, else its status
    {"do": "signal", "number": 2}  -> {}

It never blocks on anything but stdin, so the end of that pipe is noticed at once, however the process at
its other end died. Then the child is stopped (SIGQUIT, which Postgres takes as "now"; SIGKILL five seconds
later) and DIRECTORY is removed. If the guardian itself is killed, the child goes by its parent-death signal
and DIRECTORY stays.
"""

import json
import shutil
import signal
import subprocess
import sys
from typing import Any

STOP_SECONDS = 5.0


def start(request: dict[str, Any]) -> "subprocess.Popen[bytes]":
    """Start the child, its output appended to the log file, as the numeric user id if one is given."""
    user = request["user"]
    identity: dict[str, Any] = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    with open(request["log"], "ab") as log:  # noqa: PTH123 (pathlib costs a third of this script's start)
        return subprocess.Popen(  # noqa: S603 (the argv comes from our own parent)
            request["argv"],
            env=request["env"],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            **identity,
        )


def end(child: "subprocess.Popen[bytes] | None") -> None:
    """Stop the child if it still runs, and reap it."""
    if child is None or child.poll() is not None:
        return
    child.send_signal(signal.SIGQUIT)
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def serve(directory: str) -> None:
    """Answer requests until stdin ends; then stop the child and remove `directory`."""
    child: subprocess.Popen[bytes] | None = None
    try:
        for line in sys.stdin:
            request = json.loads(line)
            answer: dict[str, Any] = {}
            try:
                match request["do"]:
                    case "start":
                        child = start(request)
                        answer = {"pid": child.pid}
                    case "poll" if child is not None:
                        answer = {"exit": child.poll()}
                    case "signal" if child is not None:
                        child.send_signal(request["number"])
            except OSError as error:
                answer = {"error": str(error)}
            print(json.dumps(answer), flush=True)  # noqa: T201 (stdout is the answer channel)
    finally:
        end(child)
        shutil.rmtree(directory, ignore_errors=True)


def ignore_signals() -> None:
    """Only the end of stdin stops the guardian: a signal to a whole group must not skip the cleaning up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # a handler, not SIG_IGN, which Postgres would inherit


if __name__ == "__main__":
    ignore_signals()
    serve(sys.argv[1])
