"""The process that trains: `python -m mf_core.training.process MANIFEST.json WORKER`.

`mf_core.training.launcher` starts it. It is a process of its own (exec, not a fork of the task's),
since a forked CUDA context breaks and only a process's end frees GPU memory. It reads a snapshot,
fits the heads and writes their models and a `result.json`; it touches no database. It may be killed
at any moment and started again: it goes on from its checkpoints, and one that had finished returns
what it wrote, if that is still whole.

WORKER is 0, or the number of one of several workers that help the one with number 0
(`mf_core.training.together`).
"""

import dataclasses
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mf_core.config import Config
from mf_core.data import store
from mf_core.data.artifacts import remove_artifact
from mf_core.data.attributes import AttributeMatrices, encode_sides
from mf_core.data.ratings import Ratings
from mf_core.data.snapshot import Snapshot, read_snapshot, sort_ratings
from mf_core.errors import ArtifactError, MFError
from mf_core.models.factors import FactorModel, save_model
from mf_core.models.heads import load_models
from mf_core.models.samples import sample_files
from mf_core.records import HeadRef, HeadRefs, ModelRef, Progress
from mf_core.training.cluster import ALONE, Cluster
from mf_core.training.lock import lock_path, training_lock
from mf_core.training.manifest import (
    Manifest,
    Problem,
    encode,
    finished,
    read_outcome,
    read_result,
    refuse_sealed,
    versions,
    write_outcome,
    write_result,
)
from mf_core.training.parent import die_with_parent
from mf_core.training.together import connect, share_work, shared_work, with_others

if TYPE_CHECKING:
    from mf_core.solvers.fit import FitResult
    from mf_core.solvers.workers import Workers

_REPORTS_PER_FIT = 60


def say(line: str) -> None:
    """Print a line for the launcher, at once."""
    print(line, flush=True)


def main(arguments: list[str]) -> int:
    """Train what the manifest named by `arguments` says; return the exit code."""
    try:
        manifest = Manifest.from_json(Path(arguments[0]).read_text(encoding="utf-8"))
        cluster = Cluster.from_environment(int(arguments[1]))
        die_with_parent(manifest.parent_pid)
        with training_lock(lock_path(), say):
            if cluster.index:
                help_to_train(manifest, cluster)
            else:
                train(manifest, cluster)
    except MFError as error:
        say(encode(Problem(type(error).__name__, str(error))))
        return error.exit_code
    return 0


def train(manifest: Manifest, cluster: Cluster = ALONE) -> None:
    """Fit and save the heads, and write `result.json`, unless this very work stands there.

    Raises:
        StateError: the version was published by now.
        TrainingError: training failed.
        WorkerLostError: another worker of the cluster is gone, or has not come.
    """
    if finished(manifest):
        say(f"{manifest.stage}: already trained ({manifest.output_uri})")
        remove_artifact(manifest.checkpoint_uri)
        return
    refuse_sealed(manifest)
    if read_result(manifest):
        say(f"{manifest.stage}: trained, but the models are damaged by now; they are made again")
    # A worker that may read the store and not write it would say so after hours.
    store.try_store(store.store_path(manifest.output_uri))
    snapshot = read_snapshot(manifest.snapshot_uri, manifest.snapshot_sha256)
    for uri in (manifest.output_uri, manifest.checkpoint_uri):
        store.sweep_temporaries(store.store_path(uri))
    starts = _load_starts(manifest)

    # What was asked for names the result; what is really done names the checkpoints.
    work = manifest if starts else dataclasses.replace(manifest, start=None)
    if cluster.is_shared():
        _import_tensorflow()
    # TensorFlow meets the others before anything runs on it, so also before the search.
    with with_others(cluster, manifest, say) as workers:
        _refuse_what_does_not_fit(work, snapshot, workers)
        work = _after_search(work, snapshot)
        share_work(workers, work)
        results = _fit_heads(work, snapshot, starts, workers)
    heads = {head: _saved(head, work, result) for head, result in results.items()}
    _write_result(manifest, work, results, heads)
    remove_artifact(manifest.checkpoint_uri)


