"""The process that trains: `python -m mf_core.trainer MANIFEST.json`. `mf_core.train` starts it.

It is a process of its own (exec, not a fork of the task's), since a forked CUDA context breaks and only a process's end frees
GPU memory. It reads a snapshot, fits both heads and writes both models and a `result.json`; it touches no database. It may be
killed at any moment and started again: it goes on from its checkpoints, and one that had finished returns what it wrote.
"""

import ctypes
import dataclasses
import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import signal
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from upath import UPath

from mf_core import __version__
from mf_core.artifacts import read_manifest, remove_artifact
from mf_core.attributes import AttributeMatrices, encode_sides
from mf_core.config import Config
from mf_core.errors import ArtifactError, ArtifactStoreError, MFError, TrainingError
from mf_core.factors import FactorModel, load_model, save_model
from mf_core.ratings import Ratings, concatenate
from mf_core.records import ModelRef
from mf_core.samples import sample_files
from mf_core.snapshot import Snapshot, read_snapshot, sort_ratings

if TYPE_CHECKING:
    from mf_core.solvers.fit import FitResult
    from mf_core.solvers.iterate import IterationReport

RESULT = "result.json"
ERROR_PREFIX = "mf-trainer-error "
"""A line that begins with this holds the error as JSON: {"type": ..., "message": ...}."""

HEADS = ("rating", "ranking")
_PR_SET_PDEATHSIG = 1
_LINES_PER_FIT = 60


