"""Several workers that train one model: the bytes of one process, and what happens without one.

The workers are real services and trainers, on this machine. TensorFlow's import and the meeting
take some ten seconds a training.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from mf_core.config import Config, make_config
from mf_core.errors import TrainerKilledError, WorkerLostError
from mf_core.records import ModelRef
from mf_core.training.launcher import run_trainer
from tests.core.test_train_process import (
    CONFIG,
    Data,
    Log,
    make_data,
    trainers,
    wait_until,
    whole_checkpoints,
    work,
)

SHORT = make_config(
    {
        "rating_head.als.iterations": 8,
        "ranking_head.iterations": 6,
        "ranking_head.item_passes": 4,
        # Their lists' factors take a pass over the ratings of their own.
        "ranking_head.recent_half_life": 20,
    },
    CONFIG,
)
# Longer than any test watches it.
LONG = make_config({"rating_head.als.iterations": 1000, "rating_head.patience": 1000}, CONFIG)
SERVICE = "from mf_core.cli import main; main()"
# Half a minute without a heartbeat, ten seconds for the cause, and the machine may be busy.
BOUND_SECONDS = 240.0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """The snapshot that all trainings of this module work on."""
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training lock of worker 0; two workers of one machine must not share it."""
    monkeypatch.setenv("MF_GPU_LOCK", str(tmp_path / "lock"))


