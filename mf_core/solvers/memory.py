"""What a fit will hold in memory, and the refusal before it begins where that is too much.

With n ratings, U users and I items, in bytes, beside the ratings that the caller holds:

    ratings    52 n            both sides while they are grouped: the sorted keys, the pairs and
                               the padded batches; as many times as the ranking head's learners
                               have targets of their own
    batch      4 x 4 x cells   the largest batch and what is computed from it
                               (`mf_core.solvers.buckets.Layout`)
    rows       r (U + I)       r as the solver says (`Solver.bytes_per_row`)

Of W workers that fit together, each has ratings / W, and all rows: 1.5 r (U + I), since an
all-gather makes copies of its own.

The multiples of each line were measured with 2 million users of five ratings. The batches and rows
lie on the device; where that is a GPU, its memory is held against them too.
"""

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from mf_core.config import Config, Head, SolverConfig
from mf_core.errors import TrainingError
from mf_core.machine import free_memory
from mf_core.solvers.buckets import Layout
from mf_core.solvers.solver import Solver

_GROUPING_BYTES = 52
_BATCH_COPIES = 4
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Needed:
    """Bytes.

    Attributes:
        host: for the ratings while they are grouped, and then for the fit.
        device: for what the fit itself holds.
    """

    host: int
    device: int


def needed(
    solver: type[Solver],
    settings: SolverConfig,
    n_ratings: int,
    shape: tuple[int, int],
    *,
    layout: Layout | None = None,
    n_workers: int = 1,
) -> Needed:
    """Return what each worker of a fit of `n_ratings` of `shape` (n_users, n_items) will hold.

    Without a `layout` it is that of the current device.
    """
    layout = layout or Layout.of_device()
    rows = solver.bytes_per_row(settings, shape) * sum(shape)
    if n_workers > 1:
        rows += rows // 2
    batch = _BATCH_COPIES * _FLOAT_BYTES * layout.cells
    # Both sides hold every rating's value and the other side's row.
    held = settings.copies_of_ratings() * n_ratings // n_workers
    batches = 2 * (layout.index.size + _FLOAT_BYTES) * held
    return Needed(
        host=_GROUPING_BYTES * held + rows + batch,
        device=batches + rows + batch,
    )


def refuse_what_does_not_fit(
    config: Config,
    head: Head,
    solver: type[Solver],
    *,
    n_ratings: int,
    shape: tuple[int, int],
    settings: SolverConfig | None = None,
    n_workers: int = 1,
    log: Callable[[str], None] = print,
) -> None:
    """Compare what a fit on the current device needs with what is free.

    With `run.capacity` `warn` it is only said, and with `off` nobody looks.

    Args:
        config: all settings.
        head: which head is fitted.
        solver: the head's.
        n_ratings: how many ratings it is fitted to.
        shape: (n_users, n_items).
        settings: the solver's; None: those of `config`.
        n_workers: how many fit it together.
        log: takes the warning.

    Raises:
        TrainingError: it would not fit.
    """
    if config.run.capacity == "off":
        return
    settings = settings or config.solver_settings(head)
    wanted = needed(solver, settings, n_ratings, shape, n_workers=n_workers)
    places = (
        ("memory", wanted.host, free_memory()),
        ("GPU memory", wanted.device, _gpu_bytes()),
    )
    for place, bytes_needed, bytes_free in places:
        if bytes_free is None or bytes_needed <= bytes_free:
            continue
        said = (
            f"fitting the {head} head to {n_ratings:,} ratings of {shape[0]:,} users and "
            f"{shape[1]:,} items takes about {bytes_needed / 2**30:.1f} GiB of {place}, and "
            f"{bytes_free / 2**30:.1f} GiB is free"
        )
        if config.run.capacity == "warn":
            log(f"WARNING: {said} (run.capacity is warn, so it is tried)")
            continue
        raise TrainingError(
            f"{said}. Lower n_factors, output_factors or kept_samples, or train on a larger "
            "machine or with more workers; run.capacity=warn tries it all the same. See "
            "docs/model.md#memory."
        )


def _gpu_bytes() -> int | None:
    """Return the memory of the GPU that operations are placed on; None on a CPU."""
    device = tf.constant(0.0).device
    if not device.endswith("GPU:0"):
        return None
    # TensorFlow's public API tells how much is used, not how much there is.
    from tensorflow.python.client import device_lib

    limits = [d.memory_limit for d in device_lib.list_local_devices() if d.name.endswith("GPU:0")]
    return limits[0] if limits else None
