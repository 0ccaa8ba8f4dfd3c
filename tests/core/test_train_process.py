"""The trainer process: killed and resumed, locked, never left behind, and repeatable.

TensorFlow's import takes seconds, so the tests of signals and locks keep the trainer waiting on its
lock: that is before the import, and the kernel ends a waiting process as it ends a computing one.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
import pytest
from upath import UPath

from mf_core.config import Config, make_config
from mf_core.data.artifacts import check_artifact, read_file, read_unchecked_manifest
from mf_core.data.ratings import Ratings, id_map
from mf_core.data.snapshot import Snapshot, read_snapshot, sort_ratings, write_snapshot
from mf_core.errors import ArtifactError, StateError, TrainerKilledError
from mf_core.models.factors import load_model
from mf_core.records import ModelRef, StartRef
from mf_core.training.launcher import run_trainer
from mf_core.training.manifest import Manifest, finished, seal
from tests.damage import DAMAGES, do_damage, files_below

CONFIG = make_config(
    {
        "train.device": "cpu",
        "train.checkpoint_seconds": 0,
        "rating_head.solver": "als",
        "rating_head.als.n_factors": 4,
        "rating_head.als.iterations": 40,
        "rating_head.patience": 100,
        "ranking_head.n_factors": 4,
        "ranking_head.iterations": 60,
    }
)

Log = Callable[[str], None]
# The models, the lines that were logged, and the root of the artifacts.
WholeRun = tuple[ModelRef, list[str], Path]


@dataclass(frozen=True)
class Data:
    """A snapshot on disk."""

    uri: str
    sha256: str


def make_data(folder: Path, shape: tuple[int, int] = (200, 100), share: float = 0.2) -> Data:
    """Write a snapshot of so many users and items, and of a `share` of all pairs."""
    n_users, n_items = shape
    rng = np.random.default_rng(0)
    user, item = np.nonzero(rng.random(shape) < share)
    value = rng.integers(1, 6, len(user))
    ratings = Ratings(
        user.astype(np.int32),
        item.astype(np.int32),
        value.astype(np.float32),
    )
    is_test = rng.random(len(ratings)) < 0.3

    snapshot = Snapshot(
        users=id_map(f"{number:03d}" for number in range(n_users)),
        items=id_map(f"{number:03d}" for number in range(n_items)),
        train=sort_ratings(ratings.take(~is_test)),
        test=sort_ratings(ratings.take(is_test)),
    )
    uri = str(folder / "snapshot")
    sha256 = write_snapshot(snapshot, uri, {})

    return Data(uri, sha256)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """The snapshot that all trainings of this module work on."""
    folder = tmp_path_factory.mktemp("data")
    return make_data(folder)


@pytest.fixture(autouse=True)
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The training lock of this test alone."""
    path = tmp_path / "lock"
    monkeypatch.setenv("MF_GPU_LOCK", str(path))

    return path


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the training lock, as another training would."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run(data: Data, root: Path, log: Log, config: Config = CONFIG, version: int = 1) -> ModelRef:
    """Train a version's first stage."""
    manifest = work(data, root, config, version)
    return run_trainer(manifest, log)


def work(
    data: Data,
    root: Path,
    config: Config = CONFIG,
    version: int = 1,
    stage: Literal["evaluated", "refit"] = "evaluated",
    **kwargs: Any,
) -> Manifest:
    """What to train."""
    return Manifest(
        snapshot_uri=data.uri,
        snapshot_sha256=data.sha256,
        stage=stage,
        model_version=version,
        config=config.model_dump(mode="json"),
        output_uri=f"{root}/models/{version}/{stage}",
        checkpoint_uri=f"{root}/checkpoints/{version}-{stage}",
        parent_pid=os.getpid(),
        **kwargs,
    )


def trainers(of: int | None = None) -> list[psutil.Process]:
    """Return the trainers below a process; None stands for this one."""
    children = psutil.Process(of).children(recursive=True)
    return [child for child in children if _is_trainer(child)]


def _is_trainer(process: psutil.Process) -> bool:
    """Say whether a process trains; one that has ended does not."""
    try:
        return "mf_core.training.process" in process.cmdline()
    except psutil.NoSuchProcess:
        return False


