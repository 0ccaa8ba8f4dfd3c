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
from typing import Any

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
        settings = run.settings | {"clip": clip, "iterations": iterations, "seed": seed}
        yield from points(
            [str(python), str(runner), str(data.resolve()), json.dumps(settings)],
            clean_environment(),
        )


def our_points(data: Path, clip: list[float], task: Mapping[str, Any]) -> Iterator[Point]:
    """Yield the points of one of our solvers on one file; `task` as in `benchmarks.ours`. Raises FitFailedError."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.ours",
        str(data.resolve()),
        json.dumps({**task, "clip": clip}),
    ]
    yield from points(
        command, os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}, ROOT
    )


def points(
    command: list[str], environment: Mapping[str, str], folder: Path | None = None
) -> Iterator[Point]:
    """Yield the JSON lines that `command` prints, as they come. Raises FitFailedError."""
    with tempfile.TemporaryFile("w+") as messages, tempfile.TemporaryDirectory() as empty:
        # A session of its own, so that what the process has started (Spark's JVM) ends with it.
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=messages,
            text=True,
            env=dict(environment),
            cwd=folder or empty,
            start_new_session=True,
        )
        watch = threading.Timer(LIMIT_SECONDS, _end, [process])
        watch.start()
        try:
            n_points = 0
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("{"):
                    n_points += 1
                    yield json.loads(line)
            process.wait()
        finally:
            watch.cancel()
            _end(process)
            process.wait()
        if process.returncode or not n_points:
            messages.seek(0)
            raise FitFailedError(_reason(process.returncode, n_points, messages.read()))


def _end(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _reason(code: int, n_points: int, messages: str) -> str:
    what = (
        f"ended by signal {-code} (9: out of memory, or over {LIMIT_SECONDS:g} s)"
        if code < 0
        else f"exit code {code}"
    )
    said = " | ".join(line.strip() for line in messages.strip().splitlines()[-4:])
    return f"{what} after {n_points} points: {said[-600:]}"


FAILURES = (PeerUnavailableError, FitFailedError)
