"""A training that several workers share: what worker 0 does for it, and what the others do.

All of them run the same fits on the same snapshot (`mf_core.solvers.workers`). Worker 0 alone
searches for settings, writes checkpoints and saves the models.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from mf_core.errors import TrainingError, WorkerLostError
from mf_core.provenance import MODEL_SOURCES, source_hash
from mf_core.training.cluster import Cluster, Log, gathering
from mf_core.training.manifest import Manifest, Problem, encode, versions

if TYPE_CHECKING:
    from mf_core.solvers.workers import Workers

# Who is lost is told first by whoever lost a peer, and a moment later by why it is gone.
_SECONDS_FOR_THE_CAUSE = 10.0


@contextmanager
def with_others(cluster: Cluster, manifest: Manifest, log: Log) -> Iterator["Workers | None"]:
    """Have the other workers of `cluster` come, as worker 0; None where there are none.

    If one of them is lost within the block, this process ends and says so.

    Raises:
        WorkerLostError: some do not come.
        TrainingError: they are not like this one.
    """
    if not cluster.is_shared():
        yield None
        return
    with gathering(cluster, log) as roster:
        for line in roster.lines.values():
            line.send(manifest.to_json())
        over = threading.Event()

        def lose(problem: Problem) -> None:
            """End the training, unless nobody is needed any more."""
            if not over.is_set():
                _end(problem)

        watch = threading.Thread(target=roster.watch, args=[lose], name="mf-workers", daemon=True)
        watch.start()
        try:
            yield connect(cluster, manifest.settings().train.device)
        except WorkerLostError:
            watch.join(_SECONDS_FOR_THE_CAUSE)
            raise
        finally:
            # The lines are about to be closed from here, which is no loss of those behind them.
            over.set()
        # The others have the same at the same moment, and may end in peace.
        watch.join(_SECONDS_FOR_THE_CAUSE)


def _end(problem: Problem) -> NoReturn:
    """End this process, which may be waiting for a worker that is gone."""
    # In one write and on a line of its own: the other thread may be printing.
    sys.stdout.write(f"\n{encode(problem)}\n")
    sys.stdout.flush()
    os._exit(WorkerLostError.exit_code)


def connect(cluster: Cluster, device: str) -> "Workers":
    """Connect this process's TensorFlow with that of all other workers.

    Raises:
        WorkerLostError: not all came.
        TrainingError: one has another device or other versions than worker 0, so it would compute
            other numbers.
    """
    from mf_core.solvers.workers import Workers

    workers = Workers(cluster.addresses, cluster.index, device)
    # TensorFlow has taken SIGTERM for itself.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _refuse_unlike(workers.texts(_likeness(device)))
    return workers


def _likeness(device: str) -> str:
    """Return all that decides the bits of a worker's numbers."""
    from mf_core.solvers.runtime import select_device

    label = select_device(device).label
    # How a sum is divided among threads decides how it is rounded.
    place = f"{label} with {os.cpu_count()} cores" if label == "CPU" else label
    return json.dumps({**versions(), "code": source_hash(MODEL_SOURCES), "device": place})


def _refuse_unlike(likenesses: list[str]) -> None:
    first = json.loads(likenesses[0])
    for number, text in enumerate(likenesses):
        own = json.loads(text)
        for name, value in own.items():
            if value != first[name]:
                raise TrainingError(
                    f"worker {number} has {name} {value}, worker 0 has {first[name]}. Workers of "
                    "one training must be alike, or they would compute other numbers."
                )


def share_work(workers: "Workers | None", work: Manifest) -> None:
    """Tell the others, as worker 0, what is to be fitted."""
    if workers:
        workers.texts(work.to_json())


def shared_work(workers: "Workers") -> Manifest:
    """Wait until worker 0 tells what is to be fitted."""
    return Manifest.from_json(workers.texts("")[0])
