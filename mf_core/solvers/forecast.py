"""How much memory a whole training will hold, from counts and settings alone."""

from collections.abc import Callable

import tensorflow as tf

from mf_core.config import Config
from mf_core.solvers.buckets import CPU, GPU, Layout
from mf_core.solvers.fit import SOLVERS
from mf_core.solvers.memory import Needed, needed, refuse_what_does_not_fit
from mf_core.solvers.runtime import select_device

_MIB = 1 << 20
# A process with TensorFlow, before any rating.
_PROCESS = 720 * _MIB
# A training rating as the snapshot and the fit hold it, beside what `needed` counts.
_HELD_RATING = 40
_ID = 110
# A fitted head's floats: on the device, joined, as one model, and as the bytes of its files.
_COPIES_OF_MODEL = 6
_FLOAT = 4


def training_memory(config: Config, n_ratings: int, shape: tuple[int, int]) -> Needed:
    """Return what the trainer's process, and its device, will hold at the most.

    That is what each head's fit needs in its turn, beside the ratings, the ids and the heads that
    are fitted already. `host` is for a fit on a CPU, `device` for one on a GPU, wherever this is
    called.

    Args:
        config: the settings.
        n_ratings: ratings that it is fitted to.
        shape: (n_users, n_items).
    """

    def of(layout: Layout) -> list[Needed]:
        """Return what each head's fit needs on a device of that layout."""
        fits = []
        for head in config.heads():
            solver = SOLVERS[config.solver_name(head)]
            settings = config.solver_settings(head)
            fits.append(needed(solver, settings, n_ratings, shape, layout=layout))
        return fits

    floats = sum(config.solver_settings(head).floats_per_row(shape) for head in config.heads())
    held = _PROCESS + _HELD_RATING * n_ratings
    held += (_ID + _COPIES_OF_MODEL * _FLOAT * floats) * sum(shape)
    return Needed(
        host=held + max(fit.host for fit in of(CPU)),
        device=max(fit.device for fit in of(GPU)),
    )


def refuse_heads_that_do_not_fit(
    config: Config,
    n_ratings: int,
    shape: tuple[int, int],
    *,
    n_workers: int,
    log: Callable[[str], None],
) -> None:
    """Compare what each head's fit will need with what is free, before the first one begins.

    Raises TrainingError.
    """
    device = select_device(config.train.device)
    for head in config.heads():
        solver = SOLVERS[config.solver_name(head)]
        with tf.device(device.name):
            refuse_what_does_not_fit(
                config,
                head,
                solver,
                n_ratings=n_ratings,
                shape=shape,
                n_workers=n_workers,
                log=log,
            )
