"""The search itself, and after it the comparison of the best trials on other parts.

Each trial is a real fit. It is stopped early where others did better after as many iterations.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from sqlalchemy.engine import Engine

from mf_core.errors import TrainingError
from mf_core.tune.again import fit_again
from mf_core.tune.fit import AfterIteration, Figure, fit_and_judge
from mf_core.tune.report import TuneReport, report_of
from mf_core.tune.storage import stored_studies
from mf_core.tune.study import RUNG_FACTOR, first_rung, open_study
from mf_core.tune.task import Task
from mf_core.tune.trials import fitted_before, is_first, put_in_line_again

Log = Callable[[str], None]

_FAILURES_IN_A_ROW = 3
_REPETITIONS_IN_A_ROW = 20
_HEARTBEAT_SECONDS = 15
# The rest of the time is for the comparison on other parts.
_SEARCH_SHARE = 2 / 3


def tune(
    task: Task,
    engine: Engine,
    study_name: str,
    seconds: float,
    log: Log,
    *,
    max_trials: int | None = None,
    parts: int = 0,
    heartbeat_seconds: int = _HEARTBEAT_SECONDS,
) -> TuneReport:
    """Search for `seconds`, and return the study as it stands after that.

    The first trial has the task's own settings and is run to its end, whatever the time. Later ones
    are broken off when the time is up, and are queued to be run again.

    Args:
        task: what is fitted, and what it is judged on.
        engine: the warehouse.
        study_name: a new name begins a study; a known one continues it.
        seconds: time budget of this process.
        log: called with lines for people.
        max_trials: fewer trials than the time allows; None: no limit.
        parts: on so many other validation parts the best trials and the first are fitted again.
            The search then takes two thirds of the time at most.
        heartbeat_seconds: a trial without a sign of life for four times as long counts as killed,
            and is run again once.

    Raises:
        ConfigError: the study was begun on other rows or settings, or the schema is missing.
        TrainingError: several trials in a row failed.
        DatabaseError: Postgres broke off.
    """
    with stored_studies(engine, heartbeat_seconds) as storage:
        study = open_study(task, engine, storage, study_name)
        began = time.monotonic()
        search_seconds = seconds * _SEARCH_SHARE if parts else seconds
        objective = _Objective(task, study, deadline=began + search_seconds, log=log)
        study.optimize(
            objective,
            n_trials=max_trials,
            timeout=search_seconds,
            catch=(_BrokenOffError,),
        )
        fit_again(task, study, parts, deadline=began + seconds, log=log)
        return report_of(study)


class _BrokenOffError(Exception):
    """The trial has no figure to keep: the time was up, it failed, or it would repeat another."""


@dataclass
class _Objective:
    """Runs one trial after the other.

    Attributes:
        task: what is fitted, and what it is judged on.
        study: where the trials stand.
        deadline: when trials are broken off, by `time.monotonic()`.
        log: called with lines for people.
        failures: how many trials in a row have failed.
        repetitions: how many proposals in a row had been fitted before.
    """

    task: Task
    study: optuna.Study
    deadline: float
    log: Log
    failures: int = field(default=0)
    repetitions: int = field(default=0)

    def __call__(self, trial: optuna.Trial) -> float:
        overrides = {}
        for name, distribution in self.task.space.items():
            overrides[name] = _suggest(trial, name, distribution)
        self._refuse_repetition(trial)

        started = time.monotonic()
        try:
            value, iterations = fit_and_judge(self.task, overrides, self._watch_of(trial))
        except KeyboardInterrupt:
            put_in_line_again(self.study, trial)
            raise
        except optuna.TrialPruned:
            self._say(trial, f"stopped after {trial.user_attrs['iterations']} iterations")
            raise
        except TrainingError as error:
            self._failed(trial, error)
        finally:
            trial.set_user_attr("seconds", time.monotonic() - started)

        trial.set_user_attr("iterations", iterations)
        self.failures = 0
        self._say(trial, f"{self.task.metric} {value:.4f} in {iterations} iterations")
        return value

    def _refuse_repetition(self, trial: optuna.Trial) -> None:
        """Break the trial off if another one had the same settings, and end a search of such alone.

        Fits are seeded, so the same settings would give the same figure again.
        """
        if not fitted_before(self.study, trial):
            self.repetitions = 0
            return
        self.repetitions += 1
        if self.repetitions == _REPETITIONS_IN_A_ROW:
            self.log("nothing new is proposed any more")
            self.study.stop()
        raise _BrokenOffError

    def _watch_of(self, trial: optuna.Trial) -> AfterIteration:
        """Return what is called after each iteration of the trial.

        It breaks the trial off when the time is up, and stops it where others did better at a rung.
        """
        rung = first_rung(self.task.config, self.task.head)
        # The others are compared with the first trial, so that one is always run to its end.
        may_stop = not is_first(trial)

        def after(iteration: int, figure: Figure) -> None:
            """Break the trial off where the time is up, or stop it where others did better."""
            nonlocal rung
            if may_stop and time.monotonic() > self.deadline:
                put_in_line_again(self.study, trial)
                self._say(trial, "broken off, the time is up")
                raise _BrokenOffError
            if iteration < rung:
                return

            rung *= RUNG_FACTOR
            value = figure()
            if value is None:
                return
            trial.set_user_attr("iterations", iteration)
            trial.report(value, iteration)
            if trial.should_prune() and may_stop:
                raise optuna.TrialPruned

        return after

    def _failed(self, trial: optuna.Trial, error: TrainingError) -> NoReturn:
        """Break the trial off; end the search if the first trial or several in a row failed."""
        self.failures += 1
        self._say(trial, f"failed: {error}")
        if is_first(trial) or self.failures >= _FAILURES_IN_A_ROW:
            raise error
        raise _BrokenOffError from error

    def _say(self, trial: optuna.Trial, what: str) -> None:
        """Log a line on the trial, with the settings that it tried."""
        tried = []
        for name, value in trial.params.items():
            _, _, leaf = name.rpartition(".")
            tried.append(f"{leaf} {value:.4g}")

        settings = ", ".join(tried)
        self.log(f"trial {trial.number} ({settings}): {what}")


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> float:
    """Return the trial's value of a setting, drawn from `distribution`."""
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