def help_to_train(manifest: Manifest, cluster: Cluster) -> None:
    """Take part in the fits of worker 0; it saves the models.

    `manifest` is the work before worker 0's search for settings.

    Raises:
        TrainingError: training failed.
        WorkerLostError: another worker is gone.
    """
    _import_tensorflow()
    workers = connect(cluster, manifest.settings().train.device)
    snapshot = read_snapshot(manifest.snapshot_uri, manifest.snapshot_sha256)
    work = shared_work(workers)
    _fit_heads(work, snapshot, _load_starts(work), workers)


def _refuse_what_does_not_fit(
    manifest: Manifest, snapshot: Snapshot, workers: "Workers | None"
) -> None:
    """Look at the memory for all heads at once: the second one's turn may come after hours."""
    _import_tensorflow()
    from mf_core.solvers.forecast import refuse_heads_that_do_not_fit

    n_ratings = len(snapshot.train)
    if manifest.stage == "refit":
        n_ratings += len(snapshot.test)
    shape = (len(snapshot.users), len(snapshot.items))
    n_workers = workers.n if workers else 1
    refuse_heads_that_do_not_fit(
        manifest.settings(), n_ratings, shape, n_workers=n_workers, log=say
    )


def _after_search(manifest: Manifest, snapshot: Snapshot) -> Manifest:
    """Return the work with the settings that a search finds, if one is asked for.

    What it finds is kept with the checkpoints, so that a training that is killed after it goes on
    with the same settings.
    """
    if not manifest.search:
        return manifest
    found = read_outcome(manifest)
    if found is None:
        _import_tensorflow()
        from mf_core.training.search import search_settings
        from mf_core.training.search_rows import SearchRows

        config = Config.model_validate(manifest.config)
        attributes = encoded_attributes(config, snapshot, say)
        rows = SearchRows(snapshot.train, snapshot.users, snapshot.items, attributes)
        found = search_settings(config, rows, manifest.found, say, config.heads())
        write_outcome(manifest, found)
    else:
        say(f"search: finished before: {found.sentence()}")
    return dataclasses.replace(manifest, found=found, search=False)


def encoded_attributes(
    config: Config, snapshot: Snapshot, log: Callable[[str], None]
) -> AttributeMatrices | None:
    """Return the design matrices of the snapshot's attributes.

    None where the settings or the snapshot have no use for them.
    """
    if not config.rating_head.uses_attributes() or snapshot.attributes is None:
        return None
    matrices, notes = encode_sides(snapshot.attributes)
    for note in notes:
        log(note)
    return matrices


def _load_starts(manifest: Manifest) -> dict[str, FactorModel]:
    """Return the model that each head starts from, all or none.

    An evaluated fit starts cold where one of them is damaged by now. A refit doesn't: its number of
    iterations is that of a warm start.

    Raises:
        ArtifactError: a refit's start is missing or damaged.
        ArtifactStoreError: the store can't be read.
    """
    start = manifest.start
    if start is None:
        return {}
    version = start.model_version
    try:
        models = load_models(start)
    except ArtifactError as error:
        if manifest.stage == "refit":
            raise
        say(
            f"{manifest.stage}: a cold start, since version {version} can't be started from: "
            f"{error}"
        )
        return {}
    say(f"{manifest.stage}: starting from the evaluated model of version {version}")
    return models.by_head()