@pytest.fixture(scope="module")
def of_one(data: Data, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The sha256 of each head that one process makes."""
    folder = tmp_path_factory.mktemp("one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MF_GPU_LOCK", str(folder / "lock"))
        return hashes(alone(data, folder))


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[psutil.Process]:
    """The service that is worker 1 of two; trainings of this process are worker 0."""
    ports = free_ports()
    monkeypatch.setenv("MF_TRAIN_CLUSTER", ",".join(f"127.0.0.1:{port}" for port in ports))
    with serving(tmp_path) as process:
        yield process


def free_ports() -> tuple[int, int]:
    """Return two ports that nobody listens at; nor at the one after the first."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("", 0)) as other:
            first = one.getsockname()[1]
            try:
                socket.create_server(("", first + 1)).close()
            except OSError:
                continue
            return first, other.getsockname()[1]


@contextmanager
def serving(folder: Path) -> Iterator[psutil.Process]:
    """Run `mf train-worker --index 1` within the block."""
    command = [sys.executable, "-c", SERVICE, "train-worker", "--index", "1"]
    environment = {**os.environ, "MF_GPU_LOCK": str(folder / "lock-1")}
    with (folder / "service.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def run(
    data: Data, root: Path, log: Log = print, config: Config = SHORT, **kwargs: Any
) -> ModelRef:
    """Train, as worker 0."""
    return run_trainer(work(data, root, config, **kwargs), log)


def alone(data: Data, root: Path, config: Config = SHORT, **kwargs: Any) -> ModelRef:
    """Train in one process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MF_TRAIN_CLUSTER", raising=False)
        return run(data, root, config=config, **kwargs)


def hashes(model: ModelRef) -> dict[str, str]:
    """Return the sha256 of each head."""
    return {name: head.sha256 for name, head in model.heads.items()}


def once(mark: str, action: Callable[[], None], lines: list[str] | None = None) -> Log:
    """Return a log callback that acts at the first line that holds `mark`; `lines` get each."""
    done: list[str] = []

    def log(line: str) -> None:
        if lines is not None:
            lines.append(line)
        if mark in line and not done:
            done.append(line)
            action()

    return log


def trainer_of(service: psutil.Process) -> psutil.Process:
    """Return the process that works for the service."""
    (process,) = trainers(service.pid)
    return process


def kill(process: psutil.Process) -> None:
    """Kill a child of this process, and leave no zombie."""
    process.kill()
    process.wait(30)


def own_trainer() -> psutil.Process:
    """Return the trainer that is worker 0."""
    (process,) = [child for child in trainers() if child.ppid() == os.getpid()]
    return process


def test_two_workers_give_the_bytes_of_one(tmp_path: Path, service: psutil.Process) -> None:
    # So many ratings that least squares start small, on a quarter of the users.
    data = make_data(tmp_path, shape=(1_000, 900), share=0.36)
    of_one = alone(data, tmp_path / "one")
    lines: list[str] = []
    of_two = run(data, tmp_path / "two", lines.append)

    assert hashes(of_two) == hashes(of_one)
    assert any(line.startswith("waiting for 1 other workers at 127.0.0.1:") for line in lines)

    log = tmp_path / "service.log"
    wait_until(lambda: "worker 1: done with version 1" in log.read_text(), BOUND_SECONDS)
    assert "ranking: sweep 6/6" in log.read_text()


def test_the_sampler_shared_by_two_draws_what_it_draws_alone(
    data: Data, tmp_path: Path, service: psutil.Process
) -> None:
    config = make_config(
        {
            "rating_head.solver": "bayes",
            "rating_head.bayes.sweeps": 4,
            "rating_head.bayes.burn_in": 2,
            "ranking_head.iterations": 1,
        },
        SHORT,
    )
    of_one = alone(data, tmp_path / "one", config)
    assert hashes(run(data, tmp_path / "two", config=config)) == hashes(of_one)


def test_a_worker_that_is_killed_ends_the_try_and_the_next_goes_on_from_the_checkpoint(
    data: Data, tmp_path: Path, service: psutil.Process, of_one: dict[str, str]
) -> None:
    lines: list[str] = []
    began = time.monotonic()
    said = r"worker 1 \(127.0.0.1:\d+\): the trainer was killed by SIGKILL"
    with pytest.raises(TrainerKilledError, match=said):
        run(data, tmp_path, once("rating: sweep 3/8", lambda: trainer_of(service).kill(), lines))
    assert time.monotonic() - began < BOUND_SECONDS
    assert trainers() == []

    assert whole_checkpoints(tmp_path, "rating")[-1].iteration >= 2
    lines = []
    resumed = run(data, tmp_path, lines.append)
    assert any(line.startswith("rating: resuming after iteration") for line in lines)
    assert hashes(resumed) == of_one


def test_the_service_itself_and_its_machine_may_go(
    data: Data, tmp_path: Path, service: psutil.Process
) -> None:
    # Its trainer dies with it.
    with pytest.raises(WorkerLostError, match=r"worker 1 \(127.0.0.1:\d+\) is gone"):
        run(data, tmp_path, once("rating: sweep 17/", lambda: kill(service)), LONG)
    lines: list[str] = []
    with serving(tmp_path), pytest.raises(TrainerKilledError):
        run(data, tmp_path, once("rating: sweep", lambda: own_trainer().kill(), lines), LONG)
    assert any(line.startswith("rating: resuming after iteration") for line in lines)


def test_a_worker_that_hangs_is_found_out(
    data: Data, tmp_path: Path, service: psutil.Process
) -> None:
    hung: list[psutil.Process] = []

    def stop() -> None:
        hung.append(trainer_of(service))
        hung[0].suspend()

    began = time.monotonic()
    with pytest.raises(WorkerLostError, match="is gone or does not answer"):
        run(data, tmp_path, once("rating: sweep 17/", stop), LONG)
    assert time.monotonic() - began < BOUND_SECONDS
    # Nobody waits for what it would compute.
    wait_until(lambda: not hung[0].is_running(), BOUND_SECONDS)


def test_without_worker_0_the_service_stops_computing_and_waits_for_it(
    data: Data, tmp_path: Path, service: psutil.Process, of_one: dict[str, str]
) -> None:
    with pytest.raises(TrainerKilledError):
        run(data, tmp_path, once("rating: sweep 3/8", lambda: own_trainer().kill()))
    wait_until(lambda: trainers(service.pid) == [], BOUND_SECONDS)

    lines: list[str] = []
    resumed = run(data, tmp_path, lines.append)
    assert any(line.startswith("rating: resuming after iteration") for line in lines)
    assert hashes(resumed) == of_one


def test_worker_0_told_to_stop_writes_a_checkpoint_and_the_service_goes_on(
    data: Data, tmp_path: Path, service: psutil.Process
) -> None:
    seldom = make_config({"train.checkpoint_seconds": 3600}, LONG)

    def tell() -> None:
        own_trainer().send_signal(signal.SIGTERM)

    with pytest.raises(TrainerKilledError, match="told to stop"):
        run(data, tmp_path, once("rating: sweep 17/", tell), seldom)
    assert len(whole_checkpoints(tmp_path, "rating")) == 1
    wait_until(lambda: trainers(service.pid) == [], BOUND_SECONDS)
    assert service.is_running()


def test_what_fails_on_another_worker_is_told_as_what_it_is(
    data: Data, tmp_path: Path, service: psutil.Process
) -> None:
    """Its machine does not reach the artifacts, say."""
    moved = tmp_path / "moved"

    def hide(line: str) -> None:
        if line.startswith("waiting for"):
            Path(data.uri).rename(moved)

    try:
        with pytest.raises(Exception, match=r"worker 1 \(127.0.0.1:\d+\): .*snapshot"):
            run(data, tmp_path, hide)
    finally:
        moved.rename(data.uri)


def test_worker_0_that_waits_for_others_ends_at_once_when_told_to(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = free_ports()
    monkeypatch.setenv("MF_TRAIN_CLUSTER", ",".join(f"127.0.0.1:{port}" for port in ports))

    def tell(line: str) -> None:
        if line.startswith("waiting for 1 other workers"):
            own_trainer().terminate()

    with pytest.raises(TrainerKilledError, match="SIGTERM"):
        run(data, tmp_path, tell)


def test_a_finished_training_needs_no_other_worker(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = run(data, tmp_path)
    monkeypatch.setenv("MF_TRAIN_CLUSTER", "127.0.0.1:1,127.0.0.1:3")
    assert run(data, tmp_path) == model
