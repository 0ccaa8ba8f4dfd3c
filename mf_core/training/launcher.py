"""The launcher: starts the trainer's process, passes its lines on, and never leaves it behind.

It imports no TensorFlow.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from mf_core import errors
from mf_core.errors import MFError, TrainerKilledError, TrainingError
from mf_core.records import ModelRef, Progress
from mf_core.scratch import scratch_folder
from mf_core.training.lock import lock_path
from mf_core.training.manifest import Manifest, Problem, decode, read_result

Log = Callable[[str], None]
ShowProgress = Callable[[Progress], None]

# An iteration of a large fit, and its checkpoint, take some seconds. Who ends a task from without
# has less patience, and the trainer dies with the task.
_GRACE_SECONDS = 120.0
_TERMINATED = 128 + signal.SIGTERM


def run_trainer(
    manifest: Manifest, log: Log = print, progress: ShowProgress | None = None
) -> ModelRef:
    """Train both heads in a process of its own and return where they lie.

    A call that was killed and is made again goes on from the checkpoints; one that had finished
    returns the same models at once.

    Args:
        manifest: what to train, and where the models go.
        log: called with each of the trainer's lines as it comes.
        progress: called with how far a fit is; None: that is a line of the log as well.

    Raises:
        MFError: whatever the trainer raised; TrainerKilledError if a signal ended it.
        SystemExit: SIGTERM came while it ran; the trainer has been ended.
    """
    run_process(manifest, log, progress)
    model = read_result(manifest)
    if model is None:
        raise TrainingError(
            f"the trainer ended well but left no result at {manifest.output_uri}; "
            "see its lines above."
        )
    return model


def run_process(
    manifest: Manifest,
    log: Log,
    progress: ShowProgress | None = None,
    *,
    worker: int = 0,
    started: Callable[["subprocess.Popen[str]"], None] = lambda process: None,
) -> None:
    """Run a trainer to its end and raise what it raised.

    `worker` is its number among several (`mf_core.training.cluster`); `started` is called with the
    process once it runs.
    """
    show = progress or (lambda report: log(report.sentence()))
    with scratch_folder("mf-train") as folder:
        path = folder / "manifest.json"
        path.write_text(manifest.to_json(), encoding="utf-8")
        command = [sys.executable, "-m", "mf_core.training.process", str(path), str(worker)]
        # A worker that only helps has no checkpoint to write.
        grace = 0.0 if worker else _GRACE_SECONDS
        _run(command, folder, log, show, started=started, grace=grace)


def _run(
    command: list[str],
    folder: Path,
    log: Log,
    progress: ShowProgress,
    *,
    started: Callable[["subprocess.Popen[str]"], None],
    grace: float,
) -> None:
    # TensorFlow has temporary files of its own. Those of a trainer that is killed go with the
    # launcher's folder. The lock is one for all trainers, so it lies elsewhere.
    own = {"TMPDIR": str(folder), "MF_GPU_LOCK": str(lock_path())}
    problem: Problem | None = None
    with _sigterm_raises(), _child(command, {**os.environ, **own}, grace) as process:
        started(process)
        assert process.stdout is not None
        for line in process.stdout:
            message = decode(line)
            if isinstance(message, Problem):
                problem = message
            elif isinstance(message, Progress):
                progress(message)
            else:
                log(message)
        code = process.wait()
    if code:
        raise _error(problem, code)


def _error(problem: Problem | None, code: int) -> MFError:
    if problem:
        kind: type[MFError] = getattr(errors, problem.type, TrainingError)
        return kind(problem.message)
    if code > 0:
        return TrainingError(f"the trainer ended with exit code {code}; its last lines are above.")
    hint = ""
    if -code == signal.SIGKILL:
        hint = (
            " SIGKILL without a cause in sight is often the kernel's out-of-memory killer (dmesg)."
        )
    return TrainerKilledError(
        f"the trainer was killed by {signal.Signals(-code).name}; its last lines are above.{hint} "
        "Started again it goes on from its checkpoint."
    )


@contextmanager
def _child(
    command: list[str], environment: Mapping[str, str], grace: float
) -> Iterator["subprocess.Popen[str]"]:
    """Start `command`, and see to it that it has ended whichever way the block is left.

    Told to end, it has `grace` seconds for it.
    """
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    try:
        yield process
    finally:
        _end(process, grace)
        if process.stdout:
            process.stdout.close()


def _end(process: "subprocess.Popen[str]", grace: float) -> None:
    if process.poll() is not None:
        return
    try:
        process.terminate()
        process.wait(grace)
    except subprocess.TimeoutExpired:
        pass
    finally:
        # Also where a second signal breaks off the wait.
        if process.poll() is None:
            process.kill()
            process.wait()


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Turn SIGTERM into SystemExit within the block.

    A caller may swallow the signal, and the trainer would run on. Only the main thread may set
    handlers; elsewhere nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _raise_exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _raise_exit(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(_TERMINATED)