def kill_at(mark: str, lines: list[str] | None = None) -> Log:
    """Return a log callback that kills the trainer at the first line that holds `mark`.

    `lines` get each line.
    """

    def log(line: str) -> None:
        if lines is not None:
            lines.append(line)
        if mark in line:
            for trainer in trainers():
                trainer.kill()

    return log


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for a condition, and fail where it does not come true in time."""
    deadline = time.monotonic() + seconds

    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def undisturbed(data: Data, tmp_path_factory: pytest.TempPathFactory) -> WholeRun:
    """One whole run, its lines and its root."""
    root = tmp_path_factory.mktemp("undisturbed")
    lines: list[str] = []

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MF_GPU_LOCK", str(root / "lock"))
        model = run(data, root, lines.append)

    return model, lines, root


def test_a_run_says_how_it_goes_and_leaves_two_models_and_no_checkpoint(
    undisturbed: WholeRun, data: Data
) -> None:
    model, lines, root = undisturbed
    assert model.heads["rating"].uri == f"{root}/models/1/evaluated/rating"
    assert model.heads["ranking"].iterations == 60
    assert model.device == "CPU"
    assert model.stage == "evaluated"
    assert model.model_version == 1
    assert model.fit_seconds > 0

    rating = load_model(model.heads["rating"].uri, model.heads["rating"].sha256)
    ranking = load_model(model.heads["ranking"].uri, model.heads["ranking"].sha256)

    assert rating.user_factors.shape == (200, 4)
    # Those of least squares, the item-item learner's, and one for what is popular.
    assert ranking.item_factors.shape == (100, 4 + 100 + 1)

    sweeps = [line for line in lines if line.startswith("rating: sweep ")]
    last = [line for line in lines if "ranking: sweep 60/60, train RMSE" in line]

    assert len(sweeps) == 40
    assert any("ratings/s, ETA 0 s" in line for line in last)
    assert any("on CPU; padding" in line for line in lines)
    assert not [line for line in lines if "oneDNN" in line or "cuda" in line]

    assert not (root / "checkpoints" / "1-evaluated").exists()


def test_the_same_call_again_returns_the_same_models_at_once(
    undisturbed: WholeRun, data: Data
) -> None:
    model, _, root = undisturbed
    lines: list[str] = []
    again = run(data, root, lines.append)

    assert again == model
    assert lines == [f"evaluated: already trained ({root}/models/1/evaluated)"]


def test_a_run_killed_midway_goes_on_and_ends_with_the_same_bytes(
    undisturbed: WholeRun, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("TMPDIR", str(temporary))
    said = r"was killed by SIGKILL.*goes on from its checkpoint"
    with pytest.raises(TrainerKilledError, match=said):
        run(data, tmp_path, kill_at("rating: sweep 5/40"))
    # What TensorFlow had written there is gone as well.
    assert list(temporary.iterdir()) == []

    # The newest checkpoint of a head is damaged: the one before it will do.
    before, newest = whole_checkpoints(tmp_path, "rating")[-2:]
    do_damage(newest.file, "flip a bit")
    lines: list[str] = []
    with pytest.raises(TrainerKilledError, match=said):
        run(data, tmp_path, kill_at("ranking: sweep 4/60", lines))
    assert f"rating: resuming after iteration {before.iteration}" in lines
    assert any("rating: ignoring a damaged checkpoint" in line for line in lines)

    # All are: the head begins again.
    for checkpoint in whole_checkpoints(tmp_path, "ranking"):
        do_damage(checkpoint.file, "truncate")
    lines = []
    model = run(data, tmp_path, lines.append)

    assert any(line.startswith("rating: resuming after iteration 40") for line in lines)
    assert not any(line.startswith("rating: sweep") for line in lines)
    assert any("ranking: ignoring a damaged checkpoint" in line for line in lines)
    assert any(line.startswith("ranking: sweep 1/60") for line in lines)

    whole = undisturbed[0]
    assert model.heads["rating"].sha256 == whole.heads["rating"].sha256
    assert model.heads["ranking"].sha256 == whole.heads["ranking"].sha256

    written = (tmp_path / "models/1/evaluated").iterdir()
    assert sorted(path.name for path in written) == ["ranking", "rating", "result.json"]


# So long that no checkpoint is due by itself, and that no signal comes too late.
LONG_CONFIG = make_config(
    {"train.checkpoint_seconds": 3600, "rating_head.als.iterations": 1000}, CONFIG
)


@pytest.mark.parametrize("whom", ["trainer", "launcher"])
def test_a_training_told_to_stop_writes_a_checkpoint_and_goes(
    data: Data, tmp_path: Path, whom: str
) -> None:
    def stop(line: str) -> None:
        if "rating: sweep" in line and len(told) == 0:
            (trainer,) = trainers()
            told.append(line)
            os.kill(trainer.pid if whom == "trainer" else os.getpid(), signal.SIGTERM)

    told: list[str] = []
    ended = TrainerKilledError if whom == "trainer" else SystemExit
    with pytest.raises(ended, match="told to stop" if whom == "trainer" else "143"):
        run(data, tmp_path, stop, LONG_CONFIG)
    assert trainers() == []

    (checkpoint,) = whole_checkpoints(tmp_path, "rating")
    lines: list[str] = []
    with pytest.raises(TrainerKilledError):
        run(data, tmp_path, kill_at("rating: sweep", lines), LONG_CONFIG)
    assert f"rating: resuming after iteration {checkpoint.iteration}" in lines


@dataclass(frozen=True)
class SavedCheckpoint:
    """A checkpoint: the iteration that it was written after, and one of its files."""

    iteration: int
    file: UPath


def whole_checkpoints(root: Path, head: str) -> list[SavedCheckpoint]:
    """Return a head's checkpoints but one that was being written; the newest comes last."""
    found = []
    for slot in UPath(root / "checkpoints/1-evaluated").glob(f"{head}-?"):
        with suppress(ArtifactError):
            manifest = read_unchecked_manifest(str(slot))
            contents = {name: read_file(str(slot), name, manifest) for name in manifest["files"]}
            iteration = json.loads(contents["numbers.json"])["iteration"]
            found.append(SavedCheckpoint(iteration, slot / max(contents)))
    return sorted(found, key=lambda checkpoint: checkpoint.iteration)


