"""Biases alone as a solver: what is best where the ratings tell nothing of tastes.

The method is that of the baseline (`mf_core.models.biases`), on the host whatever the device.
"""

import numpy as np

from mf_core.config import BiasesConfig, SolverConfig
from mf_core.models.biases import BiasesFit
from mf_core.solvers.solver import Arrays, Factors, Problem, Solver

_ROW_BYTES = 64


class Biases(Solver):
    """One sweep (items, users, dampings, mean) at a time."""

    unit = "sweep"
    note = "no factors"

    def __init__(self, problem: Problem[BiasesConfig]) -> None:
        """Begin with no bias at all."""
        super().__init__(problem)
        self._held_out = problem.held_out
        self._fit = BiasesFit(problem.ratings, problem.shape)

    @classmethod
    def bytes_per_row(cls, settings: SolverConfig, shape: tuple[int, int]) -> int:
        """Return what a fit holds for each user and item: a few float64."""
        return _ROW_BYTES

    def iterate(self, iteration: int) -> float:
        """Run one sweep and return the training RMSE that it met."""
        return self._fit.sweep()

    def validation_rmse(self) -> float | None:
        """Return the RMSE on the held-out part, predictions clipped to the scale."""
        return self._held_out.rmse(self.factors()) if self._held_out else None

    def state(self) -> Arrays:
        """Return all that the next sweep depends on."""
        return {"biases": self._fit.state()}

    def restore(self, state: Arrays) -> None:
        """Go on from what `state` returned."""
        self._fit.restore(state["biases"])

    def factors(self) -> Factors:
        """Return the model's arrays: one factor, of zeros."""
        user = self._fit.user.astype(np.float32)
        item = self._fit.item.astype(np.float32)
        return Factors(
            self._fit.mean,
            user,
            item,
            user_factors=np.zeros((len(user), 1), np.float32),
            item_factors=np.zeros((len(item), 1), np.float32),
        )

    def closing_note(self) -> str:
        """Say which dampings the ratings have set."""
        of_users, of_items = self._fit.dampings()
        return f"damped by {of_users:.1f} ratings of a user and {of_items:.1f} of an item"
