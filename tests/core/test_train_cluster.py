"""How workers meet, and how batches are dealt out among them: without a training."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import numpy as np
import pytest

from mf_core.errors import ConfigError, TrainingError, WorkerLostError
from mf_core.solvers.buckets import plan_batches
from mf_core.solvers.deal import Deal
from mf_core.solvers.workers import Workers
from mf_core.training.cluster import ALONE, Cluster, Line, Roster, gathering, reach, wait_for_work
from mf_core.training.manifest import Problem
from mf_core.training.together import _refuse_unlike


def cluster_of(n: int, index: int = 0) -> Cluster:
    """Return a cluster whose meeting port is free."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as one:
            port = one.getsockname()[1]
        try:
            socket.create_server(("", port + 1)).close()
        except OSError:
            continue
        return Cluster(tuple(f"127.0.0.1:{port + 2 * number}" for number in range(n)), index)


def as_worker(cluster: Cluster, index: int) -> Cluster:
    """Return the same cluster as another worker sees it."""
    return Cluster(cluster.addresses, index)


def no_log(line: str) -> None:
    """Log nothing."""


def in_thread(function: Callable[[], object]) -> threading.Thread:
    """Run a function beside the test."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


class Visitors:
    """Connections that a test opens, and that are closed behind it."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def arrive(self, cluster: Cluster, index: int, /, **other: object) -> Line:
        """Connect as a worker does, with `other` values in what it says."""
        line = self.knock(cluster)
        line.send({**as_worker(cluster, index).hello(), **other})
        return line

    def knock(self, cluster: Cluster) -> Line:
        """Connect, once somebody listens."""
        while True:
            with suppress(OSError):
                self.lines.append(reach(cluster))
                return self.lines[-1]
            time.sleep(0.05)

    def kept(self, connection: socket.socket) -> Line:
        """Return a line on a connection."""
        self.lines.append(Line(connection))
        return self.lines[-1]

    def work_of(self, cluster: Cluster, index: int) -> str:
        """Wait for work, as a service does, and return it."""
        line, work = wait_for_work(as_worker(cluster, index), pause_seconds=0.05)
        self.lines.append(line)
        return work


@pytest.fixture
def visitors() -> Iterator[Visitors]:
    """Whoever connects in a test."""
    made = Visitors()
    yield made
    for line in made.lines:
        line.close()


def test_addresses_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MF_TRAIN_CLUSTER", raising=False)
    assert Cluster.from_environment() == ALONE
    assert not ALONE.is_shared()
    monkeypatch.setenv("MF_TRAIN_CLUSTER", "gpu-1:5000")
    assert not Cluster.from_environment().is_shared()
    monkeypatch.setenv("MF_TRAIN_CLUSTER", " gpu-1:5000, gpu-2:5000 ,")
    cluster = Cluster.from_environment(1)
    assert cluster.addresses == ("gpu-1:5000", "gpu-2:5000")
    assert cluster.is_shared()
    assert cluster.meeting() == ("gpu-1", 5001)


@pytest.mark.parametrize(
    ("text", "index", "said"),
    [
        ("gpu-1", 0, "expected host:port"),
        ("gpu-1:0", 0, "expected host:port"),
        ("gpu-1:70000", 0, "expected host:port"),
        (":5000,gpu-2:5000", 0, "expected host:port"),
        ("gpu-1:5000,gpu-1:5000", 0, "an address twice"),
        ("gpu-1:5000,gpu-2:5000", 2, "there is none with number 2"),
        ("", 1, "names 0 workers"),
    ],
)
def test_addresses_that_make_no_cluster_are_refused(
    monkeypatch: pytest.MonkeyPatch, text: str, index: int, said: str
) -> None:
    monkeypatch.setenv("MF_TRAIN_CLUSTER", text)
    with pytest.raises(ConfigError, match=said):
        Cluster.from_environment(index)


def test_all_get_the_work_once_all_have_come(visitors: Visitors) -> None:
    cluster = cluster_of(3)
    got: list[str] = []
    threads = [
        in_thread(lambda: got.append(visitors.work_of(cluster, 1))),
        in_thread(lambda: got.append(visitors.work_of(cluster, 2))),
    ]
    with gathering(cluster, no_log, wait_seconds=30) as roster:
        assert roster.missing() == []
        for line in roster.lines.values():
            line.send(json.dumps({"stage": "refit"}))
        for thread in threads:
            thread.join(30)
    assert got == ['{"stage": "refit"}'] * 2


def test_who_does_not_come_is_named_with_the_reason(visitors: Visitors) -> None:
    cluster = cluster_of(4)
    threads = [
        in_thread(lambda: visitors.arrive(cluster, 1)),
        in_thread(lambda: visitors.arrive(cluster, 2, code="older")),
    ]
    said = (
        r"have not come: 2 \(127.0.0.1:\d+: it runs other code \(older; here \w+\)\), "
        r"3 \(127.0.0.1:\d+: nothing came from there\)"
    )
    lines: list[str] = []
    with pytest.raises(WorkerLostError, match=said), gathering(cluster, lines.append, 5):
        pass
    for thread in threads:
        thread.join(30)
    assert lines == [f"waiting for 3 other workers at 127.0.0.1:{cluster.meeting()[1]}"]