def _import_tensorflow() -> None:
    """Import the solvers without the lines that TensorFlow prints before its log level holds."""
    sys.stderr.flush()
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        import mf_core.solvers.fit  # noqa: F401 (the lock comes before the import)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def _fit_heads(
    manifest: Manifest,
    snapshot: Snapshot,
    starts: dict[str, FactorModel],
    workers: "Workers | None",
) -> dict[str, "FitResult"]:
    config = manifest.settings()
    refit = manifest.stage == "refit"
    ratings = sort_ratings(snapshot.all_ratings()) if refit else snapshot.train
    say(
        f"{manifest.stage}: {len(ratings):,} ratings of {len(snapshot.users):,} users and "
        f"{len(snapshot.items):,} items"
    )
    attributes = encoded_attributes(config, snapshot, say)
    _import_tensorflow()
    with _sigterm_waits() as told_to_stop:
        return {
            head: _fit(
                head,
                manifest,
                ratings,
                snapshot,
                attributes=attributes,
                start=starts.get(head),
                told_to_stop=told_to_stop,
                workers=workers,
            )
            for head in config.heads()
        }


@contextmanager
def _sigterm_waits() -> Iterator[Callable[[], bool]]:
    """Let SIGTERM wait for the end of an iteration; the block gets a function that says it came.

    Who can't wait for so long sends SIGKILL.
    """
    came = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.set())
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


def _fit(
    head: str,
    manifest: Manifest,
    ratings: Ratings,
    snapshot: Snapshot,
    *,
    attributes: AttributeMatrices | None,
    start: FactorModel | None,
    told_to_stop: Callable[[], bool],
    workers: "Workers | None",
) -> "FitResult":
    from mf_core.solvers.checkpoint import Checkpoint
    from mf_core.solvers.fit import fit_ranking_head, fit_rating_head

    config = manifest.settings()
    checkpoint = Checkpoint(
        manifest.checkpoint_uri,
        head,
        fingerprint=manifest.fingerprint(),
        every_seconds=config.train.checkpoint_seconds,
        log=say,
        told_to_stop=told_to_stop,
        read_only=workers is not None and workers.index > 0,
    )
    common: dict[str, Any] = {
        "start": start,
        "iterations": manifest.iterations[head] if manifest.iterations else None,
        "report": _say_progress,
        "log": say,
        "checkpoint": checkpoint,
        "workers": workers,
    }
    rows = (config, ratings, snapshot.users, snapshot.items)
    if head == "rating":
        result = fit_rating_head(*rows, attributes=attributes, **common)
    else:
        result = fit_ranking_head(*rows, **common)
    say(f"{head}: fitted in {result.iterations} iterations, {result.seconds:.1f} s")
    return result


def is_worth_a_line(progress: Progress) -> bool:
    """Say whether to report an iteration: of a fit that runs hundreds, most are not."""
    step = -(-progress.iterations // _REPORTS_PER_FIT)
    is_last = progress.iteration == progress.iterations
    return is_last or progress.iteration % step == 0


def _say_progress(progress: Progress) -> None:
    if is_worth_a_line(progress):
        say(encode(progress))


def _saved(head: str, manifest: Manifest, result: "FitResult") -> HeadRef:
    """Write one head's model and return where it lies.

    Nothing in it depends on time, so the same run gives the same bytes.
    """
    metadata = {
        "head": head,
        "stage": manifest.stage,
        "model_version": manifest.model_version,
        "config": manifest.settings().for_record(),
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
    uri = f"{manifest.output_uri}/{head}"
    sha256 = save_model(result.model, uri, metadata, sample_files(result.samples))
    return HeadRef(uri, sha256, result.iterations)


def _start_version(manifest: Manifest) -> int | None:
    return manifest.start.model_version if manifest.start else None


def _write_result(
    manifest: Manifest,
    work: Manifest,
    results: dict[str, "FitResult"],
    heads: HeadRefs,
) -> None:
    model = ModelRef(
        model_version=manifest.model_version,
        stage=manifest.stage,
        heads=heads,
        device=next(iter(results.values())).device,
        fit_seconds=sum(result.seconds for result in results.values()),
        warm_started_from=_start_version(work),
        peak_bytes=max(result.peak_bytes for result in results.values()),
        found=work.found,
    )
    write_result(manifest, model, work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
