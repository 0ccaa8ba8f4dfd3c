"""The launcher: starts the trainer process, forwards its lines, and never leaves it behind. Imports no TensorFlow."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NoReturn

from mf_core import errors
from mf_core.config import Config
from mf_core.errors import MFError, TrainerKilledError, TrainingError
from mf_core.records import ModelRef
from mf_core.trainer import ERROR_PREFIX, Manifest, finished

_GRACE_SECONDS = 2.0
_TERMINATED = 128 + signal.SIGTERM


def run_trainer(
    config: Config,
    snapshot_uri: str,
    snapshot_sha256: str,
    model_version: int,
    stage: Literal["evaluated", "refit"],
    artifact_root: str,
    iterations: dict[str, int] | None = None,
    warm_start: dict[str, Any] | None = None,
    log: Callable[[str], None] = print,
) -> ModelRef:
    """Train both heads in a process of its own and return where they lie.

    The models are written to `<artifact_root>/models/<model_version>/<stage>/{rating,ranking}`. A call that was killed and is
    made again goes on from the checkpoints; one that had finished returns the same models at once.

    Args:
        config: all settings of the run.
        snapshot_uri: the snapshot to train on.
        snapshot_sha256: its checksum.
        model_version: the run's number.
        stage: `evaluated` trains on the training side, `refit` on both sides.
        artifact_root: any fsspec URI.
        iterations: for a refit, {"rating": n, "ranking": n} of the evaluated fit.
        warm_start: the model to start from, as in `mf_core.trainer.Manifest`; None: a cold start.
        log: called with each of the trainer's lines as it comes.

    Raises:
        MFError: whatever the trainer raised; TrainerKilledError if a signal ended it.
        SystemExit: SIGTERM came while it ran; the trainer has been ended.
    """
    root, name = artifact_root.rstrip("/"), f"{model_version}-{stage}"
    manifest = Manifest(
        snapshot_uri=snapshot_uri,
        snapshot_sha256=snapshot_sha256,
        stage=stage,
        model_version=model_version,
        config=config.model_dump(mode="json"),
        output_uri=f"{root}/models/{model_version}/{stage}",
        checkpoint_uri=f"{root}/checkpoints/{name}",
        iterations=iterations,
        warm_start=warm_start,
        parent_pid=os.getpid(),
    )
    with tempfile.TemporaryDirectory(prefix="mf-train-") as folder:
        path = Path(folder) / "manifest.json"
        path.write_text(json.dumps(vars(manifest)), encoding="utf-8")
        _run(path, log)
    model = finished(manifest)
    if model is None:
        raise TrainingError(
            f"the trainer ended well but left no result at {manifest.output_uri}; see its lines above."
        )
    return model


def _run(manifest_path: Path, log: Callable[[str], None]) -> None:
    """Run the trainer to its end and raise what it raised."""
    command = [sys.executable, "-m", "mf_core.trainer", str(manifest_path)]
    problem: dict[str, str] | None = None
    with _sigterm_raises(), _child(command) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(ERROR_PREFIX):
                problem = json.loads(line.removeprefix(ERROR_PREFIX))
            else:
                log(line.rstrip("\n"))
        code = process.wait()
    if code:
        raise _error(problem, code)


def _error(problem: dict[str, str] | None, code: int) -> MFError:
    if problem:
        kind: type[MFError] = getattr(errors, problem["type"], TrainingError)
        return kind(problem["message"])
    if code > 0:
        return TrainingError(f"the trainer ended with exit code {code}; its last lines are above.")
    hint = (
        " SIGKILL without a cause in sight is often the kernel's out-of-memory killer (dmesg)."
        if code == -9
        else ""
    )
    return TrainerKilledError(
        f"the trainer was killed by {signal.Signals(-code).name}; its last lines are above.{hint} Started again it goes on "
        "from its checkpoint."
    )


@contextmanager
def _child(command: list[str]) -> Iterator["subprocess.Popen[str]"]:
    """Start `command` and see to it that it has ended when the block is left, whichever way."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    try:
        yield process
    finally:
        _end(process)
        if process.stdout:
            process.stdout.close()


def _end(process: "subprocess.Popen[str]") -> None:
    if process.poll() is not None:
        return
    try:
        process.terminate()
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        # Also where a second signal breaks off the wait.
        if process.poll() is None:
            process.kill()
            process.wait()


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Turn SIGTERM into SystemExit within the block: a caller may swallow the signal, and the trainer would run on.

    Only the main thread may set handlers; elsewhere nothing is changed.
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