@pytest.mark.parametrize(
    ("index", "other", "said"),
    [
        (1, {"cluster": ["gpu-1:5000"]}, "started with MF_TRAIN_CLUSTER=gpu-1:5000"),
        (5, {}, "nothing came from there"),
    ],
)
def test_a_worker_of_another_cluster_is_sent_away(
    visitors: Visitors, index: int, other: dict[str, object], said: str
) -> None:
    cluster = cluster_of(2)
    thread = in_thread(lambda: visitors.arrive(cluster, index, **other))
    with pytest.raises(WorkerLostError, match=said), gathering(cluster, no_log, 5):
        pass
    thread.join(30)


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b'{"index": "x"}\n', b""])
def test_something_else_that_knocks_changes_nothing(visitors: Visitors, said: bytes) -> None:
    cluster = cluster_of(2)

    def knock_and_arrive() -> None:
        stranger = visitors.knock(cluster)
        stranger.socket.sendall(said)
        stranger.close()
        visitors.arrive(cluster, 1)

    thread = in_thread(knock_and_arrive)
    with gathering(cluster, no_log, wait_seconds=30) as roster:
        assert list(roster.lines) == [1]
        thread.join(30)


def test_one_that_went_before_all_had_come_is_waited_for_again(visitors: Visitors) -> None:
    cluster = cluster_of(3)

    def come_and_go() -> None:
        visitors.arrive(cluster, 1).close()
        visitors.arrive(cluster, 2)

    thread = in_thread(come_and_go)
    said = r"have not come: 1 \("
    with pytest.raises(WorkerLostError, match=said), gathering(cluster, no_log, 5):
        pass
    thread.join(30)


def test_a_port_that_is_taken_is_said() -> None:
    cluster = cluster_of(2)
    said = f"port {cluster.meeting()[1]} of this machine"
    with (
        socket.create_server(("", cluster.meeting()[1])),
        pytest.raises(WorkerLostError, match=said),
        gathering(cluster, no_log, 1),
    ):
        pass


def test_the_end_of_each_worker_is_told(visitors: Visitors) -> None:
    cluster = cluster_of(4)
    roster = Roster(cluster)
    others: dict[int, Line] = {}
    with socket.create_server(("127.0.0.1", 0)) as server:
        for number in (1, 2, 3):
            connection = socket.create_connection(server.getsockname())
            others[number] = visitors.kept(connection)
            roster.lines[number] = visitors.kept(server.accept()[0])
    problems: list[Problem] = []
    others[1].send(None)
    others[2].send({"type": "TrainingError", "message": "no GPU"})
    others[3].close()
    roster.watch(problems.append)

    by_type = {problem.type: problem.message for problem in problems}
    assert by_type["TrainingError"] == f"worker 2 ({cluster.addresses[2]}): no GPU"
    gone = f"worker 3 ({cluster.addresses[3]}) is gone. Started again, the training goes on from"
    assert by_type["WorkerLostError"].startswith(gone)
    assert len(problems) == 2


def test_workers_that_are_not_alike_are_refused() -> None:
    own = {"tensorflow": "2.21.0", "device": "GPU NVIDIA L4"}
    _refuse_unlike([json.dumps(own)] * 3)
    other = {**own, "device": "CPU with 8 cores"}
    said = "worker 2 has device CPU with 8 cores, worker 0 has GPU NVIDIA L4"
    with pytest.raises(TrainingError, match=said):
        _refuse_unlike([json.dumps(one) for one in (own, own, other)])


@dataclass(frozen=True)
class Hand:
    """What a deal asks of `Workers`."""

    n: int
    index: int


def deals(slices: Sequence[tuple[int, int, int]], n: int) -> list[Deal]:
    """Return the deal as each of `n` workers sees it."""
    return [Deal.of(slices, cast("Workers", Hand(n, index))) for index in range(n)]


@pytest.mark.parametrize("n_workers", [1, 2, 3, 8, 500])
def test_each_batch_is_dealt_out_and_each_row_found_again(n_workers: int) -> None:
    counts = np.random.default_rng(0).integers(0, 300, 5_000)
    plan = plan_batches(counts, width=8, cells=1 << 14)
    seen = deals(plan.slices, n_workers)
    assert {number for deal in seen for number in deal.mine} == set(range(len(plan.slices)))
    assert all(deal.mine for deal in seen)

    # What each worker puts on top of the other's, row by row, and where a row is looked for.
    together: list[int] = []
    batches: list[int] = []
    for deal in seen:
        for number in deal.mine:
            start, stop, _ = plan.slices[number]
            together.extend(range(start, stop))
            batches.append(number)
    for deal in seen:
        places = deal.places(plan.slices)
        found = np.array([*together, -1])[places]
        np.testing.assert_array_equal(found, [*range(len(plan.rows)), -1])
        np.testing.assert_array_equal(
            np.array(batches)[deal.in_order()], np.arange(len(plan.slices))
        )


def test_batches_are_dealt_out_evenly() -> None:
    counts = np.random.default_rng(0).zipf(1.3, 20_000).clip(max=5_000)
    plan = plan_batches(counts, width=8, cells=1 << 14)
    loads = []
    for deal in deals(plan.slices, 4):
        sizes = [(stop - start) * length for start, stop, length in plan.slices]
        loads.append(sum(sizes[number] for number in deal.mine))
    assert max(loads) < 1.02 * np.mean(loads)


def test_a_process_alone_has_all_batches_in_their_order() -> None:
    plan = plan_batches(np.array([3, 0, 1, 70]), width=2, cells=64)
    deal = Deal.of(plan.slices, None)
    assert deal.mine == tuple(range(len(plan.slices)))
    np.testing.assert_array_equal(deal.places(plan.slices), np.arange(4))
    np.testing.assert_array_equal(Deal.of((), None).places(()), [0])
