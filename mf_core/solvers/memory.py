"""What a fit will hold in memory, and the refusal before it begins where that is more than there is.

With n ratings, U users, I items, D = n_factors + 1, in bytes, beside the ratings that the caller holds:

    ratings    52 n                     both sides while they are grouped: the sorted keys, the pairs and the padded batches
    batch      4 x 4 x cells            the largest batch and what is computed from it (`mf_core.solvers.buckets.Layout`)
    factors    24 D (U + I)             the old rows, the new ones by batch, joined and in order, and the other side's table

and for `bayes`, with J features a side, S kept samples, R output factors and W = 2 R + max(256, 2 R), instead of the factors the
larger of

    features   24 (J + 16) (U + I)      while they are made
    sweeps     (4 J + 4 (D + 1) S + 20 D + 4 W + max(4 W, 40 D)) (U + I)

the latter being features, samples, rows and their draws, and the columns of the mean that wait; then the larger of their copy
while they are merged and of a sweep's tables. The multiples of each line were measured with 2 million users of five ratings.

The batches and factors lie on the device; where that is a GPU, its memory is held against them too.
"""

from dataclasses import dataclass
from pathlib import Path

import psutil
import tensorflow as tf

from mf_core.config import BayesConfig, Config
from mf_core.errors import TrainingError
from mf_core.solvers.average import BUFFERED_COLUMNS
from mf_core.solvers.buckets import Layout
from mf_core.solvers.pattern import OVERSAMPLING

_GROUPING_BYTES = 52
_BATCH_COPIES = 4
_COLUMN_BYTES = 24  # six float32 copies
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Needed:
    """Bytes: `host` while the ratings are grouped and then the fit, `device` for what the fit itself holds."""

    host: int
    device: int


def needed(config: Config, head: str, n_ratings: int, shape: tuple[int, int]) -> Needed:
    """Return what fitting `head` (rating or ranking) to `n_ratings` of `shape` (n_users, n_items) will hold."""
    rows, layout = sum(shape), Layout.of_device()
    chosen = config.rating_head.chosen() if head == "rating" else config.ranking_head
    per_row = (
        _bayes_bytes(chosen, min(shape))
        if isinstance(chosen, BayesConfig)
        else _COLUMN_BYTES * (chosen.n_factors + 1)
    )
    fit = per_row * rows + _BATCH_COPIES * 4 * layout.cells
    return Needed(
        host=_GROUPING_BYTES * n_ratings + fit, device=2 * (layout.index.size + 4) * n_ratings + fit
    )


def _bayes_bytes(config: BayesConfig, full_rank: int) -> int:
    """Return the bytes per user or item."""
    width, features = config.n_factors + 1, min(config.pattern_rank, full_rank)
    columns = 2 * config.output_factors + max(BUFFERED_COLUMNS, 2 * config.output_factors)
    held = 4 * features + 4 * (width + 1) * config.kept_samples + 20 * width + 4 * columns
    making = _COLUMN_BYTES * (features + OVERSAMPLING) if features else 0
    return max(making, held + max(4 * columns, 40 * width))


def refuse_what_does_not_fit(
    config: Config, head: str, n_ratings: int, shape: tuple[int, int]
) -> None:
    """Compare what a fit on the current device needs with what is free.

    Raises:
        TrainingError: it would not fit.
    """
    wanted = needed(config, head, n_ratings, shape)
    advice = "Lower n_factors, output_factors or kept_samples, or train on a larger machine; see docs/model.md#memory."
    places = (
        ("memory", wanted.host, free_host_bytes()),
        ("GPU memory", wanted.device, _gpu_bytes()),
    )
    for place, bytes_needed, bytes_free in places:
        if bytes_free is not None and bytes_needed > bytes_free:
            raise TrainingError(
                f"fitting the {head} head to {n_ratings:,} ratings of {shape[0]:,} users and {shape[1]:,} items takes about "
                f"{bytes_needed / 2**30:.1f} GiB of {place}, and {bytes_free / 2**30:.1f} GiB is free. {advice}"
            )


def free_host_bytes() -> int:
    """Return the memory that this process can still get: the machine's, or its control group's if that is less."""
    free = psutil.virtual_memory().available
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        statistics = dict(
            line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines()
        )
        used = int((_CGROUP / "memory.current").read_text()) - int(statistics["inactive_file"])
    except (OSError, ValueError, KeyError):  # no control group of version 2, or one without a limit
        return free
    return max(0, min(free, limit - used))


def _gpu_bytes() -> int | None:
    """Return the memory of the GPU that operations are placed on; None on a CPU."""
    device = tf.constant(0.0).device
    if not device.endswith("GPU:0"):
        return None
    from tensorflow.python.client import (
        device_lib,
    )  # TensorFlow's public API tells what is used, not what there is

    return next(
        (d.memory_limit for d in device_lib.list_local_devices() if d.name.endswith("GPU:0")), None
    )
