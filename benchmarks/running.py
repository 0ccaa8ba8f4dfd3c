"""Fits in processes of their own: the points that they print, and what went wrong."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from benchmarks.environments import ROOT, PeerUnavailableError, clean_environment, python_of
from benchmarks.peer_runs import PeerRun

Point = dict[str, Any]
# Ample for every fit here: a peer that hangs must not hold up the rest.
LIMIT_SECONDS = 3_600.0


class FitFailedError(RuntimeError):
    """A fit ended without a point, or badly; the text has its last lines."""


def peer_points(run: PeerRun, data: Path, clip: list[float], seed: int) -> Iterator[Point]:
    """Yield the points of one peer on one file.

    Raises:
        PeerUnavailableError: it cannot be installed or run here.
        FitFailedError: a fit failed.
    """
    python = python_of(run.environment)
    runner = Path(__file__).parent / "peers" / f"run_{run.environment}.py"

    for iterations in run.iterations:
        settings = {
            **run.settings,
            "clip": clip,
            "iterations": iterations,
            "seed": seed,
        }
        command = [str(python), str(runner), str(data.resolve()), json.dumps(settings)]
        yield from points(command, clean_environment())


def our_points(data: Path, clip: list[float], task: Mapping[str, Any]) -> Iterator[Point]:
    """Yield the points of one of our solvers on one file; `task` as in `benchmarks.ours`.

    Raises:
        FitFailedError: the fit failed.
    """
    settings = json.dumps({**task, "clip": clip})
    command = [sys.executable, "-m", "benchmarks.ours", str(data.resolve()), settings]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        # Less of TensorFlow's own output, so that a failure's last lines tell about the failure.
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    yield from points(command, environment, ROOT)


def points(
    command: list[str], environment: Mapping[str, str], folder: Path | None = None
) -> Iterator[Point]:
    """Yield the JSON lines that `command` prints, as they come.

    It runs in `folder`, or else in an empty one.

    Raises:
        FitFailedError: it failed, or printed no point.
    """
    with tempfile.TemporaryFile("w+") as messages, tempfile.TemporaryDirectory() as empty:
        process = _start(command, environment, folder or Path(empty), messages)
        assert process.stdout is not None
        n_points = 0
        try:
            with _killed_at_the_limit(process):
                for line in process.stdout:
                    # Peers print words of their own too.
                    if line.startswith("{"):
                        n_points += 1
                        yield json.loads(line)
                process.wait()
        finally:
            _kill(process)
            process.wait()
            process.stdout.close()

        if process.returncode != 0 or n_points == 0:
            messages.seek(0)
            raise FitFailedError(_reason(process.returncode, n_points, messages.read()))


def _start(
    command: list[str], environment: Mapping[str, str], folder: Path, messages: IO[str]
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=messages,
        text=True,
        env=dict(environment),
        cwd=folder,
        # A session of its own, so that what the process has started (Spark's JVM) ends with it.
        start_new_session=True,
    )


@contextlib.contextmanager
def _killed_at_the_limit(process: "subprocess.Popen[str]") -> Iterator[None]:
    """Kill `process` if the block takes more than `LIMIT_SECONDS`."""
    watch = threading.Timer(LIMIT_SECONDS, _kill, [process])
    watch.start()
    try:
        yield
    finally:
        watch.cancel()


def _kill(process: "subprocess.Popen[str]") -> None:
    """Kill `process` and what it has started; nothing happens if all of them have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _reason(code: int, n_points: int, messages: str) -> str:
    """Return in one line how a fit ended, and its last words."""
    what = f"exit code {code}"
    if code < 0:
        limit = f"out of memory, or over {LIMIT_SECONDS:g} s"
        what = f"ended by signal {-code} (9: {limit})"

    last_lines = messages.strip().splitlines()[-4:]
    said = " | ".join(line.strip() for line in last_lines)
    return f"{what} after {n_points} points: {said[-600:]}"


FAILURES = (PeerUnavailableError, FitFailedError)
