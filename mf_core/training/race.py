"""A race of settings: many on little work, the best of them on more (successive halving).

Karnin, Koren & Somekh 2013, 'Almost optimal exploration in multi-armed bandits'. The shipped
settings take part in every round, so that nothing is chosen which is worse than they are on the
same rows and after the same work. Trials are compared user by user.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mf_core.data.ratings import Float64s

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
    """Settings, the rung that they were tried on, and how good they are for each judged user.

    `values` is a float64 array of shape (n,), the higher the better, in the same order for all
    trials of a rung; None: they can't be fitted.
    """

    settings: Settings
    rung: Rung
    values: Float64s | None
    seconds: float

    @property
    def figure(self) -> float:
        """Return the mean over the users; -inf for settings that can't be fitted."""
        return -math.inf if self.values is None else float(self.values.mean())


@dataclass
class Race:
    """One race.

    Attributes:
        measure: fits settings on a rung and returns the `values` of their trial.
        rungs: from little work to much.
        fits: how long the race may take, in whole fits. The first trial says how long such a fit
            is, and the longest one after it, of those that find some of their work done, how long
            the next one may take.
        clock: seconds.
        last_margin: how many standard errors of the difference a gain has to pass in the last
            round. One is enough on rows that did not choose. On the same rows it takes two: of
            twenty trials that are as good as the best so far, three would pass a single one.
        simplest: settings that make a model so much simpler that it is enough if they are better,
            be it by chance. Empty: there are none.
        trials: what was tried, in order.
    """

    measure: Callable[[Settings, Rung], Float64s | None]
    rungs: Sequence[Rung]
    fits: float
    clock: Callable[[], float] = time.monotonic
    last_margin: float = 2.0
    simplest: Settings = field(default_factory=dict)
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
        best = self._best_of(best, others, first)
        for stage in stages:
            on_top = best.settings
            best = self._best_of(best, [{**on_top, **alternative} for alternative in stage], first)
        for rung in self.rungs[1:]:
            best = self._next_round(best, shipped, rung)
        return best

    def shipped(self, rung: Rung) -> Trial:
        """Return the trial of the shipped settings, the first of every rung."""
        return next(trial for trial in self.trials if trial.rung == rung)

    def _next_round(self, best: Trial, shipped: Settings, rung: Rung) -> Trial:
        """Return the better of the shipped settings and the best so far, after more work."""
        if best.settings == shipped:
            return best
        baseline = self._try(shipped, rung)
        challenger = self._try(best.settings, rung)
        return challenger if self._is_better(challenger, baseline) else baseline

    def _best_of(self, best: Trial, alternatives: Sequence[Settings], rung: Rung) -> Trial:
        """Return the best of those alternatives that are better than the best so far, or that one.

        What there is no time for is left out.
        """
        # The last round is what decides, so the time for it is kept back.
        last = 2 * sum(later.work for later in self.rungs[1:])
        better = [best]
        for settings in alternatives:
            known = any(trial.settings == settings for trial in self.trials)
            if known or not self._has_time(rung, last):
                continue
            trial = self._try(settings, rung)
            if self._is_better(trial, best):
                better.append(trial)
        return max(better, key=lambda trial: trial.figure)

    def _try(self, settings: Settings, rung: Rung) -> Trial:
        began = self.clock()
        values = self.measure(settings, rung)
        trial = Trial(settings, rung, values, self.clock() - began)
        self.trials.append(trial)
        return trial

    def _has_time(self, rung: Rung, last: float) -> bool:
        """Say whether there is time for one more trial on `rung`, and `last` whole fits."""
        first, *later = self.trials
        whole_fit = first.seconds / first.rung.work
        longest = max([trial.seconds for trial in later if trial.rung == rung] or [first.seconds])
        spent = sum(trial.seconds for trial in self.trials)
        return spent + longest + last * whole_fit <= self.fits * whole_fit

    def _is_better(self, trial: Trial, best: Trial) -> bool:
        """Say whether a trial is better by more than chance, user by user."""
        if trial.values is None or best.values is None:
            return trial.figure > best.figure

        gains = trial.values - best.values
        gain = float(gains.mean())
        if self._is_simplest(trial.settings):
            return gain > 0

        standard_error = float(gains.std()) / math.sqrt(len(gains))
        margin = 1.0 if trial.rung == self.rungs[0] else self.last_margin
        return gain > margin * standard_error

    def _is_simplest(self, settings: Settings) -> bool:
        """Say whether these are the simplest settings, whatever else they hold."""
        if not self.simplest:
            return False
        return self.simplest.items() <= settings.items()
