"""The search itself: trial after trial, each a real fit that others may stop early; then the best again, on other parts."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from sqlalchemy.engine import Engine

from mf_core.errors import TrainingError
from mf_core.tune.again import fit_again
from mf_core.tune.fit import AfterIteration, Figure, fit_and_judge
from mf_core.tune.study import (
    RUNG_FACTOR,
    TuneReport,
    first_rung,
    fitted_before,
    is_first,
    open_study,
    put_in_line_again,
    report_of,
    session,
)
from mf_core.tune.task import Task

Log = Callable[[str], None]

_FAILURES_IN_A_ROW = 3
_REPETITIONS_IN_A_ROW = 20
_HEARTBEAT_SECONDS = 15
_SEARCH_SHARE = 2 / 3


def tune(
    task: Task,
    engine: Engine,
    study_name: str,
    seconds: float,
    log: Log,
    max_trials: int | None = None,
    parts: int = 0,
    heartbeat_seconds: int = _HEARTBEAT_SECONDS,
) -> TuneReport:
    """Search for `seconds`, and return the study as it then stands.

    The first trial has the settings of the task as they are, and is run to its end whatever the time; later ones are broken off
    when the time is up, and put in line again.

    Args:
        task: what is fitted and judged on what.
        engine: the warehouse.
        study_name: a new name begins a study; a known one goes on with it.
        seconds: time budget of this process.
        log: called with lines for people.
        max_trials: fewer trials than the time allows; None: no limit.
        parts: on so many other validation parts the best trials and the first are fitted again, in what the search leaves of the
            time; it then takes two thirds of it at most.
        heartbeat_seconds: a trial without a sign of life for four times as long counts as killed, and is run again once.

    Raises:
        ConfigError: the study was begun on other rows or settings, or the schema is missing.
        TrainingError: several trials in a row failed.
        DatabaseError: Postgres broke off.
    """
    with session():
        study = open_study(task, engine, study_name, heartbeat_seconds)
        began, searching = time.monotonic(), seconds * (_SEARCH_SHARE if parts else 1.0)
        objective = _Objective(task, study, began + searching, log)
        study.optimize(objective, n_trials=max_trials, timeout=searching, catch=(_BrokenOffError,))
        fit_again(task, study, parts, began + seconds, log)
        return report_of(study)


class _BrokenOffError(Exception):
    """The trial has no figure to keep: the time was up, it failed, or it would repeat another."""


@dataclass
class _Objective:
    """Runs one trial after the other. `failures` and `repetitions` (settings fitted before) count those in a row."""

    task: Task
    study: optuna.Study
    deadline: float
    log: Log
    failures: int = field(default=0)
    repetitions: int = field(default=0)

    def __call__(self, trial: optuna.Trial) -> float:
        overrides = {
            name: _suggest(trial, name, distribution)
            for name, distribution in self.task.space.items()
        }
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
        """Break off what would give the figure of another trial again: fits are seeded. End a search that finds nothing else."""
        if not fitted_before(self.study, trial):
            self.repetitions = 0
            return
        self.repetitions += 1
        if self.repetitions == _REPETITIONS_IN_A_ROW:
            self.log("nothing new is proposed any more")
            self.study.stop()
        raise _BrokenOffError

    def _watch_of(self, trial: optuna.Trial) -> AfterIteration:
        """Return what breaks the trial off where the time is up, and stops it where others did better at a rung."""
        rung = first_rung(self.task.config, self.task.head)

        def after(iteration: int, figure: Figure) -> None:
            nonlocal rung
            if not is_first(trial) and time.monotonic() > self.deadline:
                put_in_line_again(self.study, trial)
                self._say(trial, "broken off, the time is up")
                raise _BrokenOffError
            if iteration < rung:
                return
            rung *= RUNG_FACTOR
            if (value := figure()) is None:
                return
            trial.set_user_attr("iterations", iteration)
            trial.report(value, iteration)
            if trial.should_prune() and not is_first(trial):
                raise optuna.TrialPruned

        return after

    def _failed(self, trial: optuna.Trial, error: TrainingError) -> None:
        self.failures += 1
        self._say(trial, f"failed: {error}")
        if is_first(trial) or self.failures >= _FAILURES_IN_A_ROW:
            raise error
        raise _BrokenOffError from error

    def _say(self, trial: optuna.Trial, what: str) -> None:
        tried = ", ".join(
            f"{name.rpartition('.')[2]} {value:.4g}" for name, value in trial.params.items()
        )
        self.log(f"trial {trial.number} ({tried}): {what}")


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> float:
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
