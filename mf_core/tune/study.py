"""Studies in the warehouse: Optuna's storage, sampler and pruner, and what there is to report of them."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, takewhile
from typing import Any, Literal

import numpy as np
import optuna
import sqlalchemy as sa
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import Engine

from mf_core.config import Config, settings
from mf_core.errors import ConfigError, DatabaseError, TrainingError
from mf_core.tune.space import Head
from mf_core.tune.task import Task
from mf_core.warehouse.engine import transaction, translated_errors

SCHEMA = "mf_tune"
RUNG_FACTOR = 3
"""Of so many trials that come to a rung one goes on, to so many times the iterations."""

_RUNGS_BELOW_THE_END = 2
_FINALISTS = 5
_GRACE = 4
_LOCK = 0x6D665F74756E65  # "mf_tune", for pg_advisory_xact_lock


@dataclass(frozen=True)
class TrialReport:
    """One trial.

    Attributes:
        number: its number; a trial that is run again has another one.
        state: complete, pruned, fail, running or waiting.
        value: its last figure, None where it had none.
        iterations, seconds: what it took.
        settings: what it tried, by name.
        as_begun: these are the settings that the study was begun with.
        again: its figures on other validation parts, those on which all of the best have one; empty if it isn't one of them.
    """

    number: int
    state: str
    value: float | None
    iterations: int | None
    seconds: float | None
    settings: dict[str, Any]
    as_begun: bool = False
    again: tuple[float, ...] = ()


@dataclass(frozen=True)
class TuneReport:
    """A study as it stands: finished trials best first, then the others; trial 0 has the settings that it was begun with."""

    study: str
    metric: str
    trials: list[TrialReport]
    lower_is_better: bool

    @property
    def finished(self) -> list[TrialReport]:
        """Return the trials that ran to their end, best first."""
        return [trial for trial in self.trials if trial.state == "complete"]

    @property
    def compared(self) -> list[TrialReport]:
        """Return the trials that were fitted again on other parts, the best mean first."""
        sign = 1.0 if self.lower_is_better else -1.0
        return sorted(
            (trial for trial in self.trials if trial.again),
            key=lambda trial: sign * np.mean(trial.again),
        )

    @property
    def best(self) -> TrialReport | None:
        """Return the best trial by the means on other parts, or by its own figure where there are none; None without a trial."""
        return next(iter(self.compared or self.finished), None)

    def gain(self, trial: TrialReport) -> tuple[float, float]:
        """Return the mean gain of `trial`, one of those compared, over the settings as begun, and its standard error.

        Gains are taken part by part, so that what a part does to all of them drops out. One part has no standard error: NaN.
        """
        (begun,) = (other for other in self.compared if other.as_begun)
        better = (np.array(begun.again) - trial.again) * (1.0 if self.lower_is_better else -1.0)
        error = better.std(ddof=1) / np.sqrt(len(better)) if len(better) > 1 else np.nan
        return float(better.mean()), float(error)

    def best_toml(self) -> str:
        """Return the best settings for the file named by MF_CONFIG; empty if no trial has finished."""
        sections: dict[str, list[str]] = {}
        for name, value in self.best.settings.items() if self.best else ():
            section, _, leaf = name.rpartition(".")
            sections.setdefault(section, []).append(f"{leaf} = {value!r}")
        return "\n\n".join(
            "\n".join([f"[{section}]", *lines]) for section, lines in sections.items()
        )


def show(engine: Engine, study_name: str) -> TuneReport:
    """Return a study as it stands. Raises ConfigError if there is none of that name, or DatabaseError."""
    with session():
        storage = _storage(engine, None)
        if study_name not in optuna.get_all_study_names(storage):
            raise ConfigError(f"there is no study {study_name!r}; `mf tune --show` lists them.")
        return report_of(optuna.load_study(study_name=study_name, storage=storage))


def studies(engine: Engine) -> list[dict[str, Any]]:
    """Return all studies: name, figure, number of trials, best value. Raises DatabaseError."""
    with session():
        storage = _storage(engine, None)
        reports = [
            report_of(optuna.load_study(study_name=s, storage=storage))
            for s in optuna.get_all_study_names(storage)
        ]
    return [
        {
            "study": r.study,
            "metric": r.metric,
            "trials": len(r.trials),
            "best": r.best.value if r.best else None,
        }
        for r in reports
    ]


def open_study(task: Task, engine: Engine, name: str, heartbeat_seconds: int) -> optuna.Study:
    """Load or begin the study; one process at a time, so that only one of them puts the first trial in line."""
    direction: Literal["minimize", "maximize"] = "minimize" if task.head == "rating" else "maximize"
    fingerprint = task.fingerprint()
    storage = _storage(engine, heartbeat_seconds)
    with transaction(engine) as connection:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            load_if_exists=True,
            direction=direction,
            sampler=TrialSeededSampler(task.config.train.seed),
            pruner=_pruner(task.config, task.head),
        )
        if not study.user_attrs:
            study.set_user_attr("metric", task.metric)
            study.set_user_attr("task", fingerprint)
            now = {setting.name: setting.default for setting in settings(task.config)}
            study.enqueue_trial({name: now[name] for name in task.space})
    if study.user_attrs.get("task") != fingerprint:
        raise ConfigError(
            f"study {name!r} was begun on other training rows or with other fixed settings, so its figures are not comparable "
            "with tonight's. Name another one with --study, or none."
        )
    return study


def _pruner(config: Config, head: Head) -> optuna.pruners.BasePruner:
    """Return successive halving: a third goes on at a third and at a ninth of the iterations, the burn-in not counted."""
    first = first_rung(config, head)
    return optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=RUNG_FACTOR)


def first_rung(config: Config, head: Head) -> int:
    """Return the iteration at which trials are compared first."""
    solver = config.solver_settings(head)
    limit = solver.iteration_limit()
    burn_in = solver.burn_in_iterations(limit)
    return max(2, burn_in + (limit - burn_in) // RUNG_FACTOR**_RUNGS_BELOW_THE_END)


class TrialSeededSampler(optuna.samplers.BaseSampler):
    """A tree-structured Parzen estimator whose draws depend on the seed and the trial's number.

    One generator for all trials would begin anew with every process: a study gone on with, and one that two processes work on,
    would try the same settings twice.
    """

    def __init__(self, seed: int) -> None:
        """`seed` is the study's."""
        self._seed = seed
        self._tpe = self._of(0)

    def _of(self, number: int) -> optuna.samplers.TPESampler:
        [seed] = np.random.SeedSequence([self._seed, number]).generate_state(1)
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


