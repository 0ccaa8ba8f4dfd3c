"""A race of settings: many on little work, the best of them on more (successive halving).

Karnin, Koren & Somekh 2013, 'Almost optimal exploration in multi-armed bandits'. The shipped
settings take part in every round, so that nothing is chosen which is worse than they are on the
same rows and after the same work.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Settings = dict[str, Any]
"""Values by dotted name, laid over the settings of the run."""


@dataclass(frozen=True)
class Rung:
    """How much work a trial is: the share of the users, and that of the iterations."""

    users: float
    iterations: float

    @property
    def work(self) -> float:
        """Return the work as a share of a whole fit's."""
        return self.users * self.iterations


@dataclass(frozen=True)
class Trial:
    """Settings, the rung that they were tried on, and their figure (the higher, the better)."""

    settings: Settings
    rung: Rung
    figure: float
    seconds: float


@dataclass
class Race:
    """One race.

    Attributes:
        measure: fits settings on a rung and returns their figure, the higher the better.
        rungs: from little work to much.
        fits: how long the race may take, in whole fits of the shipped settings. The first trial
            says how long such a fit is.
        clock: seconds.
        trials: what was tried, in order.
    """

    measure: Callable[[Settings, Rung], float]
    rungs: Sequence[Rung]
    fits: float
    clock: Callable[[], float] = time.monotonic
    trials: list[Trial] = field(default_factory=list)

    def winner(self, entrants: Sequence[Settings], stages: Sequence[Sequence[Settings]]) -> Trial:
        """Return the best trial of the last rung that there was time for.

        Args:
            entrants: the shipped settings, and others that are tried whole.
            stages: alternatives for some settings each, tried one after the other on the best so
                far: a search along coordinates, which costs the sum of the stages' sizes where a
                grid costs their product.
        """
        [shipped, *others] = entrants
        first = self.rungs[0]
        best = self._try(shipped, first)
        for settings in others:
            best = self._better(best, settings, first)
        for stage in stages:
            on_top = best.settings
            for alternative in stage:
                best = self._better(best, {**on_top, **alternative}, first)
        for rung in self.rungs[1:]:
            best = self._next_round(best, shipped, rung)
        return best

    def shipped(self, rung: Rung) -> Trial:
        """Return the trial of the shipped settings, the first of every rung."""
        return next(trial for trial in self.trials if trial.rung == rung)

    def _next_round(self, best: Trial, shipped: Settings, rung: Rung) -> Trial:
        """Return the better of the shipped settings and the best so far, after more work."""
        if best.settings == shipped or not self._has_time(2 * rung.work):
            return best
        baseline = self._try(shipped, rung)
        challenger = self._try(best.settings, rung)
        return challenger if challenger.figure > baseline.figure else baseline

    def _better(self, best: Trial, settings: Settings, rung: Rung) -> Trial:
        """Return the better of the best so far and of `settings`, if there is time for them."""
        known = any(trial.settings == settings for trial in self.trials)
        # The last round is what decides, so the time for it is kept back.
        last = 2 * sum(later.work for later in self.rungs[1:])
        if known or not self._has_time(rung.work + last):
            return best
        trial = self._try(settings, rung)
        return trial if trial.figure > best.figure else best

    def _try(self, settings: Settings, rung: Rung) -> Trial:
        began = self.clock()
        figure = self.measure(settings, rung)
        trial = Trial(settings, rung, figure, self.clock() - began)
        self.trials.append(trial)
        return trial

    def _has_time(self, work: float) -> bool:
        """Say whether there is time for so many whole fits."""
        first = self.trials[0]
        whole_fit = first.seconds / first.rung.work
        spent = sum(trial.seconds for trial in self.trials)
        return spent + work * whole_fit <= self.fits * whole_fit