@pytest.fixture
def to_be_damaged(undisturbed: WholeRun, tmp_path: Path) -> Iterator[Path]:
    """The output of the undisturbed run, which is put back after the test."""
    output = undisturbed[2] / "models/1/evaluated"
    shutil.copytree(output, tmp_path / "whole")
    yield output
    shutil.rmtree(output)
    shutil.copytree(tmp_path / "whole", output)


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_damaged_output_counts_as_finished(
    undisturbed: WholeRun, data: Data, to_be_damaged: Path, damage: str
) -> None:
    model, _, root = undisturbed
    manifest = work(data, root)
    files = files_below(str(to_be_damaged))
    assert len(files) == 2 * 7 + 1
    for file in files:
        content = file.read_bytes()
        do_damage(file, damage)
        assert finished(manifest) is None, file
        file.write_bytes(content)
    assert finished(manifest) == model


def test_damaged_models_are_trained_again_to_the_same_bytes(
    undisturbed: WholeRun, data: Data, to_be_damaged: Path
) -> None:
    model, _, root = undisturbed
    heads = UPath(to_be_damaged)
    do_damage(heads / "rating/user_bias.npy", "flip a bit")
    do_damage(heads / "rating/manifest.json", "truncate")
    do_damage(heads / "ranking/items.parquet", "delete")
    lines: list[str] = []
    again = run(data, root, lines.append)

    assert lines[0] == "evaluated: trained, but the models are damaged by now; they are made again"
    assert again.heads["rating"].sha256 == model.heads["rating"].sha256
    assert again.heads["ranking"].sha256 == model.heads["ranking"].sha256
    check_artifact(model.heads["rating"].uri, model.heads["rating"].sha256)
    check_artifact(model.heads["ranking"].uri, model.heads["ranking"].sha256)


def test_damaged_models_of_a_published_version_stay_and_the_way_out_is_named(
    undisturbed: WholeRun, data: Data, to_be_damaged: Path
) -> None:
    root = undisturbed[2]
    do_damage(UPath(to_be_damaged) / "rating/user_bias.npy", "flip a bit")
    seal(str(root), 1)
    try:
        with pytest.raises(StateError, match=r"was published.* docs/runbook.md#artifacts"):
            run(data, root, print)
    finally:
        (root / "models/1/published").unlink()


def run_warm(
    data: Data,
    root: Path,
    log: Log,
    start: StartRef,
    stage: Literal["evaluated", "refit"] = "evaluated",
) -> ModelRef:
    """Train a stage of version 2 from the models of `start`."""
    iterations = {"rating": 2, "ranking": 2} if stage == "refit" else None
    manifest = work(
        data,
        root,
        version=2,
        stage=stage,
        iterations=iterations,
        start=start,
    )

    return run_trainer(manifest, log)


def test_a_warm_start_killed_midway_goes_on_and_ends_with_the_same_bytes(
    undisturbed: WholeRun, data: Data, tmp_path: Path
) -> None:
    cold = undisturbed[0]
    start = cold.as_start()
    lines: list[str] = []
    whole = run_warm(data, tmp_path / "whole", lines.append, start)

    assert "evaluated: starting from the evaluated model of version 1" in lines
    assert whole.warm_started_from == 1

    for mark in ("rating: sweep 3/40", "ranking: sweep 4/60"):
        with pytest.raises(TrainerKilledError):
            run_warm(data, tmp_path / "killed", kill_at(mark), start)

    resumed = run_warm(data, tmp_path / "killed", print, start)

    assert resumed.heads["rating"].sha256 == whole.heads["rating"].sha256
    assert resumed.heads["ranking"].sha256 == whole.heads["ranking"].sha256

    cold_rating = load_model(cold.heads["rating"].uri, cold.heads["rating"].sha256)
    warm_rating = load_model(whole.heads["rating"].uri, whole.heads["rating"].sha256)

    assert not np.array_equal(cold_rating.item_factors, warm_rating.item_factors)