def is_first(trial: optuna.Trial | FrozenTrial) -> bool:
    """Say whether these are the settings that the study was begun with, which the others are compared with."""
    return 0 in (trial.number, trial.user_attrs.get("again_of"))


def fitted_before(study: optuna.Study, trial: optuna.Trial) -> bool:
    """Say whether another trial has had the same settings, to its end or until it was stopped."""
    others = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    return any(other.params == trial.params for other in others)


def put_in_line_again(study: optuna.Study, trial: optuna.Trial | FrozenTrial) -> None:
    """Have settings tried again whose trial did not end; once, lest what kills a process does so for ever."""
    if trial.params and "again_of" not in trial.user_attrs:
        study.enqueue_trial(dict(trial.params), user_attrs={"again_of": trial.number})


def _storage(engine: Engine, heartbeat_seconds: int | None) -> optuna.storages.RDBStorage:
    """Return Optuna's storage in the warehouse, its tables made where they are missing.

    Raises:
        ConfigError: the schema is missing.
    """
    with transaction(engine) as connection:
        if not connection.scalar(sa.select(sa.func.to_regnamespace(SCHEMA))):
            raise ConfigError(
                f"the warehouse has no schema {SCHEMA}; bring it up to date with `mf db migrate`."
            )
        # Two processes that make the tables at once would stumble over each other.
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        url = engine.url.update_query_dict({"options": f"-csearch_path={SCHEMA}"}).render_as_string(
            hide_password=False
        )
        with warnings.catch_warnings():
            # Signs of life are an experiment of Optuna's since 2021.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.storages.RDBStorage(
                url.replace("{", "{{").replace("}", "}}"),  # it fills a template
                heartbeat_interval=heartbeat_seconds,
                grace_period=heartbeat_seconds and _GRACE * heartbeat_seconds,
                heartbeat_stale_trial_callback=put_in_line_again,
            )


