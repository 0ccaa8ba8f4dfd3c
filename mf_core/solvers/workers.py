"""Several processes, each with a device of its own, that fit one model together.

Every worker holds all factors and a part of the ratings: some of the batches of each side
(`mf_core.solvers.buckets`). It solves the rows of its batches, and the solutions are exchanged by
all-gather, so that each worker has all of them again. What is left (priors, starts, errors) every
worker computes by itself from the same numbers, on the same kind of machine, with the same code.

The batches are those that one process would make, so several workers give the numbers of one.
"""

import json
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mf_core.errors import TrainingError, WorkerLostError
from mf_core.solvers.runtime import select_device

_MEETING_SECONDS = 600
# Whoever gives no sign of life for so long is dead. TensorFlow's own 10 seconds are little for a
# machine that is busy.
_HEARTBEAT_SECONDS = 30
# This is for a worker that lives and takes no part; a checkpoint of 100 GB is written in less.
_PATIENCE_SECONDS = 3_600.0
_ROWS_OF_A_DIGEST = 4_096
_Gather = Callable[[tf.Tensor], tf.Tensor]


class Workers:
    """All workers of a training, as one of them sees them.

    Attributes:
        n: how many there are, this one included.
        index: the number of this one, from 0.
    """

    def __init__(self, addresses: Sequence[str], index: int, wanted: str) -> None:
        """Join the others, and return when all are there.

        Nothing may have run on TensorFlow in this process before.

        Args:
            addresses: `host:port` of each worker, the same list everywhere.
            index: which of them this process is.
            wanted: the device: auto, gpu or cpu.

        Raises:
            TrainingError: `gpu` is wanted and there is none.
            WorkerLostError: not all have come.
        """
        self.n = len(addresses)
        self.index = index
        self._device = select_device(wanted).name
        if self._device == "/CPU:0":
            # The strategy would take a GPU that it sees.
            tf.config.set_visible_devices([], "GPU")
        self._strategy = _strategy(addresses, index)
        self._gathers: dict[tuple[tf.DType, int], _Gather] = {}

    def gathered(self, mine: tf.Tensor) -> tf.Tensor:
        """Return the rows of all workers, those of the first on top.

        `mine` has shape (rows, columns): any number of rows, and as many columns for all workers.

        Raises:
            WorkerLostError: one of them is gone, or does not answer.
        """
        key = (mine.dtype, mine.shape[1])
        if key not in self._gathers:
            self._gathers[key] = self._traced_gather(*key)
        try:
            return self._gathers[key](mine)
        except tf.errors.OpError as error:
            raise WorkerLostError(
                "another worker of this training is gone or does not answer "
                f"({error.message[:300]}). Started again, the training goes on from its checkpoint."
            ) from error

    def _traced_gather(self, dtype: tf.DType, columns: int) -> _Gather:
        """Return the function that gathers tables of so many columns."""

        def of_this_worker(rows: tf.Tensor) -> tf.Tensor:
            """Return the rows of all workers, given those of this one."""
            # A strategy asks for the device of what it gathers, which an argument has not.
            with tf.device(self._device):
                placed = tf.identity(rows)
            return tf.distribute.get_replica_context().all_gather(placed, axis=0)

        def gather(rows: tf.Tensor) -> tf.Tensor:
            """Do so as the strategy's replica."""
            return self._strategy.run(of_this_worker, args=(rows,))

        signature = (tf.TensorSpec((None, columns), dtype),)
        return tf.function(gather, input_signature=signature)

    def texts(self, mine: str) -> list[str]:
        """Return the text that each worker gives, in their order."""
        # All collective operations are of numbers.
        codes = np.frombuffer(mine.encode(), np.uint8).astype(np.int64)
        lengths = self.gathered(tf.constant([[len(codes)]], tf.int64)).numpy()[:, 0]
        together = self.gathered(tf.constant(codes[:, None])).numpy()[:, 0]
        ends = np.cumsum(lengths)[:-1]
        return [part.astype(np.uint8).tobytes().decode() for part in np.split(together, ends)]

    def compare(self, what: str, iteration: int, state: Mapping[str, NDArray[Any]]) -> None:
        """Make sure that all workers stand where this one does.

        Raises:
            TrainingError: they don't, so what they exchange would be no model.
        """
        own = tf.constant([[iteration, _digest(state)]], tf.int64)
        standing = self.gathered(own).numpy()
        others = np.flatnonzero((standing != standing[0]).any(axis=1))
        if len(others):
            named = ", ".join(str(number) for number in others)
            raise TrainingError(
                f"{what}: the workers {named} have other numbers than worker 0 after iteration "
                f"{iteration}. All must have the same kind of device and as many CPU cores."
            )


def _strategy(addresses: Sequence[str], index: int) -> tf.distribute.Strategy:
    """Return what connects the workers, once all are there."""
    task = {"type": "worker", "index": index}
    cluster = {"cluster": {"worker": list(addresses)}, "task": task}
    os.environ["TF_CONFIG"] = json.dumps(cluster)
    options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=_PATIENCE_SECONDS)
    _set_times(len(addresses))
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    except (tf.errors.OpError, RuntimeError) as error:
        raise WorkerLostError(
            f"the {len(addresses)} workers of this training did not come together "
            f"({str(error)[:300]}). The log of each `mf train-worker` says more."
        ) from error


def _set_times(n_workers: int) -> None:
    """Say how long the workers wait for each other, before the strategy says something else."""
    # TensorFlow's public API has no way to.
    from tensorflow.compiler.xla.tsl.protobuf.coordination_config_pb2 import CoordinatedJob
    from tensorflow.python.eager import context

    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader="/job:worker/replica:0/task:0",
        cluster_register_timeout_in_ms=1000 * _MEETING_SECONDS,
        heartbeat_timeout_in_ms=1000 * _HEARTBEAT_SECONDS,
        coordinated_jobs=[CoordinatedJob(name="worker", num_tasks=n_workers)],
    )


def _digest(state: Mapping[str, NDArray[Any]]) -> int:
    """Return a checksum over some rows of each array, evenly spread."""
    checksum = 0
    for name in sorted(state):
        rows = np.atleast_1d(state[name])
        step = max(1, len(rows) // _ROWS_OF_A_DIGEST)
        some = np.ascontiguousarray(rows[::step])
        checksum = zlib.crc32(some.tobytes(), checksum)
    return checksum