@dataclass(frozen=True)
class Manifest:
    """What to train.

    `iterations` holds {"rating": n, "ranking": n} for a refit, None where early stopping decides. `warm_start` says where the
    model lies that the fit starts from, {"version", "rating_uri", "rating_sha256", "ranking_uri", "ranking_sha256"}; None: a
    cold start.
    """

    snapshot_uri: str
    snapshot_sha256: str
    stage: Literal["evaluated", "refit"]
    model_version: int
    config: dict[str, Any]
    output_uri: str
    checkpoint_uri: str
    iterations: dict[str, int] | None
    warm_start: dict[str, Any] | None
    parent_pid: int

    def fingerprint(self) -> str:
        """sha256 (hex) over all that the result depends on, the versions of the code included."""
        fields = {name: value for name, value in vars(self).items() if name != "parent_pid"}
        return hashlib.sha256(json.dumps([fields, versions()], sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of all that decides the bits of a result."""
    packages = {name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "numpy")}
    return {"mf_core": __version__, "python": platform.python_version(), **packages}


def say(line: str) -> None:
    """Print a line for the launcher, at once."""
    print(line, flush=True)


def main(arguments: list[str]) -> int:
    """Train what the manifest named by `arguments` says; return the exit code."""
    try:
        manifest = Manifest(**json.loads(Path(arguments[0]).read_text(encoding="utf-8")))
        die_with_parent(manifest.parent_pid)
        with training_lock(lock_path()):
            train(manifest)
    except MFError as error:
        say(ERROR_PREFIX + json.dumps({"type": type(error).__name__, "message": str(error)}))
        return error.exit_code
    return 0


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process as soon as its parent ends, and let SIGTERM end it at once.

    Raises:
        TrainingError: the parent has ended already.
    """
    # The default action: a Python handler would wait for a long TensorFlow call to return.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        raise TrainingError(
            f"the process {parent_pid} that asked for this training has ended; start the step again."
        )


def lock_path() -> Path:
    """Return the file whose lock a training holds: MF_GPU_LOCK, or one per user in the temporary folder."""
    return Path(
        os.environ.get("MF_GPU_LOCK")
        or Path(tempfile.gettempdir()) / f"mf-train-{os.getuid()}.lock"
    )


@contextmanager
def training_lock(path: Path) -> Iterator[None]:
    """Hold the lock on `path`, so that two trainings never share the GPU; wait where another one holds it.

    The kernel releases it when the process ends, however it ends.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise TrainingError(
            f"the lock file {path} can't be opened ({error.strerror}); set MF_GPU_LOCK to another path."
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"waiting for another training to end (lock {path})")
        fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(file)


def train(manifest: Manifest) -> None:
    """Fit and save both heads, and write `result.json`, unless this very work stands there already."""
    if finished(manifest):
        say(f"{manifest.stage}: already trained ({manifest.output_uri})")
        return
    snapshot = read_snapshot(manifest.snapshot_uri, manifest.snapshot_sha256)
    config = Config.model_validate(manifest.config)
    refit = manifest.stage == "refit"
    ratings = (
        sort_ratings(concatenate((snapshot.train, snapshot.test))) if refit else snapshot.train
    )
    _remove_leftovers(manifest.output_uri)
    say(
        f"{manifest.stage}: {len(ratings):,} ratings of {len(snapshot.users):,} users and {len(snapshot.items):,} items"
    )
    attributes = encoded_attributes(config, snapshot, say)
    starts = _load_starts(manifest)
    # What was asked for names the result; what is really done names the checkpoints.
    work = manifest if starts else dataclasses.replace(manifest, warm_start=None)
    _import_tensorflow()
    results = {
        head: _fit(head, work, config, ratings, snapshot, attributes, starts.get(head))
        for head in HEADS
    }
    checksums = {head: _save(head, work, results[head]) for head in HEADS}
    _write_result(manifest, work, results, checksums)
    remove_artifact(manifest.checkpoint_uri)


def encoded_attributes(
    config: Config, snapshot: Snapshot, log: Callable[[str], None]
) -> AttributeMatrices | None:
    """Return the design matrices of the snapshot's attributes; None where the settings or the snapshot have no use for them."""
    if not config.rating_head.uses_attributes() or snapshot.attributes is None:
        return None
    matrices, notes = encode_sides(snapshot.attributes)
    for note in notes:
        log(note)
    return matrices


def _load_starts(manifest: Manifest) -> dict[str, FactorModel]:
    """Return the model that each head starts from, both or none.

    An evaluated fit starts cold where one of them is damaged by now. A refit doesn't: its number of iterations is that of a
    warm start.

    Raises:
        ArtifactError: a refit's start is missing or damaged.
        ArtifactStoreError: the store can't be read.
    """
    start = manifest.warm_start
    if start is None:
        return {}
    try:
        models = {head: load_model(start[f"{head}_uri"], start[f"{head}_sha256"]) for head in HEADS}
    except ArtifactError as error:
        if manifest.stage == "refit":
            raise
        say(
            f"{manifest.stage}: a cold start, since version {start['version']} can't be started from: {error}"
        )
        return {}
    say(f"{manifest.stage}: starting from the evaluated model of version {start['version']}")
    return models


def finished(manifest: Manifest) -> ModelRef | None:
    """Return the result that stands at the output of `manifest`, if it is of this very work and whole; else None."""
    path = UPath(manifest.output_uri) / RESULT
    try:
        if not path.exists():
            return None
        result = json.loads(path.read_bytes())
        if result.pop("fingerprint") != manifest.fingerprint():
            return None
        model = ModelRef(**result)
        read_manifest(model.rating_uri, model.rating_sha256)
        read_manifest(model.ranking_uri, model.ranking_sha256)
    except (ArtifactError, ValueError, KeyError, TypeError):
        return None
    except OSError as error:
        raise ArtifactStoreError(
            f"{path} could not be read: {error}. Check the store and MF_ARTIFACT_ROOT."
        ) from error
    return model


def _import_tensorflow() -> None:
    """Import the solvers without the lines that TensorFlow's C++ prints before its log level holds."""
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        import mf_core.solvers.fit  # noqa: F401 (the lock comes before the import)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def _fit(
    head: str,
    manifest: Manifest,
    config: Config,
    ratings: Ratings,
    snapshot: Snapshot,
    attributes: AttributeMatrices | None,
    start: FactorModel | None,
) -> "FitResult":
    from mf_core.solvers.checkpoint import Checkpoint
    from mf_core.solvers.fit import fit_ranking_head, fit_rating_head

    fit = partial(fit_rating_head, attributes=attributes) if head == "rating" else fit_ranking_head
    seconds = config.train.checkpoint_seconds
    result = fit(
        config,
        ratings,
        snapshot.users,
        snapshot.items,
        start=start,
        iterations=manifest.iterations[head] if manifest.iterations else None,
        report=_say_progress,
        log=say,
        checkpoint=Checkpoint(manifest.checkpoint_uri, head, manifest.fingerprint(), seconds, say),
    )
    say(f"{head}: fitted in {result.iterations} iterations, {result.seconds:.1f} s")
    return result


