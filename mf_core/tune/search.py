"""The search itself: trial after trial, each a real fit that others may stop early."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from sqlalchemy.engine import Engine

from mf_core.baselines import popularity
from mf_core.config import Config, make_config
from mf_core.errors import TrainingError
from mf_core.factors import FactorModel
from mf_core.metrics import list_quality
from mf_core.topn import with_popular_fallback
from mf_core.tune.study import RUNG_FACTOR, TuneReport, first_rung, is_first, open_study, put_in_line_again, report_of, session
from mf_core.tune.task import Task

if TYPE_CHECKING:
    from mf_core.solvers.iterate import Factors, IterationReport, Solver

Log = Callable[[str], None]

_FAILURES_IN_A_ROW = 3
_HEARTBEAT_SECONDS = 15


def tune(
    task: Task,
    engine: Engine,
    study_name: str,
    seconds: float,
    log: Log,
    max_trials: int | None = None,
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
        heartbeat_seconds: a trial without a sign of life for four times as long counts as killed, and is run again once.

    Raises:
        ConfigError: the study was begun on other rows or settings, or the schema is missing.
        TrainingError: several trials in a row failed.
        DatabaseError: Postgres broke off.
    """
    with session():
        study = open_study(task, engine, study_name, heartbeat_seconds)
        objective = _Objective(task, study, time.monotonic() + seconds, log)
        study.optimize(objective, n_trials=max_trials, timeout=seconds, catch=(_BrokenOffError,))
        return report_of(study)


class _BrokenOffError(Exception):
    """The trial has no figure to keep: the time was up, or it failed."""


@dataclass
class _Objective:
    """Runs one trial after the other. `failures` counts those in a row."""

    task: Task
    study: optuna.Study
    deadline: float
    log: Log
    failures: int = field(default=0)

    def __call__(self, trial: optuna.Trial) -> float:
        overrides = {name: _suggest(trial, name, distribution) for name, distribution in self.task.space.items()}
        # Kept samples are for standard deviations, which nobody asks for here.
        config, started = make_config({**overrides, "rating_head.bayes.kept_samples": 0}, self.task.config), time.monotonic()
        try:
            value = _Fit(self.task, config, trial, self._check_time).run()
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
        self.failures = 0
        self._say(trial, f"{self.task.metric} {value:.4f} in {trial.user_attrs['iterations']} iterations")
        return value

    def _check_time(self, trial: optuna.Trial) -> None:
        if not is_first(trial) and time.monotonic() > self.deadline:
            put_in_line_again(self.study, trial)
            self._say(trial, "broken off, the time is up")
            raise _BrokenOffError

    def _failed(self, trial: optuna.Trial, error: TrainingError) -> None:
        self.failures += 1
        self._say(trial, f"failed: {error}")
        if is_first(trial) or self.failures >= _FAILURES_IN_A_ROW:
            raise error
        raise _BrokenOffError from error

    def _say(self, trial: optuna.Trial, what: str) -> None:
        tried = ", ".join(f"{name.rpartition('.')[2]} {value:.4g}" for name, value in trial.params.items())
        self.log(f"trial {trial.number} ({tried}): {what}")


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> float:
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)


class _Fit:
    """The fit of one trial: `run` it to get its figure."""

    def __init__(self, task: Task, config: Config, trial: optuna.Trial, check_time: Callable[[optuna.Trial], None]) -> None:
        """`config` holds the trial's own settings; `check_time` is called after every iteration and may raise."""
        self._task, self._config, self._trial, self._check_time = task, config, trial, check_time
        self._next_rung = first_rung(task.config, task.head)
        self._best: float | None = None

    def run(self) -> float:
        """Fit to the end and return the figure on the validation part.

        Raises:
            TrialPruned: others did better at a rung.
            TrainingError: training failed, or gave no figure.
        """
        from mf_core.solvers.heads import fit_ranking_head, fit_rating_head

        task, ids = self._task, (self._task.rows.users, self._task.rows.items)
        value: float | None
        if task.head == "rating":
            fit = fit_rating_head(
                self._config,
                task.fitted,
                *ids,
                attributes=task.attributes,
                validation=task.validation,
                watch=self._after_iteration,
            )
            value = fit.validation_rmse
        else:
            fit = fit_ranking_head(self._config, task.fitted, *ids, watch=self._after_iteration)
            value = self._ndcg(fit.model)
        self._trial.set_user_attr("iterations", fit.iterations)
        if value is None:
            raise TrainingError("the fit ended without a figure; raise its number of iterations.")
        return value

    def _after_iteration(self, solver: "Solver", report: "IterationReport") -> None:
        self._check_time(self._trial)
        if report.validation_rmse is not None:
            averages = self._config.rating_head.solver == "bayes"
            self._best = report.validation_rmse if averages else min(report.validation_rmse, self._best or float("inf"))
        if report.iteration < self._next_rung:
            return
        self._next_rung *= RUNG_FACTOR
        value = self._best if self._task.head == "rating" else self._ndcg(self._model(solver.factors()))
        if value is None:
            return
        self._trial.set_user_attr("iterations", report.iteration)
        self._trial.report(value, report.iteration)
        if self._trial.should_prune() and not is_first(self._trial):
            raise optuna.TrialPruned

    def _model(self, factors: "Factors") -> FactorModel:
        return FactorModel(mean=factors.mean, users=self._task.rows.users, items=self._task.rows.items, **factors.arrays())

    def _ndcg(self, model: FactorModel) -> float:
        """Return the NDCG of the lists as the pipeline would make them, against the validation part."""
        task, config = self._task, self._config
        counts = popularity(task.fitted, len(model.items), config.data.relevant_from)
        ordering = with_popular_fallback(model, counts)
        quality = list_quality(
            ordering, task.fitted, task.validation, config.data.relevant_from, config.gate.cutoff, config.recommend.tile_mib
        )
        return float(quality.ndcg.sum() / quality.judged.sum())
