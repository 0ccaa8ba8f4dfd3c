"""The samples that are kept whole, for the spread of predictions.

The mean needs none of them (`mf_core.solvers.average`).
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from mf_core.models.samples import PosteriorSamples
from mf_core.solvers.solver import Arrays

_NAMES = ("user", "user_variance", "item", "item_variance")
Sample = tuple[tf.Tensor, ...]
"""The tensors of one sample, in the order of `_NAMES`."""


class KeptSamples:
    """At most `limit` samples, evenly spaced however long the chain runs.

    When they are full, every second one goes.
    """

    def __init__(self, limit: int) -> None:
        """`limit` 0 keeps none."""
        self._limit = limit
        self._stride = 1
        self._samples: list[Sample] = []

    def offer(self, number: int, sample: Callable[[], Sample]) -> None:
        """Keep the `number`-th sample (from 0) if it is one of those; only then it is computed."""
        if not self._limit or number % self._stride:
            return
        if len(self._samples) == self._limit:
            # Every second one stays, so from now on every second one is taken.
            self._samples = self._samples[::2]
            self._stride = 2 * self._stride
            if number % self._stride:
                return
        self._samples.append(sample())

    def samples(self) -> PosteriorSamples | None:
        """Return them on the host, None if there is none."""
        if not self._samples:
            return None
        stacked = {}
        for at, name in enumerate(_NAMES):
            stacked[name] = np.stack([sample[at].numpy() for sample in self._samples])
        return PosteriorSamples(**stacked)

    def state(self) -> Arrays:
        """Return the samples and their spacing."""
        state: Arrays = {"kept_stride": np.array([self._stride])}
        for number, sample in enumerate(self._samples):
            for name, tensor in zip(_NAMES, sample, strict=True):
                state[f"kept_{number}_{name}"] = tensor.numpy()
        return state

    def restore(self, state: Arrays) -> None:
        """Go on from what `state` returned."""
        self._stride = int(state["kept_stride"][0])
        self._samples = []
        number = 0
        while f"kept_{number}_user" in state:
            names = [f"kept_{number}_{name}" for name in _NAMES]
            sample = tuple(tf.constant(state[name]) for name in names)
            self._samples.append(sample)
            number += 1
