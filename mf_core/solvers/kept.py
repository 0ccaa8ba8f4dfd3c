"""The samples that are kept whole, for the spread of predictions; the mean needs none of them (`mf_core.solvers.average`)."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from mf_core.models.samples import PosteriorSamples
from mf_core.solvers.solver import Arrays

_NAMES = ("user", "user_variance", "item", "item_variance")
Sample = tuple[tf.Tensor, ...]


class KeptSamples:
    """At most `limit` samples, evenly spaced however long the chain runs: when full, every second one goes."""

    def __init__(self, limit: int) -> None:
        """`limit` 0 keeps none."""
        self._limit, self._stride, self._samples = limit, 1, list[Sample]()

    def offer(self, number: int, sample: Callable[[], Sample]) -> None:
        """Keep the `number`-th sample (from 0) if it is one of those; only then it is computed."""
        if not self._limit or number % self._stride:
            return
        if len(self._samples) == self._limit:
            self._samples, self._stride = self._samples[::2], 2 * self._stride
            if number % self._stride:
                return
        self._samples.append(sample())

    def samples(self) -> PosteriorSamples | None:
        """Return them on the host, None if there is none."""
        if not self._samples:
            return None
        stacked = (
            np.stack([tensor.numpy() for tensor in tensors])
            for tensors in zip(*self._samples, strict=True)
        )
        return PosteriorSamples(**dict(zip(_NAMES, stacked, strict=True)))

    def state(self) -> Arrays:
        """Return the samples and their spacing."""
        state: Arrays = {"kept_stride": np.array([self._stride])}
        for number, sample in enumerate(self._samples):
            state |= {
                f"kept_{number}_{name}": tensor.numpy()
                for name, tensor in zip(_NAMES, sample, strict=True)
            }
        return state

    def restore(self, state: Arrays) -> None:
        """Go on from what `state` returned."""
        self._stride, self._samples = int(state["kept_stride"][0]), []
        while f"kept_{len(self._samples)}_user" in state:
            self._samples.append(
                tuple(tf.constant(state[f"kept_{len(self._samples)}_{name}"]) for name in _NAMES)
            )
