"""The trainer process: killed and resumed, serialised by its lock, never left behind, and repeatable.

TensorFlow's import takes seconds, so the tests of signals and locks keep the trainer waiting on its lock: that is before the
import, and the kernel ends a waiting process as it ends a computing one.
"""

import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
import pytest

from mf_core.config import Config, make_config
from mf_core.data.ratings import Ratings, id_map
from mf_core.data.snapshot import Snapshot, read_snapshot, sort_ratings, write_snapshot
from mf_core.errors import ArtifactError, TrainerKilledError
from mf_core.models.factors import load_model
from mf_core.records import ModelRef, StartRef
from mf_core.training.launcher import run_trainer
from mf_core.training.manifest import Manifest

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


@dataclass(frozen=True)
class Data:
    """A snapshot on disk."""

    uri: str
    sha256: str


def make_data(folder: Path) -> Data:
    rng = np.random.default_rng(0)
    user, item = (rows.astype(np.int32) for rows in np.nonzero(rng.random((200, 100)) < 0.2))
    ratings = Ratings(user, item, rng.integers(1, 6, len(user)).astype(np.float32))
    test = rng.random(len(ratings)) < 0.3
    users, items = (id_map(f"{number:03d}" for number in range(n)) for n in (200, 100))
    snapshot = Snapshot(
        users, items, sort_ratings(ratings.take(~test)), sort_ratings(ratings.take(test))
    )

    return Data(str(folder / "snapshot"), write_snapshot(snapshot, str(folder / "snapshot"), {}))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "lock"
    monkeypatch.setenv("MF_GPU_LOCK", str(path))

    return path


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the training lock, as another training would."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run(
    data: Data, root: Path, log: Callable[[str], None], config: Config = CONFIG, version: int = 1
) -> ModelRef:
    return run_trainer(work(data, root, config, version), log)


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
    return [
        child
        for child in psutil.Process(of).children(recursive=True)
        if "mf_core.training.process" in child.cmdline()
    ]


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def undisturbed(
    data: Data, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ModelRef, list[str], Path]:
    """One whole run, its lines and its root."""
    root = tmp_path_factory.mktemp("undisturbed")
    lines = []

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MF_GPU_LOCK", str(root / "lock"))
        return run(data, root, lines.append), lines, root


def test_a_run_says_how_it_goes_and_leaves_two_models_and_no_checkpoint(
    undisturbed: tuple[ModelRef, list[str], Path], data: Data
) -> None:
    model, lines, root = undisturbed
    assert model.rating_uri == f"{root}/models/1/evaluated/rating"
    assert model.ranking_iterations == 60
    assert model.device == "CPU"
    assert model.stage == "evaluated"
    assert model.model_version == 1
    assert model.fit_seconds > 0
    assert load_model(model.rating_uri, model.rating_sha256).user_factors.shape == (200, 4)
    assert load_model(model.ranking_uri, model.ranking_sha256).item_factors.shape == (100, 4)
    assert len([line for line in lines if line.startswith("rating: sweep ")]) == 40
    assert any(
        "ranking: sweep 60/60, train RMSE" in line and "ratings/s, ETA 0 s" in line
        for line in lines
    )
    assert any("on CPU; padding" in line for line in lines)
    assert not [line for line in lines if "oneDNN" in line or "cuda" in line]
    assert not (root / "checkpoints" / "1-evaluated").exists()


def test_the_same_call_again_returns_the_same_models_at_once(
    undisturbed: tuple[ModelRef, list[str], Path], data: Data
) -> None:
    model, _, root = undisturbed
    lines: list[str] = []

    assert run(data, root, lines.append) == model
    assert lines == [f"evaluated: already trained ({root}/models/1/evaluated)"]


def test_a_run_killed_midway_goes_on_and_ends_with_the_same_bytes(
    undisturbed: tuple[ModelRef, list[str], Path], data: Data, tmp_path: Path
) -> None:
    def kill_at(mark: str) -> Callable[[str], None]:
        return lambda line: (
            [trainer.kill() for trainer in trainers()] and None if mark in line else None
        )

    for mark in ("rating: sweep 5/40", "ranking: sweep 4/60"):
        with pytest.raises(
            TrainerKilledError, match=r"was killed by SIGKILL.*goes on from its checkpoint"
        ):
            run(data, tmp_path, kill_at(mark))

    lines: list[str] = []
    model = run(data, tmp_path, lines.append)

    assert any(line.startswith("rating: resuming after iteration 40") for line in lines)
    assert any(line.startswith("ranking: resuming after iteration ") for line in lines)
    assert not any(line.startswith("rating: sweep") for line in lines)

    whole = undisturbed[0]
    assert model.rating_sha256 == whole.rating_sha256
    assert model.ranking_sha256 == whole.ranking_sha256
    assert sorted(path.name for path in (tmp_path / "models/1/evaluated").iterdir()) == [
        "ranking",
        "rating",
        "result.json",
    ]