@contextmanager
def session() -> Iterator[None]:
    """Keep Optuna's own lines back, since what matters is said here, and turn its errors into ours."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    try:
        with translated_errors():
            yield
    except optuna.exceptions.StorageInternalError as error:
        raise DatabaseError(
            f"Postgres broke off in a study: {error.__cause__ or error}. Check MF_DATABASE_URL."
        ) from error
    except optuna.exceptions.UpdateFinishedTrialError as error:
        raise TrainingError(
            "this process gave no sign of life for so long that another one took its trial for killed. Start it again: the study "
            "goes on."
        ) from error
    finally:
        optuna.logging.set_verbosity(before)


def finalists(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trial with the settings as begun and the best others that ran to their end; none before that one has."""
    sign = 1.0 if study.direction == StudyDirection.MINIMIZE else -1.0
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    complete.sort(key=lambda trial: (not is_first(trial), sign * (trial.value or 0.0)))
    distinct: dict[tuple[Any, ...], FrozenTrial] = {}
    for trial in complete:
        distinct.setdefault(tuple(trial.params.values()), trial)
    return list(distinct.values())[: 1 + _FINALISTS] if complete and is_first(complete[0]) else []


def again_key(number: int, part: int) -> str:
    """Return under which name the study holds the figure of trial `number` on the validation part `part`."""
    return f"again_{number}_{part}"


def report_of(study: optuna.Study) -> TuneReport:
    """Return a study as it stands."""
    again = _figures_again(study)
    reports = [
        _trial_report(trial, again.get(trial.number, ()))
        for trial in study.get_trials(deepcopy=False)
    ]
    trials = sorted(reports, key=_standing(study.direction))
    return TuneReport(
        study.study_name,
        study.user_attrs.get("metric", ""),
        trials,
        study.direction == StudyDirection.MINIMIZE,
    )


def _figures_again(study: optuna.Study) -> dict[int, tuple[float, ...]]:
    """Return the finalists' figures on the first parts, as many as all of them have; by the trial's number."""
    known, numbers = study.user_attrs, [trial.number for trial in finalists(study)]
    parts = takewhile(
        lambda part: numbers and all(again_key(number, part) in known for number in numbers),
        count(1),
    )
    columns = [[known[again_key(number, part)] for number in numbers] for part in parts]
    return dict(zip(numbers, zip(*columns, strict=True), strict=False))


def _standing(direction: StudyDirection) -> Callable[[TrialReport], tuple[bool, bool, float]]:
    sign = -1.0 if direction == StudyDirection.MAXIMIZE else 1.0

    def standing(trial: TrialReport) -> tuple[bool, bool, float]:
        return trial.state != "complete", trial.value is None, sign * (trial.value or 0.0)

    return standing


def _trial_report(trial: FrozenTrial, again: tuple[float, ...]) -> TrialReport:
    value = trial.value
    if trial.state == TrialState.PRUNED and trial.last_step is not None:
        value = trial.intermediate_values[trial.last_step]
    attributes = trial.user_attrs
    return TrialReport(
        trial.number,
        trial.state.name.lower(),
        value,
        attributes.get("iterations"),
        attributes.get("seconds"),
        trial.params,
        is_first(trial),
        again,
    )
