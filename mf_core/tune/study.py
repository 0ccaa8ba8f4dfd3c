"""A study: how it begins, what it tries next, and what it stops early."""

from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial
from sqlalchemy.engine import Engine

from mf_core.config import Config, settings
from mf_core.errors import ConfigError
from mf_core.tune.space import NEVER, Head
from mf_core.tune.storage import lock_studies
from mf_core.tune.task import Task
from mf_core.warehouse.engine import transaction

RUNG_FACTOR = 3
"""One of so many trials that reach a rung goes on, and the next rung is so many times as far."""

_RUNGS_BELOW_THE_END = 2


def open_study(
    task: Task, engine: Engine, storage: optuna.storages.RDBStorage, name: str
) -> optuna.Study:
    """Load or begin the study.

    Raises:
        ConfigError: it was begun on other rows or settings, or the schema is missing.
    """
    fingerprint = task.fingerprint()
    with transaction(engine) as connection:
        # One process at a time, so that only one of them queues the first trial.
        lock_studies(connection)
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            load_if_exists=True,
            direction="minimize" if task.head == "rating" else "maximize",
            sampler=TrialSeededSampler(task.config.train.seed),
            pruner=_pruner(task.config, task.head),
        )
        if not study.user_attrs:
            _begin(study, task, fingerprint)
    if study.user_attrs.get("task") != fingerprint:
        raise ConfigError(
            f"study {name!r} was begun on other training rows or with other fixed settings, so its "
            "figures can't be compared with tonight's. Name another one with --study, or none."
        )
    return study


def _begin(study: optuna.Study, task: Task, fingerprint: str) -> None:
    """Note what the study is about, and queue a trial of the present settings as the first one."""
    study.set_user_attr("metric", task.metric)
    study.set_user_attr("task", fingerprint)

    present = {setting.name: setting.default for setting in settings(task.config)}
    searched = {name: NEVER if present[name] is None else present[name] for name in task.space}
    study.enqueue_trial(searched)


def _pruner(config: Config, head: Head) -> optuna.pruners.BasePruner:
    """Return successive halving.

    At a ninth and at a third of the iterations, a third of the trials goes on. The burn-in does not
    count.
    """
    return optuna.pruners.SuccessiveHalvingPruner(
        min_resource=first_rung(config, head),
        reduction_factor=RUNG_FACTOR,
    )


def first_rung(config: Config, head: Head) -> int:
    """Return the iteration at which trials are first compared."""
    solver = config.solver_settings(head)
    limit = solver.iteration_limit()
    burn_in = solver.burn_in_iterations(limit)
    # Each rung divides what comes after the burn-in: first = burn_in + (limit - burn_in) / 3^2.
    after_burn_in = (limit - burn_in) // RUNG_FACTOR**_RUNGS_BELOW_THE_END
    return max(2, burn_in + after_burn_in)


class TrialSeededSampler(optuna.samplers.BaseSampler):
    """A tree-structured Parzen estimator whose draws depend on the seed and the trial's number.

    One generator for all trials would start again in every process. A study that is continued, or
    that two processes work on, would then try the same settings twice.
    """

    def __init__(self, seed: int) -> None:
        """`seed` is the study's."""
        self._seed = seed
        self._tpe = self._of(0)

    def _of(self, number: int) -> optuna.samplers.TPESampler:
        """Return the sampler of trial `number`."""
        sequence = np.random.SeedSequence([self._seed, number])
        [seed] = sequence.generate_state(1)
        return optuna.samplers.TPESampler(seed=int(seed))

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Begin the trial's own sequence of draws."""
        self._tpe = self._of(trial.number)
        self._tpe.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """As `BaseSampler` says."""
        return self._tpe.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As `BaseSampler` says."""
        return self._tpe.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """As `BaseSampler` says."""
        return self._tpe.sample_independent(study, trial, param_name, param_distribution)