def test_a_refit_whose_start_is_damaged_is_refused(
    undisturbed: WholeRun, data: Data, tmp_path: Path
) -> None:
    start = undisturbed[0].as_start()
    start.heads["ranking"] = replace(start.heads["ranking"], sha256="0" * 64)
    with pytest.raises(ArtifactError, match="was changed or damaged"):
        run_warm(data, tmp_path, print, start, "refit")


def test_a_refit_trains_on_both_sides_for_the_given_iterations(data: Data, tmp_path: Path) -> None:
    lines: list[str] = []
    iterations = {"rating": 2, "ranking": 3}
    manifest = work(data, tmp_path, stage="refit", iterations=iterations)
    model = run_trainer(manifest, lines.append)

    assert model.heads["rating"].iterations == 2
    assert model.heads["ranking"].iterations == 3
    assert not any("validation" in line for line in lines)

    snapshot = read_snapshot(data.uri, data.sha256)
    n_ratings = len(snapshot.train) + len(snapshot.test)

    assert lines[0].startswith(f"refit: {n_ratings:,} ratings of 200 users")


def test_the_trainer_s_error_is_raised_by_the_launcher(data: Data, tmp_path: Path) -> None:
    changed = Data(data.uri, "0" * 64)

    with pytest.raises(ArtifactError, match="it was changed or damaged after it was written"):
        run(changed, tmp_path, print)


@contextmanager
def launcher(data: Data, root: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that calls `run_trainer`, as a task would.

    It hears SIGINT even where a shell's background job ignores it.
    """
    manifest = work(data, root, Config()).to_json()
    code = f"""
        import signal
        signal.signal(signal.SIGINT, signal.default_int_handler)
        import dataclasses, os
        from mf_core.training.launcher import run_trainer
        from mf_core.training.manifest import Manifest
        manifest = Manifest.from_json({manifest!r})
        manifest = dataclasses.replace(manifest, parent_pid=os.getpid())
        run_trainer(manifest, log=lambda line: print(line, flush=True))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def is_gone(process: psutil.Process) -> bool:
    """Say whether a process has ended, even if nobody has asked for its status."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9), (signal.SIGINT, -2)]
)
def test_no_trainer_outlives_a_launcher_that_is_signalled(
    number: signal.Signals, code: int, data: Data, tmp_path: Path, own_lock: Path
) -> None:
    with held(own_lock), launcher(data, tmp_path) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("waiting for another training to end")

        (trainer,) = trainers(process.pid)
        process.send_signal(number)
        assert process.wait(20) == code
        wait_until(lambda: is_gone(trainer), 10)


def test_what_a_killed_launcher_left_goes_with_the_next_one(
    data: Data, tmp_path: Path, own_lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with held(own_lock), launcher(data, tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        process.wait(20)
    assert len(list(tmp_path.glob("mf-train-*"))) == 1

    with pytest.raises(ArtifactError):
        run(Data(data.uri, "0" * 64), tmp_path, print)
    assert list(tmp_path.glob("mf-train-*")) == []


def test_an_exception_in_the_log_callback_ends_the_trainer(
    data: Data, tmp_path: Path, own_lock: Path
) -> None:
    def fail(line: str) -> None:
        raise RuntimeError("no more room for logs")

    with held(own_lock), pytest.raises(RuntimeError, match="no more room"):
        run(data, tmp_path, fail)

    assert trainers() == []


def test_the_launcher_gives_the_caller_its_signal_handler_back(data: Data, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    changed = Data(data.uri, "0" * 64)

    with pytest.raises(ArtifactError):
        run(changed, tmp_path, print)

    assert signal.getsignal(signal.SIGTERM) is before


def test_two_trainings_never_hold_the_lock_at_once(own_lock: Path) -> None:
    code = """
        import time
        from pathlib import Path
        from mf_core.training.lock import lock_path, training_lock
        with training_lock(lock_path(), print):
            start = time.monotonic()
            time.sleep(0.5)
            print(start, time.monotonic())
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]

    spans = []
    for process in processes:
        printed, _ = process.communicate()
        start, end = printed.splitlines()[-1].split()
        spans.append((float(start), float(end)))

    first, second = sorted(spans)
    assert first[1] <= second[0]


def test_a_trainer_whose_launcher_is_gone_refuses_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    other_pid = os.getpid() + 1
    code = f"from mf_core.training.process import die_with_parent; die_with_parent({other_pid})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert "TrainingError: the process" in done.stderr