def progress_line(report: "IterationReport") -> str | None:
    """Return the line for one iteration; None for most of a fit that runs hundreds of them."""
    step = -(-report.iterations // _LINES_PER_FIT)
    if report.iteration % step and report.iteration != report.iterations:
        return None
    validation = (
        "" if report.validation_rmse is None else f", validation RMSE {report.validation_rmse:.4f}"
    )
    return (
        f"{report.head}: {report.unit} {report.iteration}/{report.iterations}, "
        f"train RMSE {report.train_rmse:.4f}{validation}, "
        f"{report.ratings_per_second:,.0f} ratings/s, ETA {report.eta_seconds:.0f} s"
    )


def _say_progress(report: "IterationReport") -> None:
    if line := progress_line(report):
        say(line)


def _save(head: str, manifest: Manifest, result: "FitResult") -> str:
    """Write one head's model and return its sha256. Nothing in it depends on time, so the same run gives the same bytes."""
    metadata = {
        "head": head,
        "stage": manifest.stage,
        "model_version": manifest.model_version,
        "config": manifest.config,
        "seed": manifest.config["train"]["seed"],
        "snapshot_uri": manifest.snapshot_uri,
        "snapshot_sha256": manifest.snapshot_sha256,
        "warm_started_from": _start_version(manifest),
        "versions": versions(),
        "device": result.device,
        "iterations": result.iterations,
        "train_rmse": result.train_rmse,
        "validation_rmse": result.validation_rmse,
    }
    return save_model(
        result.model, f"{manifest.output_uri}/{head}", metadata, sample_files(result.samples)
    )


def _start_version(manifest: Manifest) -> int | None:
    return manifest.warm_start["version"] if manifest.warm_start else None


def _write_result(
    manifest: Manifest, work: Manifest, results: dict[str, "FitResult"], checksums: dict[str, str]
) -> None:
    model = ModelRef(
        model_version=manifest.model_version,
        stage=manifest.stage,
        rating_uri=f"{manifest.output_uri}/rating",
        rating_sha256=checksums["rating"],
        rating_iterations=results["rating"].iterations,
        ranking_uri=f"{manifest.output_uri}/ranking",
        ranking_sha256=checksums["ranking"],
        ranking_iterations=results["ranking"].iterations,
        device=results["rating"].device,
        fit_seconds=sum(result.seconds for result in results.values()),
        warm_started_from=_start_version(work),
    )
    path = UPath(manifest.output_uri) / RESULT
    temporary = path.parent / f".{RESULT}.{uuid.uuid4().hex}"
    content = {**dataclasses.asdict(model), "fingerprint": manifest.fingerprint()}
    try:
        temporary.write_bytes(json.dumps(content, indent=1, sort_keys=True).encode())
        temporary.rename(path)
    except OSError as error:
        raise ArtifactStoreError(
            f"{path} could not be written: {error}. Check the store and MF_ARTIFACT_ROOT."
        ) from error


def _remove_leftovers(output_uri: str) -> None:
    """Remove what a process killed while it wrote left under its temporary names."""
    folder = UPath(output_uri)
    for path in folder.iterdir() if folder.exists() else ():
        if path.name.startswith("."):
            path.rmdir(recursive=True) if path.is_dir() else path.unlink()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