def run_warm(
    data: Data,
    root: Path,
    log: Callable[[str], None],
    start: StartRef,
    stage: Literal["evaluated", "refit"] = "evaluated",
) -> ModelRef:
    iterations = {"rating": 2, "ranking": 2} if stage == "refit" else None
    manifest = work(data, root, version=2, stage=stage, iterations=iterations, start=start)

    return run_trainer(manifest, log)


def test_a_warm_start_killed_midway_goes_on_and_ends_with_the_same_bytes(
    undisturbed: tuple[ModelRef, list[str], Path], data: Data, tmp_path: Path
) -> None:
    def kill_at(mark: str) -> Callable[[str], None]:
        return lambda line: (
            [trainer.kill() for trainer in trainers()] and None if mark in line else None
        )

    start = undisturbed[0].as_start()
    lines = []
    whole = run_warm(data, tmp_path / "whole", lines.append, start)

    assert "evaluated: starting from the evaluated model of version 1" in lines

    for mark in ("rating: sweep 3/40", "ranking: sweep 4/60"):
        with pytest.raises(TrainerKilledError):
            run_warm(data, tmp_path / "killed", kill_at(mark), start)

    resumed = run_warm(data, tmp_path / "killed", print, start)
    assert resumed.rating_sha256 == whole.rating_sha256
    assert resumed.ranking_sha256 == whole.ranking_sha256
    assert whole.warm_started_from == 1

    cold, warm = (
        load_model(model.rating_uri, model.rating_sha256) for model in (undisturbed[0], whole)
    )

    assert not np.array_equal(cold.item_factors, warm.item_factors)


def test_a_refit_whose_start_is_damaged_is_refused(
    undisturbed: tuple[ModelRef, list[str], Path], data: Data, tmp_path: Path
) -> None:
    start = replace(undisturbed[0].as_start(), ranking_sha256="0" * 64)
    with pytest.raises(ArtifactError, match="was changed or damaged"):
        run_warm(data, tmp_path, print, start, "refit")


def test_a_refit_trains_on_both_sides_for_the_given_iterations(data: Data, tmp_path: Path) -> None:
    lines: list[str] = []
    iterations = {"rating": 2, "ranking": 3}
    model = run_trainer(work(data, tmp_path, stage="refit", iterations=iterations), lines.append)

    assert model.rating_iterations == 2
    assert model.ranking_iterations == 3
    assert not any("validation" in line for line in lines)

    snapshot = read_snapshot(data.uri, data.sha256)
    assert lines[0].startswith(
        f"refit: {len(snapshot.train) + len(snapshot.test):,} ratings of 200 users"
    )


def test_the_trainer_s_error_is_raised_by_the_launcher(data: Data, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="it was changed or damaged after it was written"):
        run(Data(data.uri, "0" * 64), tmp_path, print)


@contextmanager
def launcher(data: Data, root: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that calls `run_trainer`, as a task would; it hears SIGINT even where a shell's background job ignores it."""
    code = f"""
        import signal
        signal.signal(signal.SIGINT, signal.default_int_handler)
        import dataclasses, os
        from mf_core.training.launcher import run_trainer
from mf_core.training.manifest import Manifest
        from mf_core.training.manifest import Manifest
        manifest = Manifest.from_json({work(data, root, Config()).to_json()!r})
        manifest = dataclasses.replace(manifest, parent_pid=os.getpid())
        run_trainer(manifest, log=lambda line: print(line, flush=True))
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9), (signal.SIGINT, -2)]
)
def test_no_trainer_outlives_a_launcher_that_is_signalled(
    number: signal.Signals, code: int, data: Data, tmp_path: Path, own_lock: Path
) -> None:
    with held(own_lock), launcher(data, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("waiting for another training to end")
        (trainer,) = trainers(process.pid)
        process.send_signal(number)
        assert process.wait(20) == code
        wait_until(lambda: not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE, 10)


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
    with pytest.raises(ArtifactError):
        run(Data(data.uri, "0" * 64), tmp_path, print)

    assert signal.getsignal(signal.SIGTERM) is before


def test_two_trainings_never_hold_the_lock_at_once(own_lock: Path) -> None:
    code = """
        import time
        from pathlib import Path
        from mf_core.training.process import lock_path, training_lock
        with training_lock(lock_path()):
            start = time.monotonic()
            time.sleep(0.5)
            print(start, time.monotonic())
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    spans = sorted(
        tuple(map(float, process.communicate()[0].splitlines()[-1].split()))
        for process in processes
    )

    assert spans[0][1] <= spans[1][0]


def test_a_trainer_whose_launcher_is_gone_refuses_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        f"from mf_core.training.process import die_with_parent; die_with_parent({os.getpid() + 1})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert "TrainingError: the process" in done.stderr
